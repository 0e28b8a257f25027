use wsforge_core::handshake::{
    Accept, Answer, Connect, ConnectRequest, Limits, Opening, RequestError, Response, ResponseError,
};
use wsforge_core::{Config, Input, Output, Timestamp};

use crate::Source;

/// The key of every [`handshake_client`], so that seeds can have the answer to it.
const KEY: [u8; 16] = *b"the sample nonce";

type Headers = Vec<(String, Vec<u8>)>;

/// However a request is cut, it reads the same and gets the same answer, which is well-formed; and its
/// headers are those that httparse sees.
pub fn handshake_server(data: &[u8]) {
    let mut source = Source::new(data);
    let (cut, limits) = (usize::from(source.u8()).max(1), limits(&mut source));
    let bytes = source.rest();
    let whole = serve(bytes, bytes.len().max(1), limits);
    assert_eq!(whole, serve(bytes, cut, limits));
    if let Served::Request { headers, behind, .. } = &whole {
        let mut slots = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut slots);
        let head = &bytes[..bytes.len() - behind.len()];
        assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())));
        let known = request.headers.iter();
        let known = known.map(|header| (header.name.into(), header.value.trim_ascii().into()));
        assert_eq!(headers, &known.collect::<Headers>());
    }
}

/// However an answer is cut, it reads the same.
pub fn handshake_client(data: &[u8]) {
    let mut source = Source::new(data);
    let (cut, limits) = (usize::from(source.u8()).max(1), limits(&mut source));
    let bytes = source.rest();
    let (whole, mut pieces) =
        (connect(bytes, bytes.len().max(1), limits), connect(bytes, cut, limits));
    // Of a body, only what came with the end of the head is shown.
    if let (Ok(Some(Told::Refused { body, .. })), Ok(Some(Told::Refused { body: part, .. }))) =
        (&whole, &mut pieces)
    {
        assert!(body.starts_with(part));
        part.clone_from(body);
    }
    assert_eq!(whole, pieces);
}

fn limits(source: &mut Source<'_>) -> Limits {
    let mut limits = Limits::default();
    if let len @ 1.. = source.u8() {
        limits.max_head_len = usize::from(len) * 4;
    }
    limits
}

/// What a server saw and said.
#[derive(Debug, PartialEq)]
enum Served {
    More,
    Refused(RequestError, Vec<u8>),
    Request {
        method: String,
        host: String,
        path: String,
        query: Option<String>,
        headers: Headers,
        subprotocols: Vec<String>,
        extensions: Vec<String>,
        accepted: Result<(), RequestError>,
        answer: Vec<u8>,
        behind: Vec<u8>,
    },
}

fn serve(bytes: &[u8], cut: usize, limits: Limits) -> Served {
    let (mut accept, mut output) = (Accept::new(limits), Output::new());
    let mut copy = bytes.to_vec();
    let mut read = 0;
    for piece in copy.chunks_mut(cut) {
        read += piece.len();
        let mut input = Input::new(piece, Timestamp::ZERO);
        match accept.receive(&mut input, &mut output) {
            Opening::More => {
                assert!(input.is_empty() && output.is_empty() && read <= limits.max_head_len);
            }
            Opening::Refused(error) => {
                let answer = written(&output);
                assert_eq!(status(&answer), error.status());
                return Served::Refused(error, answer);
            }
            Opening::Request(request) => {
                assert!(output.is_empty());
                let behind = bytes[read - input.len()..].to_vec();
                assert!(bytes.len() - behind.len() <= limits.max_head_len);
                let upgrade = request.upgrade();
                let subprotocol = request.subprotocols().next();
                let response = Response { subprotocol, headers: &[("X-A", b"b")] };
                let config = Config::default();
                let accepted = request.accept(&response, config.into(), &mut output).map(drop);
                assert_eq!(upgrade.as_ref().err(), accepted.as_ref().err());
                let answer = written(&output);
                assert_eq!(status(&answer), accepted.err().map_or(101, RequestError::status));
                return Served::Request {
                    method: request.method().into(),
                    host: request.host().into(),
                    path: request.path().into(),
                    query: request.query().map(String::from),
                    headers: request.headers().map(|(n, v)| (n.into(), v.into())).collect(),
                    subprotocols: request.subprotocols().map(String::from).collect(),
                    extensions: request.extensions().map(|e| format!("{e:?}")).collect(),
                    accepted,
                    answer,
                    behind,
                };
            }
        }
    }
    Served::More
}

fn written(output: &Output) -> Vec<u8> {
    output.slices().flatten().copied().collect()
}

/// The status of an answer, which must be well-formed and as long as it says.
fn status(answer: &[u8]) -> u16 {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(head)) = response.parse(answer) else {
        panic!("malformed: {}", answer.escape_ascii());
    };
    let length = response.headers.iter().find(|header| header.name == "Content-Length");
    let length = length.map_or("0", |header| str::from_utf8(header.value).expect("a number"));
    let body = answer.len() - head;
    // The answer to HEAD has the length of a body, but none.
    assert!(body == 0 || length.parse() == Ok(body));
    response.code.expect("parsed")
}

/// What a client saw.
#[derive(Debug, PartialEq)]
enum Told {
    Accepted {
        subprotocol: Option<String>,
        extensions: Vec<String>,
        headers: Headers,
        behind: Vec<u8>,
    },
    Refused {
        status: u16,
        reason: String,
        headers: Headers,
        body: Vec<u8>,
    },
}

fn connect(bytes: &[u8], cut: usize, limits: Limits) -> Result<Option<Told>, ResponseError> {
    let mut request = ConnectRequest::new("server.example.com", "/chat");
    request.subprotocols = &["chat", "superchat"];
    request.extensions = &["a; x=1", "b"];
    let mut output = Output::new();
    let mut connect = Connect::start(&request, KEY, limits, &mut output).expect("valid");
    let mut copy = bytes.to_vec();
    let mut read = 0;
    for piece in copy.chunks_mut(cut) {
        read += piece.len();
        let mut input = Input::new(piece, Timestamp::ZERO);
        let told = match connect.receive(&mut input)? {
            None => {
                assert!(input.is_empty());
                continue;
            }
            Some(Answer::Accepted(accepted)) => Told::Accepted {
                subprotocol: accepted.subprotocol().map(String::from),
                extensions: accepted.extensions().map(|e| format!("{e:?}")).collect(),
                headers: accepted.headers().map(|(n, v)| (n.into(), v.into())).collect(),
                behind: bytes[read - input.len()..].to_vec(),
            },
            Some(Answer::Refused(refused)) => {
                assert!(refused.status() >= 200);
                assert!(refused.body().len() <= limits.max_head_len);
                Told::Refused {
                    status: refused.status(),
                    reason: refused.reason().into(),
                    headers: refused.headers().map(|(n, v)| (n.into(), v.into())).collect(),
                    body: refused.body().to_vec(),
                }
            }
        };
        return Ok(Some(told));
    }
    Ok(None)
}
