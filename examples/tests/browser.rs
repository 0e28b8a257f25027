//! The pages in a browser, skipped where none is installed and `CHROMIUM` names none.

mod support;

use std::net::SocketAddr;

use serde_json::json;
use socket2::{Domain, Socket, Type};
use support::{Browser, Page, Server};

#[tokio::test]
async fn the_echo_page_shows_what_comes_back() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start(env!("CARGO_BIN_EXE_echo_socket"), &[]);
    let page = browser.open(&format!("http://{}/", server.address)).await;
    browser.wait_until(&page, "$('state').textContent == 'connected'").await;
    browser.run(&page, "$('text').value = '<b>hello</b>'; $('form').requestSubmit()").await;
    browser.wait_until(&page, "$('log').innerText == '<b>hello</b>'").await;
    browser.quit().await;
}

#[tokio::test]
async fn two_pages_chat_and_come_back_when_the_server_does() {
    let Some(mut browser) = Browser::start().await else { return };
    for chat in [env!("CARGO_BIN_EXE_chat"), env!("CARGO_BIN_EXE_chat_smol")] {
        two_pages_chat(&mut browser, chat).await;
    }
    browser.quit().await;
}

async fn two_pages_chat(browser: &mut Browser, chat: &str) {
    let place = Place::hold();
    let server = place.start(chat);
    let ann = join(browser, &server, "ann").await;
    here(browser, &ann, &["ann"]).await;
    let bob = join(browser, &server, "bob").await;
    here(browser, &ann, &["ann", "bob"]).await;
    here(browser, &bob, &["ann", "bob"]).await;
    last_line(browser, &ann, "bob has joined").await;

    // What others say is text.
    browser.run(&ann, "$('text').value = '<b id=x>hello</b>'; $('say').requestSubmit()").await;
    last_line(browser, &bob, "ann: <b id=x>hello</b>").await;
    last_line(browser, &ann, "ann: <b id=x>hello</b>").await;
    assert_eq!(browser.run(&bob, "$('x')").await, json!(null));
    assert_eq!(browser.run(&ann, "$('text').value").await, "");

    assert_eq!(server.kill(), "");
    here(browser, &ann, &[]).await;
    here(browser, &bob, &[]).await;
    let server = place.start(chat);
    here(browser, &ann, &["ann", "bob"]).await;
    here(browser, &bob, &["ann", "bob"]).await;
    browser.run(&bob, "$('text').value = 'welcome back'; $('say').requestSubmit()").await;
    last_line(browser, &ann, "bob: welcome back").await;

    // Who is let in by no server is told so, and may try again.
    let eve = join(browser, &server, &" ".repeat(3)).await;
    browser.wait_until(&eve, "$('state').textContent == 'invalid message'").await;
    assert_eq!(
        browser.run(&eve, "[$('join').hidden, $('chat').hidden]").await,
        json!([false, true])
    );
    browser.run(&eve, "$('name').value = 'eve'; $('join').requestSubmit()").await;
    here(browser, &eve, &["ann", "bob", "eve"]).await;
    browser.run(&eve, "$('leave').click()").await;
    last_line(browser, &ann, "eve has left").await;
    here(browser, &ann, &["ann", "bob"]).await;

    browser.close(bob).await;
    last_line(browser, &ann, "bob has left").await;
    here(browser, &ann, &["ann"]).await;
    // Or they might come to the next server, should that get this port.
    browser.close(ann).await;
    browser.close(eve).await;
}

/// Opens the page and sends its form, with `name` and the room that is there already.
async fn join(browser: &mut Browser, server: &Server, name: &str) -> Page {
    let page = browser.open(&format!("http://{}/", server.address)).await;
    let script = format!("$('name').value = '{name}'; $('join').requestSubmit()");
    browser.run(&page, &script).await;
    page
}

/// Waits until the page shows that these are in the room.
async fn here(browser: &mut Browser, page: &Page, names: &[&str]) {
    let names = names.join(" ");
    let condition =
        format!("[...$('here').children].map((e) => e.textContent).join(' ') == '{names}'");
    browser.wait_until(page, &condition).await;
}

/// Waits until this is the last line that the page shows.
async fn last_line(browser: &mut Browser, page: &Page, line: &str) {
    browser.wait_until(page, &format!("$('log').lastChild?.textContent == '{line}'")).await;
}

/// A port that nobody else is given while no server listens on it.
struct Place(Socket);

impl Place {
    fn hold() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // As the server does, or it could not listen here.
        socket.set_reuse_address(true).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    fn start(&self, server: &str) -> Server {
        let address = self.0.local_addr().expect("bound").as_socket().expect("of IP");
        let server = Server::start_at(server, address.port());
        assert_eq!(server.address, address);
        server
    }
}
