use core::fmt;
use core::num::NonZeroU16;

use crate::{Error, Text};

/// A status code that may stand in a Close frame, RFC 6455 section 7.4.
///
/// Codes that must never be sent (1004, 1005, 1006, 1015), unregistered ones below 3000 and all from
/// 5000 on have no value of this type.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(NonZeroU16);

impl CloseCode {
    /// The purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self::registered(1000);
    /// The server goes down, or the user leaves the page.
    pub const GOING_AWAY: Self = Self::registered(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self::registered(1002);
    /// The peer sent a kind of data that is not accepted.
    pub const UNSUPPORTED: Self = Self::registered(1003);
    /// The peer sent data that does not fit its type, such as a text that is not UTF-8.
    pub const INVALID_DATA: Self = Self::registered(1007);
    /// The peer broke a rule for which no other code fits.
    pub const POLICY: Self = Self::registered(1008);
    /// The peer sent a message that is too big.
    pub const TOO_BIG: Self = Self::registered(1009);
    /// The client needs an extension that the server did not agree to.
    pub const EXTENSION_MISSING: Self = Self::registered(1010);
    /// The endpoint met a condition that it did not expect.
    pub const INTERNAL: Self = Self::registered(1011);
    /// The server restarts.
    pub const RESTART: Self = Self::registered(1012);
    /// The server is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self::registered(1013);
    /// A gateway got no valid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self::registered(1014);

    /// The code `code`, or `None` if it must not stand in a Close frame.
    ///
    /// ```
    /// use wsforge_core::CloseCode;
    ///
    /// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
    /// assert!(CloseCode::new(4000).is_some());
    /// assert!(CloseCode::new(1006).is_none());
    /// ```
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            // RFC 6455 section 7.4.1; 1012 to 1014 were registered later.
            1000..=1003 | 1007..=1014 => Some(Self::registered(code)),
            // RFC 6455 section 7.4.2: libraries and applications, then private use.
            3000..=4999 => Some(Self::registered(code)),
            _ => None,
        }
    }

    /// The code's number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    const fn registered(code: u16) -> Self {
        match NonZeroU16::new(code) {
            Some(code) => Self(code),
            None => Self(NonZeroU16::MIN),
        }
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What a Close frame says, RFC 6455 section 5.5.1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseFrame<'buf> {
    /// Why the peer closes.
    pub code: CloseCode,
    /// What the peer adds for a log, often nothing; not meant to be shown to people.
    pub reason: Text<'buf>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A Close arrived: the closing handshake took place.
    Closed {
        /// The code of the peer's Close, if it had one.
        code: Option<CloseCode>,
        /// Who sent its Close first, as seen from here.
        initiator: Initiator,
    },
    /// The connection was failed, or the transport ended without a Close.
    Failed(Error),
}

impl Outcome {
    /// _The WebSocket Connection Close Code_ of RFC 6455 section 7.1.5: the code of the Close that
    /// arrived, 1005 if it had none, and 1006 if no Close arrived.
    pub const fn code(self) -> u16 {
        match self {
            Self::Closed { code: Some(code), .. } => code.get(),
            Self::Closed { code: None, .. } => 1005,
            Self::Failed(_) => 1006,
        }
    }

    /// Whether the closing handshake took place (_cleanly_, RFC 6455 section 7.1.4).
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

/// Who started the closing handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Initiator {
    /// This endpoint; also when both did at the same time.
    Local,
    /// The other one.
    Peer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_codes_may_be_sent() {
        let ranges = [1000..=1003, 1007..=1014, 3000..=4999];
        for code in 0..=u16::MAX {
            let allowed = ranges.iter().any(|range| range.contains(&code));
            assert_eq!(CloseCode::new(code).map(CloseCode::get), allowed.then_some(code));
        }
    }

    /// RFC 6455 section 7.4.1, and the registry for those above 1011.
    #[test]
    fn the_named_codes_have_their_numbers() {
        let named = [
            (CloseCode::NORMAL, 1000),
            (CloseCode::GOING_AWAY, 1001),
            (CloseCode::PROTOCOL, 1002),
            (CloseCode::UNSUPPORTED, 1003),
            (CloseCode::INVALID_DATA, 1007),
            (CloseCode::POLICY, 1008),
            (CloseCode::TOO_BIG, 1009),
            (CloseCode::EXTENSION_MISSING, 1010),
            (CloseCode::INTERNAL, 1011),
            (CloseCode::RESTART, 1012),
            (CloseCode::TRY_AGAIN_LATER, 1013),
            (CloseCode::BAD_GATEWAY, 1014),
        ];
        for (code, number) in named {
            assert_eq!((code.get(), CloseCode::new(number)), (number, Some(code)));
        }
    }

    #[test]
    fn an_outcome_has_the_code_of_section_7_1_5() {
        let closed = |code| Outcome::Closed { code, initiator: Initiator::Peer };
        assert_eq!(closed(Some(CloseCode::POLICY)).code(), 1008);
        assert_eq!(closed(None).code(), 1005);
        assert_eq!(Outcome::Failed(Error::BadOpcode).code(), 1006);
        assert!(closed(None).is_clean() && !Outcome::Failed(Error::BadOpcode).is_clean());
    }
}
