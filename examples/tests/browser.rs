//! In a browser.
mod support;
use support::{Browser, Server};

#[tokio::test]
async fn the_echo_page_shows_what_comes_back() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start(env!("CARGO_BIN_EXE_echo_socket"), &[]);
    let page = browser.open(&format!("http://{}/", server.address)).await;
    browser.wait_until(&page, "$('state').textContent == 'connected'").await;
    browser.run(&page, "$('text').value = '<b>hello</b>'; $('form').requestSubmit()").await;
    browser.wait_until(&page, "$('log').innerText == '<b>hello</b>'").await;
    browser.close(page).await;
    browser.quit().await;
}
