//! A head may arrive in any pieces: neither what is seen of it, nor what is answered, nor where its
//! limits are, depends on them.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use proptest::prelude::*;
use proptest::sample::Index;
use support::http::{
    self, NONCE, Served, Told, answer, answer_of, connect_in, request, request_of, serve, serve_in,
};
use support::{masked, plain};
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::{
    Accept, Connect, ConnectRequest, Limits, MAX_HEADERS, Opening, RequestError, Response,
    ResponseError,
};
use wsforge_core::{Config, Input, Output, ServerConnection, Timestamp};

/// Far more than linear work takes, and far less than quadratic work would.
const LINEAR: Duration = Duration::from_secs(20);

fn limits(max_head_len: usize) -> Limits {
    let mut limits = Limits::default();
    limits.max_head_len = max_head_len;
    limits
}

const CHAT: Response<'_> = Response { subprotocol: Some("chat"), headers: &[("X", b"y")] };

fn asking() -> ConnectRequest<'static> {
    let mut request = ConnectRequest::new("server.example.com", "/chat");
    request.subprotocols = &["chat", "superchat"];
    request.extensions = &["a; x=1", "b"];
    request
}

/// Every piece length from single bytes on, and every cut in two.
fn cuts(len: usize) -> impl Iterator<Item = [usize; 2]> {
    let lens = (1..20).map(|piece| [piece, piece]);
    lens.chain((1..len).map(move |at| [at, usize::MAX]))
}

fn fields(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("X{i}: y")).collect()
}

/// A handshake, or its answer, with exactly `count` headers.
fn with_headers(count: usize, base: fn(&str, &[&str]) -> Vec<u8>) -> Vec<u8> {
    let present = base("", &[]).windows(2).filter(|pair| pair == b"\r\n").count() - 2;
    let fields = fields(count - present);
    base("", &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_request_is_the_same_in_any_pieces() {
    let offer = ["Sec-WebSocket-Protocol: superchat, chat", "Sec-WebSocket-Extensions: a; x=1"];
    let good = request("", &offer);
    let frame = masked(Opcode::Text, true, b"\r\n\r\n");
    for (bytes, max_head_len) in [
        (good.clone(), 16 * 1024),
        ([&good[..], &frame].concat(), 16 * 1024),
        ([&good[..], &frame].concat(), good.len()),
        ([&good[..], &frame].concat(), good.len() - 1),
        ([b"\r\n", &good[..], &good].concat(), 16 * 1024),
        (good[..good.len() - 1].to_vec(), 16 * 1024),
        (request("", &[]), 16 * 1024),
        (request("Upgrade", &[]), 16 * 1024),
        (request("Sec-WebSocket-Key", &["Sec-WebSocket-Key: a"]), 16 * 1024),
        (request("", &["X: a\nY: b"]), 16 * 1024),
        (request("", &["X Y: a"]), 16 * 1024),
        (request("GET", &["GET / HTTP/1.0"]), 16 * 1024),
        (with_headers(MAX_HEADERS + 1, request), 16 * 1024),
        (request("Host", &[]), 100),
        (b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), 16 * 1024),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 0),
    ] {
        let whole = serve_in(&bytes, &[usize::MAX], limits(max_head_len), &CHAT);
        for cut in cuts(bytes.len()) {
            let served = serve_in(&bytes, &cut, limits(max_head_len), &CHAT);
            assert_eq!(served, whole, "{} in {cut:?}", bytes.escape_ascii());
        }
    }
    // What is compared are requests of all outcomes.
    let result = |bytes: &[u8], len| serve_in(bytes, &[1], limits(len), &CHAT).result;
    assert_eq!(result(&good, good.len()), Some(Ok(())));
    assert_eq!(result(&good, good.len() - 1), Some(Err(RequestError::HeadTooLong)));
    assert_eq!(result(&good[..good.len() - 1], good.len()), None);
}

