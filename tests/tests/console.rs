//! The console in a real browser: every page stands by itself, follows the fleet while one looks, works without scripts,
//! asks nobody else for anything, and can be used with eyes, ears or a keyboard.
//!
//! With `TERN_PICTURES=FOLDER` pictures of every page are left there as base64, wide and narrow, light and dark.

#[path = "console/chromium.rs"]
mod chromium;
#[path = "console/plant.rs"]
mod plant;

use chromium::Browser;
use plant::{DEVICES, Plant};
use serde_json::{Value, json};

/// Pages, and what each must show.
const PAGES: [(&str, &[&str]); 9] = [
    ("/", &["Incidents (1 open)", "device fault", "cam-8", "offline", "golden-mismatch", "meter-digits"]),
    ("/devices/cam-1", &["hall-2", "Inputs: mean distance", "Latency of meter-digits", "device fault", "65.0 %"]),
    ("/models", &["1.1.0", "signed"]),
    ("/models/demo/meter-digits", &["Quiet is never", "reference standard deviations", "contrast(pixels)", "cam-5"]),
    ("/rollouts", &["running", "1 of 2"]),
    ("/rollouts/ROLLOUT", &["new lens", "must survive", "created", "cam-3"]),
    ("/incidents", &["data quality", "resolved", "open"]),
    ("/incidents/2", &["2 of 8 devices", "mean of other devices", "concurrent", "cam-2", "others of the cohort"]),
    ("/events", &["version-published", "rollout-created"]),
];

fn addresses(plant: &Plant, browser: &mut Browser) -> Vec<(String, &'static [&'static str])> {
    browser.open(&format!("{}/rollouts", plant.console));
    let rollout = browser.value("document.querySelector('tbody th a').getAttribute('href')");
    let rollout = rollout.as_str().expect("a rollout");
    PAGES.iter().map(|(path, texts)| (path.replace("/rollouts/ROLLOUT", rollout), *texts)).collect()
}

fn missing(browser: &mut Browser, texts: &[&str]) -> Vec<String> {
    let shown = browser.value("document.body.innerText");
    let shown = shown.as_str().expect("text");
    texts.iter().filter(|text| !shown.contains(**text)).map(|text| (*text).to_owned()).collect()
}

/// What the browser said that it should not have: errors of scripts, refused loads, and requests to anybody else.
fn complaints(browser: &mut Browser, console: &str) -> Vec<String> {
    let happened = browser.happened();
    let of = |method: &str| happened.iter().filter(|event| event["method"] == method).collect::<Vec<_>>();
    let mut found: Vec<String> = of("Runtime.exceptionThrown").into_iter().map(Value::to_string).collect();
    found.extend(of("Runtime.consoleAPICalled").into_iter().map(Value::to_string));
    found.extend(of("Log.entryAdded").into_iter().map(Value::to_string));
    let address = |event: &Value| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned();
    let asked = of("Network.requestWillBeSent").into_iter().map(address);
    found.extend(asked.filter(|address| !address.starts_with(console) && address != "about:blank"));
    found
}

#[test]
fn every_page_stands_and_nobody_else_is_asked() {
    let plant = Plant::start();
    let mut browser = Browser::start(plant.scratch.path());
    for (path, texts) in addresses(&plant, &mut browser) {
        browser.open(&format!("{}{path}", plant.console));
        browser.until("document.getElementById('live-state').textContent === 'Live'");
        assert_eq!(missing(&mut browser, texts), [""; 0], "{path}");
        assert_eq!(complaints(&mut browser, &plant.console), [""; 0], "{path}");
        pictures(&mut browser, &path);
        assert_eq!(seen_and_heard(&mut browser), json!([]), "{path}");
    }
    let log = plant.log();
    assert!(log.contains("INFO") && !log.contains('\u{1b}'), "a file gets no colours: {log}");
}

/// Leaves pictures of the page where somebody wants to look at them.
fn pictures(browser: &mut Browser, path: &str) {
    let Ok(folder) = std::env::var("TERN_PICTURES") else { return };
    for (width, colours) in [(1280, "light"), (390, "light"), (1280, "dark")] {
        let features = json!([{"name": "prefers-color-scheme", "value": colours}]);
        browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
        let picture = browser.picture(width);
        let name = path.trim_matches('/').replace('/', "-");
        let file = format!("{folder}/{}-{width}-{colours}.b64", if name.is_empty() { "fleet" } else { &name });
        std::io::Write::write_all(&mut std::fs::File::create(file).expect("a picture"), picture.as_bytes())
            .expect("a picture");
    }
    browser.call("Emulation.setEmulatedMedia", json!({"features": []}));
    browser.call("Emulation.clearDeviceMetricsOverride", json!({}));
}

