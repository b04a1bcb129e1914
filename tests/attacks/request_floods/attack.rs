//! The attacker can reach the server, and asks as fast as he can: for enrolments with guessed tokens, for metadata without a
//! certificate and with one; and opens connections that say nothing. Every request must get its refusal, the server's
//! memory must stay bounded, its log must not fill with one event a request, and devices and operators must be served.

use std::{net::TcpStream, thread};

use tern_protocol::api::ENROL;

use crate::rig::{fleet::Fleet, intruder::Identity};

/// Requests of one flood, and connections that say nothing.
const MANY: usize = 300;
/// Most that the server's resident memory may grow by.
const MEMORY: u64 = 64 << 20;

#[test]
fn floods_are_refused_one_by_one_and_cost_nothing_lasting() {
    let mut fleet = Fleet::new("request_floods");
    let memory = fleet.memory();
    let guesses: Vec<_> = (0..MANY).map(|n| Identity::make("cam-9").enrolment(&format!("guess-{n}"))).collect();
    let muted = fleet.metric("tern_events_muted_total");
    flood(&fleet, |fleet, n| {
        let reply = fleet.ask(None, "POST", ENROL, &guesses[n]);
        assert_eq!(reply.refusal(), (403, "unknown-enrolment".into()));
    });
    let muted = fleet.metric("tern_events_muted_total") - muted;
    assert!(muted >= MANY as u64 - 10, "{muted} of {MANY} were left out of the log of events");
    fleet.refused("enrolments with guessed tokens");
    flood(&fleet, |fleet, n| {
        let path = ["/tuf/metadata/timestamp.json", "/tuf/metadata/1.root.json", "/blobs/sha256/00"][n % 3];
        assert_eq!(fleet.ask(None, "GET", path, b"").refusal(), (401, "no-certificate".into()));
    });
    fleet.refused("metadata without a certificate");
    let insider = fleet.insider("cam-2");
    flood(&fleet, |fleet, n| {
        let path = format!("/tuf/metadata/{}.root.json", n + 2);
        assert_eq!(fleet.ask(Some(&insider), "GET", &path, b"").refusal(), (404, "not-found".into()));
    });
    fleet.refused("roots to come, by a device");
    // Silence: handshakes that never begin hold a place for ten seconds each, and there are more places than that.
    let silent: Vec<_> =
        (0..MANY).map(|n| TcpStream::connect(if n % 2 == 0 { fleet.https } else { fleet.mqtt }).unwrap()).collect();
    assert_eq!(fleet.ask(Some(&insider), "GET", "/tuf/metadata/timestamp.json", b"").status, 200);
    fleet.refused("connections that say nothing");
    drop(silent);
    let grown = fleet.memory().saturating_sub(memory);
    assert!(grown < MEMORY, "the server grew by {grown} B");
    fleet.finish();
}

fn flood(fleet: &Fleet, ask: impl Fn(&Fleet, usize) + Sync) {
    thread::scope(|scope| {
        for part in 0..4 {
            let ask = &ask;
            scope.spawn(move || (0..MANY).filter(|n| n % 4 == part).for_each(|n| ask(fleet, n)));
        }
    });
}