#[test]
fn an_answer_is_the_same_in_any_pieces() {
    let picked = ["Sec-WebSocket-Protocol: superchat", "Sec-WebSocket-Extensions: b, a;x=\"2\""];
    let good = answer("", &picked);
    let frame = plain(Opcode::Text, true, b"\r\n\r\n");
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100\r\n\r\n";
    for (bytes, max_head_len) in [
        ([&good[..], &frame].concat(), 16 * 1024),
        ([&interim[..], &good, &frame].concat(), good.len()),
        ([&interim[..], &good, &frame].concat(), good.len() - 1),
        ([&interim[..], b"HTTP/1.1 404 Not Found\r\nX: y\r\n\r\n"].concat(), 50),
        (interim.to_vec(), 16 * 1024),
        (good[..good.len() - 1].to_vec(), 16 * 1024),
        (answer("Upgrade", &[]), 16 * 1024),
        (answer("", &["X: a\nY: b"]), 16 * 1024),
        (answer("", &["X Y: a"]), 16 * 1024),
        (with_headers(MAX_HEADERS + 1, answer), 16 * 1024),
        (b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), 16 * 1024),
    ] {
        let whole = connect_in(&asking(), &bytes, &[usize::MAX], limits(max_head_len));
        for cut in cuts(bytes.len()) {
            let connected = connect_in(&asking(), &bytes, &cut, limits(max_head_len));
            assert_eq!(connected, whole, "{} in {cut:?}", bytes.escape_ascii());
        }
    }
    let told =
        connect_in(&asking(), &[interim, &good[..]].concat(), &[1], Limits::default()).told();
    let Told::Accepted { subprotocol, extensions, .. } = told else { panic!("{told:?}") };
    assert_eq!(subprotocol.as_deref(), Some("superchat"));
    assert_eq!(extensions, ["b", "a;x=2"]);
}

#[test]
fn a_head_may_be_as_long_as_its_limit() {
    for limit in [Limits::default(), limits(300), limits(5000)] {
        for cut in [[1, 1], [100, 100], [usize::MAX; 2], [limit.max_head_len, 1]] {
            let len = limit.max_head_len;
            let serve = |len| serve_in(&request_of(len), &cut, limit, &Response::default()).result;
            assert_eq!(serve(len), Some(Ok(())), "{len} in {cut:?}");
            assert_eq!(serve(len + 1), Some(Err(RequestError::HeadTooLong)), "{len} in {cut:?}");

            let connect = |len| connect_in(&asking(), &answer_of(len), &cut, limit);
            assert!(matches!(connect(len).told(), Told::Accepted { .. }), "{len} in {cut:?}");
            assert_eq!(connect(len + 1).error(), ResponseError::HeadTooLong, "{len} in {cut:?}");
        }
    }
    assert_eq!(Limits::default().max_head_len, 16 * 1024);
}

#[test]
fn a_head_has_up_to_100_headers() {
    assert_eq!(MAX_HEADERS, 100);
    let most = serve(&with_headers(100, request));
    assert_eq!(most.asked.map(|asked| asked.headers.len()), Some(100));
    assert_eq!(most.result, Some(Ok(())));
    assert_eq!(serve(&with_headers(101, request)).error(), RequestError::TooManyHeaders);
    let connect = |count| {
        let bytes = with_headers(count, answer);
        connect_in(&asking(), &bytes, &[usize::MAX], Limits::default())
    };
    let told = connect(100).told();
    assert!(matches!(told, Told::Accepted { headers, .. } if headers.len() == 100));
    assert_eq!(connect(101).error(), ResponseError::TooManyHeaders);
}

/// No header is overlooked because others stand before it: there is an answer that says so.
#[test]
fn too_many_headers_are_no_missing_upgrade() {
    let many = "a:b\r\n".repeat(2000);
    let bytes = request("Upgrade", &[&(many + "Upgrade: websocket")]);
    let error = serve(&bytes).error();
    assert_eq!((error, error.status()), (RequestError::TooManyHeaders, 431));
}

/// The endless heads of an attacker: one header, or very many.
fn endless(start: &str) -> [Vec<u8>; 2] {
    let long = format!("{start}\r\nX: {}", "x".repeat(10 << 20));
    let many = format!("{start}\r\n{}", "a:b\r\n".repeat(2 << 20));
    [long.into_bytes(), many.into_bytes()]
}

