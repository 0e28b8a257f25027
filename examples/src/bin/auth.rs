//! A token or no connection: `cargo run --bin auth`, then
//! `cargo run --bin client -- 'ws://127.0.0.1:9001/?token=of-ann'`, or with
//! `--header 'Cookie: token=of-bob'` in the place of the query, or with neither.
//!
//! Whom the token belongs to is found out before the handshake is answered: who has none gets a 401 and
//! never costs a connection. What the hook leaves with the request, handlers find with the connection.

use std::sync::Arc;

use clap::Parser;
use examples::Place;
use url::form_urlencoded;
use wsforge::Answer;
use wsforge::prelude::*;
use wsforge::router::Request;

/// In earnest: random, kept as digests, and looked up in the database, for which the hook may wait.
const TOKENS: [(&str, &str); 2] = [("of-ann", "Ann"), ("of-bob", "Bob")];

struct User(&'static str);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = Place::parse().listen()?;
    let router = Router::new().on_upgrade(authenticate).default_handler(handler(repeat));
    router.listen_on(listener).await?;
    Ok(())
}

/// Browsers let a page's script set no header, but they send cookies.
async fn authenticate(request: Arc<Request>) -> Answer {
    let mut query = form_urlencoded::parse(request.query().unwrap_or_default().as_bytes());
    let token = query.find(|(name, _)| name == "token").map(|(_, token)| token);
    let token = token.or_else(|| request.cookie("token").map(Into::into)).unwrap_or_default();
    match TOKENS.iter().find(|(known, _)| *known == token) {
        Some((_, name)) => {
            request.set_data(User(name));
            Answer::accept()
        }
        None => Answer::reject(401)
            .header("WWW-Authenticate", "Bearer")
            .body("this takes a token, in the query or a cookie"),
    }
}

fn repeat(message: Message, connection: Connection) -> Result<String> {
    let user = connection.data::<User>().ok_or_else(|| Error::handler("everybody is a user"))?;
    Ok(format!("{} says {}", user.0, message.as_text().unwrap_or("something")))
}