/// What is wrong with the page for who cannot see it well, in both colours and on a small screen.
fn seen_and_heard(browser: &mut Browser) -> Value {
    let mut found = Vec::new();
    for colours in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": colours}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
        browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
        let wrong = browser.value(include_str!("console/audit.js"));
        found.extend(wrong.as_array().expect("a list").iter().map(|what| json!(format!("{colours}: {what}"))));
    }
    let phone = json!({"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    if browser.value("document.documentElement.scrollWidth > innerWidth") == true {
        found.push(json!("the page scrolls sideways on a phone"));
    }
    browser.call("Emulation.clearDeviceMetricsOverride", json!({}));
    browser.call("Emulation.setEmulatedMedia", json!({"features": []}));
    // What a screen reader is told: nothing that can be used may be without a name.
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    for node in tree["nodes"].as_array().expect("a tree") {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let wants_name =
            ["link", "button", "table", "image", "img", "navigation", "region", "figure", "DisclosureTriangle"];
        let name = node["name"]["value"].as_str().unwrap_or_default();
        if wants_name.contains(&role) && node["ignored"] != true && name.trim().is_empty() {
            found.push(json!(format!("a nameless {role}")));
        }
    }
    json!(found)
}

#[test]
fn a_page_follows_the_fleet_and_leaves_focus_scroll_and_open_parts_alone() {
    let plant = Plant::start();
    let mut browser = Browser::start(plant.scratch.path());
    browser.open(&format!("{}/events", plant.console));
    browser.until("document.getElementById('live-state').textContent === 'Live'");
    browser.value(
        "document.querySelector('tbody a').focus(); window.before = document.activeElement; scrollTo(0, 120); 0",
    );
    let top = browser.value("scrollY");
    plant.tern(&["device", "enroll", "cam-99"]);
    browser.until("document.querySelector('main').innerText.includes('enrolment-ordered')");
    assert_eq!(browser.value("document.activeElement === window.before"), true, "the focus stays on the same node");
    assert_eq!(browser.value("window.before.isConnected"), true);
    let first = "document.querySelector('tbody tr').innerText";
    assert!(browser.value(first).as_str().expect("text").contains("cam-99"), "the newest event comes first");
    assert!((browser.value("scrollY").as_f64().expect("a number") - top.as_f64().expect("a number")).abs() < 80.0);

    // An open table of figures stays open; the page that does not show events is not touched by them.
    browser.open(&format!("{}/incidents/2", plant.console));
    browser.until("document.getElementById('live-state').textContent === 'Live'");
    browser.value(
        "document.querySelector('details').open = true; window.main = document.querySelector('main').firstChild; 0",
    );
    browser.value("document.getElementById('live-pause').click(); 0");
    browser.until("document.getElementById('live-state').textContent === 'Paused'");
    assert_eq!(browser.value("document.getElementById('live-pause').getAttribute('aria-pressed')"), "true");
    browser.value("document.getElementById('live-pause').click(); 0");
    browser.until("document.getElementById('live-state').textContent === 'Live'");
    assert_eq!(browser.value("document.querySelector('details').open"), true);
    assert_eq!(browser.value("window.main.isConnected"), true);
    assert_eq!(complaints(&mut browser, &plant.console), [""; 0]);
}

#[test]
fn without_scripts_every_page_is_whole_and_offers_to_refresh_itself() {
    let plant = Plant::start();
    let mut browser = Browser::start(plant.scratch.path());
    let pages = addresses(&plant, &mut browser);
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    for (path, texts) in pages {
        browser.open(&format!("{}{path}", plant.console));
        assert_eq!(missing(&mut browser, texts), [""; 0], "{path}");
        assert_eq!(missing(&mut browser, &["Refresh by itself"]), [""; 0], "{path}");
        assert_eq!(browser.value("document.getElementById('live-pause').hidden"), true, "{path}: no dead button");
    }
    browser.open(&format!("{}/", plant.console));
    assert_eq!(browser.value("document.querySelectorAll('#devices tbody tr').length"), DEVICES);
}

#[test]
fn the_keyboard_reaches_everything_and_says_where_it_is() {
    let plant = Plant::start();
    let mut browser = Browser::start(plant.scratch.path());
    browser.open(&format!("{}/", plant.console));
    browser.until("document.getElementById('live-state').textContent === 'Live'");
    let tab = |browser: &mut Browser| {
        for kind in ["keyDown", "keyUp"] {
            browser.call(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}),
            );
        }
    };
    tab(&mut browser);
    assert_eq!(browser.value("document.activeElement.textContent"), "Skip to the content");
    assert_eq!(browser.value("document.activeElement.getBoundingClientRect().left >= 0"), true, "it is seen");
    let reachable =
        browser.value("document.querySelectorAll('a[href], button:not([hidden]), [tabindex=\"0\"]').length");
    let mut seen = 0;
    for _ in 0..reachable.as_u64().expect("a number") {
        let outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(browser.value(outlined), true, "{}", browser.value("document.activeElement.outerHTML"));
        seen += 1;
        tab(&mut browser);
    }
    assert!(seen > 30, "links of incidents, rollouts, devices and events: {seen}");
}
