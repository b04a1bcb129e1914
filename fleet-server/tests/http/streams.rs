//! The event log as a stream: order, resuming, the token, the bound, and an end that does not hold up the server's.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{StatusCode, body::Incoming};
use serde_json::Value;
use tern_fleet_server::{clock::Moment, fleet::MAX_STREAMS};

use crate::rig::{DEADLINE, Rig, eventually};

/// Reads a stream's messages.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    async fn open(rig: &Rig, path: &str, extra: &[(&str, &str)]) -> Self {
        let (status, body) = rig.admin().open(path, extra).await;
        assert_eq!(status, StatusCode::OK);
        Self { body, text: String::new() }
    }

    /// The next message's id and event; none at the end.
    async fn next(&mut self) -> Option<(i64, Value)> {
        let reading = async {
            loop {
                if let Some((frame, rest)) = self.text.split_once("\n\n") {
                    let (frame, rest) = (frame.to_owned(), rest.to_owned());
                    self.text = rest;
                    let member = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
                    if let Some(json) = member("data: ") {
                        return Some((member("id: ").unwrap().parse().unwrap(), serde_json::from_str(json).unwrap()));
                    }
                    continue;
                }
                let bytes = self.body.frame().await?.ok()?.into_data().unwrap();
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("a message before the deadline")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_streamed_as_they_are_committed_and_resumed_where_they_stopped() {
    let rig = Rig::start().await;
    let mut all = Reader::open(&rig, "/api/v1/stream?after=0", &[]).await;
    let mut new = Reader::open(&rig, "/api/v1/stream", &[]).await;
    let (_, first) = all.next().await.unwrap();
    assert_eq!(first["kind"], "initialised");
    rig.order("cam-1").await;
    let (id, ordered) = new.next().await.unwrap();
    assert_eq!((ordered["kind"].as_str(), ordered["id"].as_i64()), (Some("enrolment-ordered"), Some(id)));
    rig.order("cam-2").await;
    let mut resumed = Reader::open(&rig, "/api/v1/stream", &[("last-event-id", &id.to_string())]).await;
    assert_eq!(resumed.next().await.unwrap().1["device"], "cam-2");
    let mut last = 0;
    while last <= id {
        let (next, _) = all.next().await.unwrap();
        assert!(next > last, "in order");
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_wants_a_token_and_a_number_and_has_a_bound() {
    let rig = Rig::start().await;
    assert_eq!(rig.stranger().get("/api/v1/stream").await.problem().1, "missing-token");
    assert_eq!(rig.admin().get_with("/api/v1/stream", &[("last-event-id", "x")]).await.problem().1, "bad-query");
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(Reader::open(&rig, "/api/v1/stream", &[]).await);
    }
    assert_eq!(rig.admin().get("/api/v1/stream").await.problem(), (503, "too-many-streams".into()));
    drop(open);
    let free = async || (rig.admin().open("/api/v1/stream", &[]).await.0 == StatusCode::OK).then_some(());
    eventually(free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_the_server_and_do_not_hold_it_up() {
    let mut rig = Rig::start().await;
    let mut reader = Reader::open(&rig, "/api/v1/stream", &[]).await;
    let begun = Moment::now();
    rig.stop().await;
    assert!(reader.next().await.is_none());
    assert!(begun.elapsed() < Duration::from_secs(4), "shorter than the grace time: {:?}", begun.elapsed());
}
