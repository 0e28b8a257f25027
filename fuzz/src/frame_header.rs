use wsforge_core::frame::{Header, MAX_CONTROL_LEN, MAX_HEADER_LEN};

/// What is parsed is encoded to the same bytes, in the shortest form; what is cut off is missed.
pub fn frame_header(data: &[u8]) {
    let parsed = Header::parse(data);
    let Ok(Some((header, len))) = parsed else {
        // An error stands, whatever follows.
        for end in 0..data.len().min(MAX_HEADER_LEN) {
            let front = Header::parse(&data[..end]);
            assert!(front == Ok(None) || front == parsed, "{front:?}, then {parsed:?}");
        }
        assert!(parsed != Ok(None) || data.len() < MAX_HEADER_LEN);
        return;
    };
    assert!(header.encoded_len() <= len && len <= data.len().min(MAX_HEADER_LEN));
    assert!(header.len >> 63 == 0);
    if header.opcode.is_control() {
        assert!(header.fin && header.len <= MAX_CONTROL_LEN as u64);
    }
    for end in 0..len {
        assert_eq!(Header::parse(&data[..end]), Ok(None), "{end}");
    }
    assert_eq!(Header::parse(&data[..len]), parsed);

    let mut bytes = [0xEE; MAX_HEADER_LEN];
    let encoded = header.encode(&mut bytes);
    assert_eq!(encoded, header.encoded_len());
    assert_eq!(Header::parse(&bytes[..encoded]), Ok(Some((header, encoded))));
    if encoded == len {
        assert_eq!(bytes[..len], data[..len]);
    }
}
