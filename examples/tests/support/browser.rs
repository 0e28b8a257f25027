//! Chromium without a window, driven through the DevTools protocol: JSON over a WebSocket.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::time::timeout;
use wsforge::WebSocket;

use super::{PATIENCE, Process};

/// A browser that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocket,
    commands: u64,
    /// What it said while an answer was awaited.
    events: VecDeque<Value>,
    process: Option<Process>,
    profile: PathBuf,
}

/// A page that is open in a browser.
#[derive(Debug)]
pub struct Page {
    target: String,
    session: String,
}

impl Browser {
    /// Starts the browser that `CHROMIUM` names, or the first one of the usual names that is installed.
    /// If there is none and none was named, says so and gives `None`.
    pub async fn start() -> Option<Self> {
        let named = env::var("CHROMIUM").ok();
        let Some(program) = named.or_else(installed) else {
            // Past what captures the output of tests that pass.
            let why = "skipped: no Chromium is installed, and CHROMIUM does not name one";
            let _ = writeln!(io::stderr(), "{why}");
            return None;
        };
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let profile = format!("{}/chromium-{process}-{count}", env!("CARGO_TARGET_TMPDIR"));
        let data = format!("--user-data-dir={profile}");
        // It says where it listens on its standard error. It has no sandbox when root starts it, and shows
        // nothing here but our own pages; containers have a small /dev/shm.
        let script = "exec \"$0\" \"$@\" 2>&1";
        let process = Process::start(
            "sh",
            &[
                "-c",
                script,
                &program,
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-background-timer-throttling",
                "--no-first-run",
                "--remote-debugging-port=0",
                &data,
            ],
        );
        let url = loop {
            let line = process.line();
            if let Some(url) = line.strip_prefix("DevTools listening on ") {
                break url.to_owned();
            }
        };
        let socket = wsforge::tokio::connect(url).await.expect("it listens");
        let profile = profile.into();
        Some(Self { socket, commands: 0, events: VecDeque::new(), process: Some(process), profile })
    }

    /// Opens a page and waits until it has been loaded.
    pub async fn open(&mut self, url: &str) -> Page {
        let target = self.command("", "Target.createTarget", json!({ "url": "about:blank" })).await;
        let target = string(&target["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.command("", "Target.attachToTarget", attach).await;
        let page = Page { target, session: string(&session["sessionId"]) };
        self.command(&page.session, "Page.enable", json!({})).await;
        let navigated = self.command(&page.session, "Page.navigate", json!({ "url": url })).await;
        assert_eq!(navigated["errorText"], Value::Null, "{url}");
        self.event(&page.session, "Page.loadEventFired").await;
        page
    }

    /// Runs a script in a page, and gives its value.
    pub async fn run(&mut self, page: &Page, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let result = self.command(&page.session, "Runtime.evaluate", parameters).await;
        assert_eq!(result["exceptionDetails"], Value::Null, "{script}");
        result["result"]["value"].clone()
    }

    /// Waits until `condition`, an expression over the page's content, holds.
    pub async fn wait_until(&mut self, page: &Page, condition: &str) {
        let script = format!(
            "new Promise((resolve) => {{
                const look = () => ({condition}) && resolve(true);
                new MutationObserver(look).observe(document,
                    {{ attributes: true, characterData: true, childList: true, subtree: true }});
                look();
                setTimeout(() => resolve(document.body.innerText), {});
            }})",
            PATIENCE.as_millis() / 2
        );
        let outcome = self.run(page, &script).await;
        assert_eq!(outcome, true, "{condition} never held; the page shows what is on the left");
    }

    /// Closes a page, as a user closes a tab.
    pub async fn close(&mut self, page: Page) {
        self.command("", "Target.closeTarget", json!({ "targetId": page.target })).await;
    }

    /// Ends the browser.
    pub async fn quit(mut self) {
        self.command("", "Browser.close", json!({})).await;
        let finished = self.process.take().expect("it runs").finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }

    /// Gives a command to a page's session, or to the browser if that is empty, and waits for the result.
    async fn command(&mut self, session: &str, method: &str, parameters: Value) -> Value {
        self.commands += 1;
        let id = self.commands;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !session.is_empty() {
            command["sessionId"] = session.into();
        }
        self.socket.send(command.to_string()).await.expect("it runs");
        loop {
            let mut said = self.next().await;
            if said["id"] == id {
                assert_eq!(said["error"], Value::Null, "{method}");
                return said["result"].take();
            }
            self.events.push_back(said);
        }
    }

    /// Waits for an event of a page's session, unless it has happened since the last one was waited for.
    async fn event(&mut self, session: &str, method: &str) {
        loop {
            let said = match self.events.pop_front() {
                Some(event) => event,
                None => self.next().await,
            };
            if said["sessionId"] == session && said["method"] == method {
                return;
            }
        }
    }

    async fn next(&mut self) -> Value {
        let message = timeout(PATIENCE, self.socket.recv()).await.expect("an answer in time");
        let message = message.expect("it runs");
        serde_json::from_slice(message.as_bytes()).expect("JSON")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It has to be gone before its files are.
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.profile);
    }
}

fn installed() -> Option<String> {
    let runs = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(runs).map(Into::into)
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