#[test]
fn an_endless_request_is_refused_at_the_limit_and_no_more_of_it_is_kept() {
    for mut bytes in endless("GET / HTTP/1.1") {
        let (mut accept, mut output) = (Accept::default(), Output::with_capacity(1024));
        let mut pieces = bytes.chunks_mut(100).enumerate();
        let mut refused = None;
        let kept = measure(|| {
            refused = pieces.by_ref().find_map(|(at, piece)| {
                let mut input = Input::new(piece, Timestamp::ZERO);
                match accept.receive(&mut input, &mut output) {
                    Opening::More => None,
                    Opening::Refused(error) => Some((at, error)),
                    Opening::Request(_) => panic!("there is no end"),
                }
            });
        });
        // The piece with the byte behind the limit.
        assert_eq!(refused, Some((16 * 1024 / 100, RequestError::HeadTooLong)));
        assert!(http::taken(&mut output).starts_with(b"HTTP/1.1 431 "));
        assert!((8 * 1024..=16 * 1024).contains(&kept.bytes_current), "{kept:?}");
        assert!(kept.bytes_max <= 32 * 1024, "{kept:?}");

        // What the peer still sends costs nothing.
        drop(accept);
        let mut conn = ServerConnection::refused(Arc::new(Config::default()), Timestamp::ZERO);
        let dropped = measure(|| {
            for (_, piece) in pieces {
                let mut input = Input::new(piece, Timestamp::ZERO);
                assert!(conn.next_event(&mut input, &mut output).is_none());
            }
        });
        assert_eq!(dropped.count_total, 0, "{dropped:?}");
        assert!(output.is_empty());
    }
}

#[test]
fn an_endless_answer_is_refused_at_the_limit_and_no_more_of_it_is_kept() {
    for mut bytes in endless("HTTP/1.1 101 Switching Protocols") {
        let limits = Limits::default();
        let connect = Connect::start(&asking(), NONCE, limits, &mut Output::new());
        let (mut connect, mut refused) = (connect.unwrap(), None);
        let kept = measure(|| {
            refused = bytes.chunks_mut(100).enumerate().find_map(|(at, piece)| {
                match connect.receive(&mut Input::new(piece, Timestamp::ZERO)) {
                    Ok(None) => None,
                    Ok(Some(answer)) => panic!("{answer:?}"),
                    Err(error) => Some((at, error)),
                }
            });
        });
        assert_eq!(refused, Some((16 * 1024 / 100, ResponseError::HeadTooLong)));
        assert!((8 * 1024..=16 * 1024).contains(&kept.bytes_current), "{kept:?}");
        assert!(kept.bytes_max <= 32 * 1024, "{kept:?}");
    }
}

/// RFC 9110 section 15.2: any number of interim answers may come, and none of them is kept.
#[test]
fn endless_interim_answers_take_no_memory() {
    let limits = Limits::default();
    let mut connect = Connect::start(&asking(), NONCE, limits, &mut Output::new()).unwrap();
    let mut bytes = b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n".repeat(100_000);
    let kept = measure(|| {
        for piece in bytes.chunks_mut(1000) {
            let answer = connect.receive(&mut Input::new(piece, Timestamp::ZERO));
            assert!(matches!(answer, Ok(None)), "{answer:?}");
        }
    });
    assert!(kept.bytes_max <= 4 * 1024, "{kept:?}");
}

#[test]
fn the_work_is_linear_in_pieces_however_small() {
    let (len, start) = (1 << 20, Instant::now());
    let served = serve_in(&request_of(len), &[1], limits(len), &Response::default());
    assert_eq!(served.result, Some(Ok(())));
    let connected = connect_in(&asking(), &answer_of(len), &[1], limits(len));
    assert!(matches!(connected.told(), Told::Accepted { .. }));
    assert!(start.elapsed() < LINEAR, "{:?}", start.elapsed());
}

#[test]
fn the_work_is_linear_in_lists_however_odd() {
    let len = 1 << 20;
    let start = Instant::now();
    let bad_list = |error| Some(Err(error));
    for (flood, protocols, extensions) in [
        (",".repeat(len), Some(Ok(())), Some(Ok(()))),
        (" ,\t".repeat(len / 2), Some(Ok(())), Some(Ok(()))),
        ("a,".repeat(len / 2), Some(Ok(())), Some(Ok(()))),
        (
            format!("b{}x", " ".repeat(len)),
            bad_list(RequestError::BadSubprotocols),
            bad_list(RequestError::BadExtensions),
        ),
        (
            format!("b{}", ";c=d".repeat(len / 4)),
            bad_list(RequestError::BadSubprotocols),
            Some(Ok(())),
        ),
    ] {
        for (name, result) in [
            ("Sec-WebSocket-Protocol", protocols),
            ("Sec-WebSocket-Extensions", extensions),
            ("Connection", Some(Ok(()))),
            ("Upgrade", Some(Ok(()))),
        ] {
            let bytes = request("", &[&format!("{name}: {flood}")]);
            let response = Response::default();
            let served = serve_in(&bytes, &[usize::MAX], limits(bytes.len()), &response);
            assert_eq!(served.result, result, "{name}: {}", &flood[..10]);
        }
    }
    assert!(start.elapsed() < LINEAR, "{:?}", start.elapsed());
}

