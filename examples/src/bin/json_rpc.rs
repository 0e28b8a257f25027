//! Calls and their replies as JSON-RPC 2.0: `cargo run --bin json_rpc`, then
//! `cargo run --bin client -- ws://127.0.0.1:9001/` and, of it,
//! `{"jsonrpc":"2.0","id":1,"method":"divide","params":{"a":1,"b":3}}`.
//!
//! The router picks the handler by the field `method`; the handler's extractor is the type of the call, so
//! that it sees nothing but calls that are well-formed. What an extractor refuses goes to `on_error`.

use clap::Parser;
use examples::Place;
use serde::{Deserialize, Serialize};
use wsforge::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = Place::parse().listen()?;
    Router::new()
        .route_json("method", "divide", handler(divide))
        .route_json("method", "join", handler(join))
        .default_handler(handler(unknown))
        .on_error(malformed)
        .listen_on(listener)
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Call<P> {
    id: u64,
    params: P,
}

#[derive(Deserialize)]
struct Divide {
    a: f64,
    b: f64,
}

async fn divide(Json(Call { id, params }): Json<Call<Divide>>) -> JsonResponse<Reply<f64>> {
    match params {
        Divide { b: 0.0, .. } => failed(Some(id), 1, "division by zero"),
        Divide { a, b } => done(id, a / b),
    }
}

#[derive(Deserialize)]
struct Join {
    words: Vec<String>,
    between: String,
}

async fn join(Json(Call { id, params }): Json<Call<Join>>) -> JsonResponse<Reply<String>> {
    done(id, params.words.join(&params.between))
}

async fn unknown(Json(call): Json<Call<serde::de::IgnoredAny>>) -> JsonResponse<Reply<()>> {
    failed(Some(call.id), -32601, "no such method")
}

/// Whose call it was is not known then.
fn malformed(error: &Error, _: &Connection) -> Option<Message> {
    let JsonResponse(reply) = failed::<()>(None, -32600, error.public());
    Message::from_json(&reply).ok()
}

#[derive(Serialize)]
struct Reply<R> {
    jsonrpc: &'static str,
    /// The call's, so that many may be under way at a time.
    id: Option<u64>,
    #[serde(flatten)]
    outcome: Outcome<R>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome<R> {
    Error { code: i32, message: String },
    Result(R),
}

fn done<R>(id: u64, result: R) -> JsonResponse<Reply<R>> {
    JsonResponse(Reply { jsonrpc: "2.0", id: Some(id), outcome: Outcome::Result(result) })
}

fn failed<R>(id: Option<u64>, code: i32, message: &str) -> JsonResponse<Reply<R>> {
    let outcome = Outcome::Error { code, message: message.into() };
    JsonResponse(Reply { jsonrpc: "2.0", id, outcome })
}
