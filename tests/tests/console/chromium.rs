//! Headless Chromium over its debugging pipe: JSON messages that end in a zero byte, on descriptors 3 and 4.
//!
//! The browser is a real process with an empty profile, ended with the value. A missing one fails the test that wants it.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// Longest wait for one answer or condition.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(25);

pub(crate) struct Browser {
    process: Child,
    orders: File,
    answers: Receiver<Value>,
    events: VecDeque<Value>,
    session: String,
    number: u64,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// A browser with one empty page.
    pub(crate) fn start(scratch: &Path) -> Self {
        let [orders, answers] = ["orders", "answers"].map(|name| scratch.join(name));
        for pipe in [&orders, &answers] {
            assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo is there").success());
        }
        // The shell opens the descriptors and becomes the browser, so the process is the browser's.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
                      --disable-background-networking --disable-component-update --disable-sync \
                      --remote-debugging-pipe --user-data-dir=\"$1\" about:blank 3<\"$2\" 4>\"$3\"";
        let mut process = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&scratch.join("profile"), &orders, &answers])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(scratch.join("chromium.log")).expect("a log"))
            .spawn()
            .expect("a shell");
        let found = Command::new("sh").args(["-c", "command -v chromium"]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            let _ = process.kill();
            let _ = process.wait();
            panic!("there is no chromium: install it with `apt-get install chromium`, as tests/run does");
        }
        let orders = OpenOptions::new().write(true).open(orders).expect("the browser reads orders");
        let pipe = BufReader::new(File::open(answers).expect("the browser writes answers"));
        let (sender, answers) = sync_channel(4096);
        thread::spawn(move || {
            for message in pipe.split(0) {
                let Ok(message) = message else { return };
                let Ok(json) = serde_json::from_slice(&message) else { return };
                if sender.send(json).is_err() {
                    return;
                }
            }
        });
        let events = VecDeque::new();
        let mut browser = Self { process, orders, answers, events, session: String::new(), number: 0 };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends an order and waits for its answer; what happens in between is kept.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": params});
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        self.orders.write_all(order.to_string().as_bytes()).expect("the browser lives");
        self.orders.write_all(&[0]).expect("the browser lives");
        loop {
            let message = self.answers.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    /// Loads an address and waits until it is complete.
    pub(crate) fn open(&mut self, address: &str) {
        let loaded = self.call("Page.navigate", json!({"url": address}));
        assert!(loaded["errorText"].is_null(), "{address}: {loaded}");
        let script = format!("document.readyState === 'complete' && location.href === {}", json!(address));
        self.until(&script);
    }

    /// The value of an expression on the page; promises are waited for.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true on the page.
    pub(crate) fn until(&mut self, expression: &str) {
        for _ in 0..DEADLINE.as_millis() / PAUSE.as_millis() {
            // A page that is just being replaced has no context to ask in.
            let params = json!({"expression": expression, "returnByValue": true});
            self.number += 1;
            let order = json!({
                "id": self.number, "method": "Runtime.evaluate", "params": params, "sessionId": self.session
            });
            self.orders.write_all(order.to_string().as_bytes()).expect("the browser lives");
            self.orders.write_all(&[0]).expect("the browser lives");
            loop {
                let message = self.answers.recv_timeout(DEADLINE).expect("an answer");
                if message["id"] == self.number {
                    if message["result"]["result"]["value"] == true {
                        return;
                    }
                    break;
                }
                self.events.push_back(message);
            }
            thread::sleep(PAUSE);
        }
        panic!("never true: {expression}; the page says: {}", self.value("document.body.innerText"));
    }

    /// What happened since this was asked last.
    pub(crate) fn happened(&mut self) -> Vec<Value> {
        self.call("Runtime.evaluate", json!({"expression": "0"}));
        self.events.drain(..).collect()
    }

    /// A picture of the whole page, as PNG in base64.
    pub(crate) fn picture(&mut self, width: u32) -> String {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let params = json!({"format": "png", "captureBeyondViewport": true});
        self.call("Page.captureScreenshot", params)["data"].as_str().expect("a picture").to_owned()
    }
}