/// A change to a head.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u32),
    Insert(Index, &'static [u8]),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let odd: Vec<&[u8]> = vec![
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b",",
        b";",
        b":",
        b"=",
        b"\"",
        b"\x80",
        b"\xFF",
        b"\r\n ",
        b"\r\n\r\n",
        b"Host: a\r\n",
        b"Content-Length: 1\r\n",
        b"#",
        b"/",
        b"://",
        b"?",
        b"Transfer-Encoding: chunked\r\n",
        b"Sec-WebSocket-Protocol: ,\r\n",
        b"HTTP/1.1 100\r\n\r\n",
    ];
    prop_oneof![
        (any::<Index>(), 0..8u32).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), prop::sample::select(odd)).prop_map(|(at, odd)| Change::Insert(at, odd)),
        (any::<Index>(), 1..40usize).prop_map(|(at, len)| Change::Remove(at, len)),
        (any::<Index>(), 1..80usize).prop_map(|(at, len)| Change::Repeat(at, len)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            _ if bytes.is_empty() => {}
            Change::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Change::Insert(at, odd) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, odd.iter().copied());
            }
            Change::Remove(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Change::Repeat(at, len) => {
                let at = at.index(bytes.len());
                let again = bytes[at..(at + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(1..60usize, 1..20)]
}

fn max_head_len() -> impl Strategy<Value = usize> {
    prop_oneof![Just(16 * 1024), 0..400usize]
}

/// What must hold for any bytes at all.
fn check_request(bytes: &[u8], lens: &[usize], max_head_len: usize) -> Result<(), TestCaseError> {
    let whole = serve_in(bytes, &[usize::MAX], limits(max_head_len), &CHAT);
    prop_assert_eq!(&serve_in(bytes, lens, limits(max_head_len), &CHAT), &whole);
    let Served { asked, result, answer, behind } = whole;
    let status = match result {
        None => {
            prop_assert!(answer.is_empty() && bytes.len() <= max_head_len);
            return Ok(());
        }
        Some(Ok(())) => 101,
        Some(Err(error)) => error.status(),
    };
    let line = format!("HTTP/1.1 {status} ");
    prop_assert!(answer.starts_with(line.as_bytes()));
    prop_assert!(status != 101 || asked.is_some() && bytes.ends_with(&behind));
    Ok(())
}

fn check_answer(bytes: &[u8], lens: &[usize], max_head_len: usize) -> Result<(), TestCaseError> {
    let whole = connect_in(&asking(), bytes, &[usize::MAX], limits(max_head_len));
    let pieces = connect_in(&asking(), bytes, lens, limits(max_head_len));
    prop_assert_eq!(&pieces.result, &whole.result);
    prop_assert_eq!(&pieces.behind, &whole.behind);
    // How much of a body is there depends on what has arrived.
    prop_assert!(whole.body.len() <= max_head_len && whole.body.starts_with(&pieces.body));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_upset_a_handshake(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        http in any::<bool>(),
        lens in lens(),
        max_head_len in max_head_len(),
    ) {
        let after = |line: &str| if http { [line.as_bytes(), &bytes].concat() } else { bytes.clone() };
        check_request(&after("GET / HTTP/1.1\r\n"), &lens, max_head_len)?;
        check_answer(&after("HTTP/1.1 101 \r\n"), &lens, max_head_len)?;
    }

    #[test]
    fn a_broken_request_is_broken_in_any_pieces(
        changes in prop::collection::vec(change(), 0..5),
        lens in lens(),
        max_head_len in max_head_len(),
    ) {
        let offer = ["Sec-WebSocket-Protocol: a, chat", "Sec-WebSocket-Extensions: a; x=\"1\", b"];
        let bytes = [request("", &offer), masked(Opcode::Text, true, b"\r\n\r\n")].concat();
        check_request(&changed(bytes, &changes), &lens, max_head_len)?;
    }

    #[test]
    fn a_broken_answer_is_broken_in_any_pieces(
        changes in prop::collection::vec(change(), 0..5),
        refused in any::<bool>(),
        lens in lens(),
        max_head_len in max_head_len(),
    ) {
        let picked = ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: a; x=\"2\""];
        let bytes = if refused {
            b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 404 Not Found\r\nX: y\r\n\r\nthe body\r\n\r\n".to_vec()
        } else {
            [answer("", &picked), plain(Opcode::Text, true, b"\r\n\r\n")].concat()
        };
        check_answer(&changed(bytes, &changes), &lens, max_head_len)?;
    }
}
