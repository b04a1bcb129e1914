//! Hostile texts, an empty fleet, a large one, and who may ask.

use axum::body::Body;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tern_protocol::{
    digest::Digest,
    ids::{ByteCount, Generation},
    refusal::RefusalCode,
    twin::{LastError, ModelState, ModelTwin},
};
use tower_service::Service;

use super::*;
use crate::{
    forms::{DeviceRow, EventRow, VersionRow},
    overview::{Overview, OverviewFuture},
};

const HOSTILE: &str = "<script>alert(1)</script>\" onload=x '&amp; \u{202e}\u{1b}[2J";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn empty() -> Overview {
    Overview { fleet: "demo".parse().unwrap(), solo: false, devices: vec![], versions: vec![], events: vec![] }
}

fn refusal(message: &str) -> LastError {
    LastError {
        code: RefusalCode::GoldenMismatch,
        message: message.into(),
        version: Some("1.0.2".parse().unwrap()),
        generation: Generation(7),
        at: at(-30),
        count: 1,
    }
}

fn device(number: usize) -> DeviceRow {
    let model = ModelTwin {
        model: "demo/meter-digits".parse().unwrap(),
        version: Some("1.0.0".parse().unwrap()),
        digest: None,
        state: ModelState::Rejected,
        desired: Some("1.0.2".parse().unwrap()),
        generation: Generation(7),
        since: at(-60),
        last_error: Some(refusal(HOSTILE)),
    };
    DeviceRow {
        device: format!("cam-{number:03}").parse().unwrap(),
        online: number.is_multiple_of(2),
        last_seen: Some(at(-5)),
        device_class: "rpi4".parse().unwrap(),
        labels: Default::default(),
        agent_version: HOSTILE.into(),
        desired_generation: Generation(8),
        desired: vec![],
        generation: Generation(7),
        models: vec![model],
        last_error: None,
        certificate_expires: at(1_000_000),
    }
}

fn full(devices: usize) -> Overview {
    let version = VersionRow {
        model: "demo/meter-digits@1.0.0".parse().unwrap(),
        manifest: Digest::of(b"m"),
        bytes: ByteCount(24_449),
        published: at(-3_600),
        published_by: HOSTILE.into(),
        signed: true,
        devices: devices as u64,
    };
    let event = EventRow {
        id: 1,
        at: at(-10),
        kind: HOSTILE.into(),
        actor: HOSTILE.into(),
        device: Some("cam-001".parse().unwrap()),
        model: None,
        version: None,
        code: HOSTILE.into(),
        message: HOSTILE.into(),
    };
    Overview {
        solo: true,
        devices: (0..devices).map(device).collect(),
        versions: vec![version],
        events: vec![event],
        ..empty()
    }
}

fn html(overview: &Overview) -> String {
    page::page(overview, at(0), None).into_string()
}

struct Fixed(Option<Overview>);

impl ConsoleSource for Fixed {
    fn overview(&self) -> OverviewFuture<'_> {
        Box::pin(async { self.0.clone().ok_or_else(|| anyhow::anyhow!("secret path /var/lib/x")) })
    }
}

fn ask(source: Fixed, host: Option<&str>, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let mut request = Request::builder().uri(path);
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    let request = request.body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let response = router(Arc::new(source)).call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    })
}

#[test]
fn hostile_texts_stay_texts() {
    let page = html(&full(2));
    assert!(!page.contains("<script"), "a tag came through");
    assert!(!page.contains("\" onload"), "a quote came through");
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;alert(1)"), "the text itself is shown");
}

#[test]
fn an_empty_fleet_says_what_to_do() {
    let page = html(&empty());
    for text in ["tern device enroll ID", "tern model publish FOLDER", "Nothing has happened yet", "Fleet demo"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<table") && !page.contains("Unsafe"));
}

#[test]
fn two_hundred_devices_have_a_row_each() {
    let page = html(&full(200));
    for number in [0, 99, 199] {
        assert!(page.contains(&format!("<th scope=\"row\">cam-{number:03}</th>")));
    }
    assert!(page.contains("<caption>200 devices</caption>"));
    assert!(page.contains("Unsafe keys"), "solo keys are named");
    assert!(page.contains("golden-mismatch") && page.contains("(wanted: 1.0.2)"));
    assert!(page.contains("<dt>Online</dt><dd>100</dd>"));
}

#[test]
fn a_very_large_fleet_is_cut_and_says_so() {
    let page = html(&full(1_003));
    assert!(page.contains("1003 devices, the first 1000 shown"));
    assert!(page.contains("cam-999") && !page.contains("cam-1000"));
}

#[test]
fn the_page_is_whole_without_scripts_and_loads_nothing_foreign() {
    let page = html(&full(3));
    assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"));
    assert_eq!(page.matches("<table").count(), page.matches("<caption").count());
    for landmark in ["<header>", "<main ", "<nav ", "<footer>", "scope=\"col\""] {
        assert!(page.contains(landmark), "{landmark}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("style=\""));
    assert!(!page.contains("http-equiv"), "no refresh unless asked for");
    assert!(page.contains("href=\"/?refresh=on\""));
    assert!(page::page(&empty(), at(0), Some(10)).into_string().contains("http-equiv=\"refresh\" content=\"10\""));
}

#[test]
fn every_answer_carries_the_guards() {
    for (path, status) in [("/", 200), ("/?refresh=on", 200), ("/style.css", 200), ("/etc/passwd", 404)] {
        let (found, headers, _) = ask(Fixed(Some(full(1))), Some("localhost:8080"), path);
        assert_eq!(found, status, "{path}");
        assert!(
            headers[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; style-src 'self'")
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    }
    let (_, headers, style) = ask(Fixed(None), Some("localhost"), "/style.css");
    assert_eq!(headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert!(style.contains("prefers-color-scheme: dark"));
}

#[test]
fn only_this_machines_names_are_answered() {
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]"] {
        assert_eq!(ask(Fixed(Some(empty())), Some(host), "/").0, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "[2001:db8::1]:80", "", "127.0.0.1.evil"] {
        let (status, _, body) = ask(Fixed(Some(full(1))), Some(host), "/");
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(!body.contains("cam-000"));
    }
    assert_eq!(ask(Fixed(Some(empty())), None, "/").0, StatusCode::MISDIRECTED_REQUEST);
}

#[test]
fn a_store_that_cannot_be_read_is_told_without_its_inside() {
    let (status, _, body) = ask(Fixed(None), Some("localhost"), "/");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!body.contains("secret"));
}
