//! Hostile texts, an empty fleet, bounds, what each page owes to who cannot see it, and who may ask.

mod synthetic;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tower_service::Service;

use super::{
    live::MOST,
    view::{Listed, Shown, View},
    *,
};
use crate::http::sse::Wire;
use synthetic::{Fixed, at, empty, shown, view};

/// One address of each kind of page.
const ADDRESSES: [&str; 9] = [
    "/",
    "/devices/cam-001",
    "/models",
    "/models/demo/meter-digits",
    "/rollouts",
    "/rollouts/meter-digits-1",
    "/incidents",
    "/incidents/2",
    "/events",
];

fn place(address: &str) -> Place {
    Place::parse(address, "").unwrap()
}

fn html(address: &str) -> String {
    let place = place(address);
    pages::page(&shown(view(&place)), &place, at(0), None).into_string()
}

fn nothing(address: &str) -> String {
    let place = place(address);
    pages::page(&shown(empty(&place)), &place, at(0), None).into_string()
}

fn desk(works: bool) -> (watch::Sender<u64>, Router) {
    let (changed, changes) = watch::channel(10);
    (changed, router(Arc::new(Fixed::new(works, changes))))
}

async fn call(router: &mut Router, host: Option<&str>, path: &str) -> Response {
    let (stop, stopping) = watch::channel(false);
    // The server of these tests stops when the test does.
    std::mem::forget(stop);
    let mut request = Request::builder().uri(path).extension(Wire::new(stopping));
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    router.call(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn ask(works: bool, host: Option<&str>, path: &str) -> (StatusCode, HeaderMap, String) {
    let (_changed, mut router) = desk(works);
    let (head, body) = call(&mut router, host, path).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn hostile_texts_stay_texts() {
    for address in ADDRESSES {
        let page = html(address);
        assert_eq!(page.matches("<script").count(), 1, "{address}: ours alone");
        assert!(!page.contains("\" onload"), "{address}: a quote came through");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'), "{address}");
        assert!(page.contains("&lt;script&gt;alert(1)"), "{address}: the text itself is shown");
    }
}

#[test]
fn open_incidents_are_counted_although_the_list_is_cut() {
    let place = place("/");
    let many = Shown { open_incidents: 731, ..shown(view(&place)) };
    let page = pages::page(&many, &place, at(0), None).into_string();
    assert!(page.contains("<dt>Open incidents</dt><dd>731</dd>"));
}

#[test]
fn an_empty_fleet_says_what_to_do() {
    let page = nothing("/");
    for text in ["tern device enroll ID", "tern model publish FOLDER", "Nothing has happened yet", "Fleet"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<table"));
    assert!(page.contains("not that nothing is wrong"), "quiet is never no decay");
    for (address, text) in [("/rollouts", "tern rollout create"), ("/incidents", "None."), ("/events", "None here")] {
        assert!(nothing(address).contains(text), "{address}");
    }
}

#[test]
fn a_cut_list_says_so_and_where_it_goes_on() {
    let page = html("/");
    assert!(page.contains("3 devices shown, there are more: <a href=\"/?after=cam-002\">"), "{page}");
    assert!(html("/events").contains("<a href=\"/events?before=1\">older ones</a>"));
    let list = Listed::of((0..5).collect(), 3);
    assert_eq!((list.rows, list.more), (vec![0, 1, 2], true));
    assert!(!Listed::of(vec![1], 1).more);
}

#[test]
fn every_page_is_whole_without_scripts_and_loads_nothing_foreign() {
    for address in ADDRESSES {
        let page = html(address);
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{address}");
        for landmark in ["<header>", "<main id=\"main\"", "<nav aria-label=\"Pages\">", "<footer>", "href=\"#main\""] {
            assert_eq!(page.matches(landmark).count(), 1, "{address}: {landmark}");
        }
        assert_eq!(page.matches("<h1>").count(), 1, "{address}");
        assert!(page.find("<h2").is_none_or(|h2| page.find("<h1>").unwrap() < h2), "{address}: headings in order");
        assert!(!page.contains("<h3"), "{address}");
        let tables = page.matches("<table>").count();
        assert_eq!(tables, page.matches("<caption id=").count(), "{address}");
        assert_eq!(tables, page.matches("role=\"region\" tabindex=\"0\"").count(), "{address}");
        assert!(tables == 0 || page.contains("scope=\"col\"") && page.contains("scope=\"row\""), "{address}");
        assert_eq!(page.matches("role=\"img\"").count(), page.matches("<desc id=").count(), "{address}");
        assert!(page.contains("aria-current="), "{address}: the navigation says where one is");
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("style=\""), "{address}");
        assert!(!page.contains("http-equiv"), "{address}: no refresh unless asked for");
        let ids: Vec<_> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len(), "{address}: {ids:?}");
        for id in page.split("aria-labelledby=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split(' ')) {
            assert!(ids.contains(&id), "{address}: nothing is called {id}");
        }
    }
}

#[test]
fn pages_say_what_they_are_about() {
    for (address, texts) in [
        ("/", &["Open incidents", "Rollouts under way", "Newest events", "golden-mismatch", "(wanted: 1.0.2)"][..]),
        ("/devices/cam-001", &["What it runs", "Newest windows", "75.0 %", "Last refusal of a desired state"]),
        (
            "/models/demo/meter-digits",
            &[
                "0.62 reference standard deviations",
                "1.0.0, which answers on 3 devices,",
                "no figure for categories",
                "once in about 1000",
            ],
        ),
        ("/rollouts/meter-digits-1", &["aria-current=\"step\"", "survived", "Verdicts", "1 of 2"]),
        ("/incidents/2", &["Likely cause", "Score over the windows", "critical", "and 8 more", "What was done"]),
    ] {
        let page = html(address);
        for text in texts {
            assert!(page.contains(text), "{address}: {text}");
        }
        assert!(page.contains("Unsafe keys"), "{address}: solo keys are named");
    }
}

#[test]
fn a_refusal_that_is_past_is_not_shown_as_one_that_stands() {
    let digest = "ec407ea42652d82b1bc65d1b2e9c1b0b4fec96cbeb4f9c0c1a66078f1f1d9b0b";
    let shown_with = |address: &str, desired: &str| {
        let place = place(address);
        let mut view = view(&place);
        let rows = match &mut view {
            View::Fleet(fleet) => &mut fleet.devices.rows[..],
            View::Device(device) => std::slice::from_mut(&mut device.row),
            _ => panic!("devices"),
        };
        for row in rows {
            let model = &mut row.models[0];
            (row.last_error, model.desired) = (None, Some(desired.parse().unwrap()));
            model.last_error.as_mut().unwrap().message = format!("blob {digest} is odd");
        }
        pages::page(&shown(view), &place, at(0), None).into_string()
    };
    let standing = shown_with("/", "1.0.2");
    assert!(standing.contains("golden-mismatch</span> of 1.0.2") && !standing.contains("past: "));
    assert!(standing.contains("blob ec407ea42652… is odd") && !standing.contains(digest));
    let past = shown_with("/", "1.0.0");
    assert!(past.contains("past: golden-mismatch</span> of 1.0.2") && !past.contains("is odd"));
    for desired in ["1.0.2", "1.0.0"] {
        assert!(shown_with("/devices/cam-001", desired).contains(digest), "the device's page shows all");
    }
}

#[test]
fn a_model_says_which_days_of_the_year_its_profile_knows() {
    let place = place("/models/demo/meter-digits");
    let page = pages::page(&shown(view(&place)), &place, at(0), None).into_string();
    let row = |name: &str| {
        let (_, rest) = page.split_once(name).unwrap_or_else(|| panic!("{name} on {page}"));
        rest.split_once("</tr>").unwrap().0.to_owned()
    };
    let (all, part) = (row("sight-mean(image)"), row("sight-contrast(image)"));
    assert!(all.contains("<td>all</td>"), "{all}");
    assert!(part.contains("5 Mar to 30 Aug") && part.contains("only: on others little is looked for"), "{part}");
    assert!(page.contains("none: its rows had no times"));
}

#[test]
fn a_model_without_a_profile_says_that_nothing_would_be_seen() {
    let place = place("/models/demo/meter-digits");
    let View::Model(mut view) = view(&place) else { panic!("a model") };
    let spots = view.blind_spots.as_mut().unwrap();
    (spots.sees, spots.devices) = (None, 0);
    let page = pages::page(&shown(View::Model(view)), &place, at(0), None).into_string();
    assert!(page.contains("No reference profile.") && page.contains("tern decay fit"));
    assert!(page.contains("1.0.0, the newest signed version (none answers anywhere)"));
}

#[tokio::test]
async fn every_answer_carries_the_guards() {
    let assets = [("/style.css", 200), ("/console.js", 200), ("/icon.svg", 200), ("/etc/passwd", 404)];
    let pages = ADDRESSES.map(|address| (address, 200));
    for (path, status) in pages.into_iter().chain(assets).chain([("/?refresh=on", 200), ("/incidents/404", 404)]) {
        let (found, headers, _) = ask(true, Some("localhost:8080"), path).await;
        assert_eq!(found, status, "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    }
    let (_, headers, _) = ask(true, Some("localhost"), "/console.js").await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let (_, _, page) = ask(true, Some("localhost"), "/events?before=9&refresh=on").await;
    assert!(page.contains("http-equiv=\"refresh\" content=\"10\""));
}

#[tokio::test]
async fn only_this_machines_names_are_answered() {
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]"] {
        assert_eq!(ask(true, Some(host), "/").await.0, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "[2001:db8::1]:80", "", "127.0.0.1.evil"] {
        let (status, _, body) = ask(true, Some(host), "/").await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(!body.contains("cam-000"));
    }
    assert_eq!(ask(true, None, "/").await.0, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_told_without_its_inside() {
    let (status, _, body) = ask(false, Some("localhost"), "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!body.contains("secret"));
}

#[tokio::test]
async fn a_live_page_is_told_of_its_own_changes_only() {
    let (changed, changes) = watch::channel(10);
    let source = Arc::new(Fixed::new(true, changes));
    let mut router = router(source.clone());
    let response = call(&mut router, Some("localhost"), "/live?page=%2F%3Fafter%3Dcam-1").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    assert_eq!(next().await.unwrap(), ":\n\n", "connected");
    // The page shows tens: this commit makes it look again, and changes nothing that it shows.
    let looks = source.looks();
    changed.send_replace(11);
    while source.looks() == looks {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    changed.send_replace(20);
    let frame = next().await.unwrap();
    assert!(frame.starts_with(b"event: changed\ndata: "), "{frame:?}");
    drop(changed);
    assert_eq!(next().await, None, "one word for one change; the stream ends with the store");
}

#[tokio::test]
async fn live_pages_are_bounded_and_places_come_back() {
    let (_changed, mut router) = desk(true);
    let mut open = Vec::new();
    for _ in 0..MOST {
        open.push(call(&mut router, Some("localhost"), "/live?page=/").await);
    }
    assert!(open.iter().all(|response| response.status() == StatusCode::OK));
    let refused = call(&mut router, Some("localhost"), "/live?page=/").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call(&mut router, Some("localhost"), "/live?page=/nowhere").await.status(), StatusCode::NOT_FOUND);
    open.clear();
    while call(&mut router, Some("localhost"), "/live?page=/").await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}
