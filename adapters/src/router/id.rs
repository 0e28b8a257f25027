//! What connections are called.

use wsforge_core::hub::MemberId;

/// What a connection is called: `conn_` and a number, which no other connection of the server ever has.
///
/// It is made when somebody asks for it.
pub type ConnectionId = String;

/// What names a connection: its id as text, its [`MemberId`], or the
/// [`Connection`](super::Connection) itself.
pub trait ConnectionRef {
    /// The connection that is named; `None` if that is no id at all.
    fn member_id(&self) -> Option<MemberId>;
}

const PREFIX: &str = "conn_";

/// The text of an id.
///
/// Its number is small while few connections have been there, and tells where to look: it stands for the
/// member's place and for how many came before, one square after the other around them.
pub(crate) fn text(id: MemberId) -> ConnectionId {
    let bits = id.to_bits();
    let (came, place) = (bits >> 32, bits & u64::from(u32::MAX));
    let number = if came > place { came * came + place } else { place * place + place + came };
    format!("{PREFIX}{number}")
}

fn parse(text: &str) -> Option<MemberId> {
    let digits = text.strip_prefix(PREFIX)?;
    // One text for each number.
    if !digits.bytes().all(|digit| digit.is_ascii_digit())
        || digits.len() > 1 && digits.starts_with('0')
    {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let side = number.isqrt();
    let rest = number - side * side;
    let (came, place) = if rest < side { (side, rest) } else { (rest - side, side) };
    Some(MemberId::from_bits(came << 32 | place))
}

impl ConnectionRef for str {
    fn member_id(&self) -> Option<MemberId> {
        parse(self)
    }
}

impl ConnectionRef for String {
    fn member_id(&self) -> Option<MemberId> {
        parse(self)
    }
}

impl ConnectionRef for MemberId {
    fn member_id(&self) -> Option<MemberId> {
        Some(*self)
    }
}

impl<T: ConnectionRef + ?Sized> ConnectionRef for &T {
    fn member_id(&self) -> Option<MemberId> {
        (**self).member_id()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_ids_are_short() {
        let id = |came: u64, place: u64| text(MemberId::from_bits(came << 32 | place));
        assert_eq!([id(1, 0), id(2, 1), id(3, 2)], ["conn_1", "conn_5", "conn_11"]);
        assert_eq!(id(1000, 3), "conn_1000003");
    }

    #[test]
    fn what_is_no_id_names_nobody() {
        for text in [
            "",
            "conn_",
            "conn_01",
            "conn_+1",
            "conn_1 ",
            "Conn_1",
            "1",
            "conn_18446744073709551616",
        ] {
            assert_eq!(text.member_id(), None, "{text}");
        }
        assert!("conn_18446744073709551615".member_id().is_some());
    }

    proptest! {
        #[test]
        fn an_id_is_parsed_back(bits: u64, small in 0..1_000_u64) {
            for bits in [bits, small << 32 | bits & 0xFF, u64::MAX, u64::MAX << 32, u64::from(u32::MAX)] {
                let id = MemberId::from_bits(bits);
                prop_assert_eq!(text(id).member_id(), Some(id));
                prop_assert_eq!(text(id).member_id(), Some(id));
            }
        }
    }
}
