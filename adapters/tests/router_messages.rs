//! Routers: what becomes of messages.

mod raw;
mod router;

use raw::{Flavor, Raw};
use router::Started;
use wsforge::proto::frame::Opcode;
use wsforge::router::{Message, Router, handler};

on_each_runtime! {
    fn what_is_pipelined_is_answered_in_order(flavor: Flavor) {
        let echo = handler(|message: Message| async move { message });
        let server = Started::new(flavor, Router::new().default_handler(echo));
        let mut peer = Raw::open(server.address);
        for n in 0..1000 {
            peer.send_frame(Opcode::Text, n.to_string());
        }
        for n in 0..1000 {
            assert_eq!(peer.frame().payload, n.to_string().into_bytes());
        }
        peer.close();
        server.stop();
    }
}
