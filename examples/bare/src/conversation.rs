use alloc::sync::Arc;
use alloc::vec::Vec;

use wsforge_core::handshake::{Accept, Answer, Connect, ConnectRequest, Limits, Opening, Response};
use wsforge_core::{
    CloseCode, Config, Connection, Event, Initiator, Input, Kind, Outcome, Output, Role, Timestamp,
};

/// What did not go as it has to.
#[derive(Clone, Copy)]
pub(crate) enum Failed {
    Handshake = 1,
    Message,
    Close,
}

const NOW: Timestamp = Timestamp::ZERO;

pub(crate) fn converse() -> Result<(), Failed> {
    let config = Arc::new(Config::default());
    let mut output = Output::new();

    let request = ConnectRequest::new("server.example.com", "/");
    // A real client's nonce and keys are random.
    let mut connect = Connect::start(&request, [7; 16], Limits::default(), &mut output)
        .map_err(|_| Failed::Handshake)?;
    let mut wire = take(&mut output);
    let mut accept = Accept::default();
    let Opening::Request(request) = accept.receive(&mut Input::new(&mut wire, NOW), &mut output)
    else {
        return Err(Failed::Handshake);
    };
    let mut server = request
        .accept(&Response::default(), config.clone(), &mut output)
        .map_err(|_| Failed::Handshake)?;
    let mut wire = take(&mut output);
    let answer = connect.receive(&mut Input::new(&mut wire, NOW));
    let Ok(Some(Answer::Accepted(accepted))) = answer else { return Err(Failed::Handshake) };
    let mut client = accepted.open(|| [1, 2, 3, 4], config);

    for text in ["hello", "", "h\u{e4}llo"] {
        client.send(Kind::Text, text, &mut output).map_err(|_| Failed::Message)?;
        let asked = heard(&mut server, &take(&mut output), &mut output);
        server.send(Kind::Text, &asked[..], &mut output).map_err(|_| Failed::Message)?;
        let answered = heard(&mut client, &take(&mut output), &mut output);
        if answered != text.as_bytes() {
            return Err(Failed::Message);
        }
    }

    client.close(CloseCode::NORMAL, "bye", NOW, &mut output);
    heard(&mut server, &take(&mut output), &mut output);
    heard(&mut client, &take(&mut output), &mut output);
    let closed = |initiator| Some(Outcome::Closed { code: Some(CloseCode::NORMAL), initiator });
    if server.outcome() == closed(Initiator::Peer) && client.outcome() == closed(Initiator::Local) {
        Ok(())
    } else {
        Err(Failed::Close)
    }
}

/// What a peer would read.
fn take(output: &mut Output) -> Vec<u8> {
    let wire = output.slices().flatten().copied().collect();
    output.advance(output.len());
    wire
}

/// The message that has come.
fn heard<R: Role>(conn: &mut Connection<R>, wire: &[u8], output: &mut Output) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let mut input = Input::new(&mut wire, NOW);
    let mut message = Vec::new();
    while let Some(event) = conn.next_event(&mut input, output) {
        if let Event::Message(heard) = event {
            message.extend_from_slice(heard.as_bytes());
        }
    }
    message
}
