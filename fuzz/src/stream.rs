use wsforge_core::{Config, Delivery};

use crate::Source;

/// Characters of every length, to be cut anywhere.
const TEXT: &str = "añ✓𝄞é漢字 and plain ASCII 𝄞\u{7FF}\u{800}\u{FFFF}\u{10FFFF}";

/// The first byte of a frame, by the low half of a part's first byte. `None` is any byte.
const FIRST: [Option<u8>; 16] = [
    Some(0x81),
    Some(0x82),
    Some(0x01),
    Some(0x02),
    Some(0x00),
    Some(0x80),
    Some(0x00),
    Some(0x80),
    Some(0x89),
    Some(0x8A),
    Some(0x88),
    Some(0x88),
    Some(0x81),
    Some(0x82),
    None,
    None,
];

/// Codes of a Close at the edges of what is allowed, RFC 6455 section 7.4.
const CODES: [u16; 16] =
    [1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 0];

/// What to accept of a stream, by the three lowest bits of `flags`: long lengths, chunks, and limits that
/// a few parts reach.
pub(crate) fn limited(flags: u8) -> Config {
    let is = |bit: u8| flags >> bit & 1 != 0;
    let mut config = Config::default();
    config.accept_long_lengths = is(0);
    config.delivery = if is(1) { Delivery::Chunks } else { Delivery::Messages };
    if is(2) {
        config.max_frame_len = 300;
        config.max_message_len = 350;
        config.max_fragments = 5;
    }
    config
}

/// Appends what a peer sends: a frame, most often a legal one, as random bytes hardly ever are.
///
/// A part is a byte whose low half picks the frame's first byte, a byte of twists, a masking key if
/// the peer is a client, and a length with so many bytes behind it.
pub(crate) fn part(source: &mut Source<'_>, masked: bool, to: &mut Vec<u8>) {
    let (pick, twist) = (source.u8(), source.u8());
    let first = FIRST[usize::from(pick % 16)].unwrap_or_else(|| source.u8());
    let masked = masked != (twist >> 4 == 15);
    let key = if masked { source.key() } else { [0; 4] };
    let mut payload = match source.u8() {
        // Long ones are repeated, as the fuzzer's bytes are few. Few need a 64-bit length, as they are slow.
        255 => {
            let len = match usize::from(source.u16()) {
                len @ 0xFF00.. => len + 300,
                len => len % 2048,
            };
            let seed = source.bytes(8);
            seed.iter().copied().cycle().take(if seed.is_empty() { 0 } else { len }).collect()
        }
        len => source.bytes(usize::from(len)).to_vec(),
    };
    match twist % 16 {
        8..=11 => payload.iter_mut().for_each(|byte| *byte &= 0x7F),
        12..=15 => {
            let text = TEXT.bytes().cycle().skip(usize::from(pick >> 4));
            payload.iter_mut().zip(text).for_each(|(byte, text)| *byte = text);
        }
        _ => {}
    }
    if pick % 16 == 11 {
        let code = CODES[usize::from(pick >> 4)];
        payload.splice(..0, code.to_be_bytes());
        payload.truncate(125);
    }
    let len = payload.len();
    to.push(first);
    let bit = u8::from(masked) << 7;
    match (len, twist % 16) {
        (0..=125, 0 | 3..) => to.push(bit | len as u8),
        (..=0xFFFF, 0 | 2..) => {
            to.push(bit | 126);
            to.extend((len as u16).to_be_bytes());
        }
        _ => {
            to.push(bit | 127);
            to.extend((len as u64).to_be_bytes());
        }
    }
    if masked {
        to.extend(key);
    }
    // Cut short, so that what follows is taken for its end.
    let len = if twist >> 4 == 14 { len / 2 } else { len };
    to.extend(payload[..len].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}
