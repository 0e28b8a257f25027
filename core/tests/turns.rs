//! Turns, against a model that gives each member one operation after the other.

use wsforge_core::frame::Opcode;
use wsforge_core::hub::{Audience, Bundle, Hub, Plan, Turn, Variant};

#[test]
fn members_who_get_the_same_share_a_bundle() {
    let mut hub = Hub::new();
    let ids: Vec<_> = (0..4).map(|_| hub.join(Variant::Plain)).collect();
    for id in &ids[..2] {
        hub.subscribe(*id, "two").unwrap();
    }
    let mut turn = Turn::new();
    turn.push(Audience::All, Opcode::Text, b"a", None, None);
    turn.push(Audience::Group("two"), Opcode::Text, b"b", None, None);
    turn.push(Audience::Except(ids[3]), Opcode::Text, b"c", None, None);
    assert_eq!((turn.len(), turn.is_empty(), turn.is_full()), (9, false, false));
    let Plan { bundles, targets } = turn.plan(&hub);
    assert_eq!((turn.len(), turn.is_empty()), (0, true));
    assert_eq!(targets, [(ids[0], 0), (ids[1], 0), (ids[2], 1), (ids[3], 2)]);
    let bytes: Vec<_> = bundles.iter().map(|bundle| &bundle.bytes[..]).collect();
    assert_eq!(bytes, [&b"\x81\x01a\x81\x01b\x81\x01c"[..], b"\x81\x01a\x81\x01c", b"\x81\x01a"]);
    for Bundle { bytes, runs, frames } in &bundles {
        assert_eq!(runs.iter().flat_map(|run| run.bytes.to_vec()).collect::<Vec<_>>(), bytes[..]);
        assert_eq!((runs.len(), *frames), (bytes.len() / 3, bytes.len() / 3));
    }
}
