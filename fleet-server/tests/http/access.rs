//! Who may call which route: every route of the server against every role, strangers, and certificates of the wrong kind.

use tern_fleet_server::identity::Permission::{self, Approve, Operate, Publish, Read, ReadModel};

use super::*;

/// The sources that name routes. One that is in them and not in the tables below fails the test.
const SOURCES: [&str; 3] = [
    include_str!("../../src/http.rs"),
    include_str!("../../src/http/rollout_routes.rs"),
    include_str!("../../src/http/proposal_routes.rs"),
];

/// Routes of operators: each wants this permission and nothing less.
const OPERATORS: [(&str, &str, Permission); 37] = [
    ("GET", "/api/v1/whoami", Read),
    ("GET", "/api/v1/models", Read),
    ("GET", "/api/v1/models/{team}/{model}", Read),
    ("GET", "/api/v1/models/{team}/{model}/{version}", Read),
    ("PUT", "/api/v1/manifests/{team}/{model}/{version}", Publish),
    ("GET", "/api/v1/teams/{team}/metadata", Read),
    ("PUT", "/api/v1/teams/{team}/metadata", Publish),
    ("PUT", "/api/v1/blobs/sha256/{digest}", Publish),
    ("GET", "/api/v1/blobs/sha256/{digest}", ReadModel),
    ("POST", "/api/v1/teams/{team}/proposals", Publish),
    ("GET", "/api/v1/proposals", Read),
    ("GET", "/api/v1/proposals/{id}", Read),
    ("POST", "/api/v1/proposals/{id}/signatures", Approve),
    ("POST", "/api/v1/proposals/{id}/withdraw", Read),
    ("POST", "/api/v1/enrolments", Operate),
    ("GET", "/api/v1/devices", Read),
    ("GET", "/api/v1/devices/{id}", Read),
    ("GET", "/api/v1/devices/{id}/windows", Read),
    ("GET", "/api/v1/figures", Read),
    ("GET", "/api/v1/quarantine", Read),
    ("POST", "/api/v1/assignments", Operate),
    ("GET", "/api/v1/rollouts", Read),
    ("POST", "/api/v1/rollouts", Operate),
    ("GET", "/api/v1/rollouts/{id}", Read),
    ("GET", "/api/v1/rollouts/{id}/plan", Read),
    ("GET", "/api/v1/rollouts/{id}/verdicts", Read),
    ("POST", "/api/v1/rollouts/{id}/{verb}", Operate),
    ("GET", "/api/v1/events", Read),
    ("GET", "/api/v1/stream", Read),
    ("GET", "/api/v1/readers", Read),
    ("POST", "/api/v1/readers", Operate),
    ("DELETE", "/api/v1/readers/{name}", Operate),
    ("GET", "/api/v1/incidents", Read),
    ("GET", "/api/v1/incidents/{number}", Read),
    ("POST", "/api/v1/incidents/{number}/acknowledge", Operate),
    ("POST", "/api/v1/incidents/{number}/mute", Operate),
    ("GET", "/metrics", Read),
];

/// Routes of devices, by certificate.
const DEVICES: [&str; 3] = ["/tuf/metadata/{name}", "/tuf/targets/{*path}", "/blobs/sha256/{digest}"];

/// Routes for everybody: enrolment asks for its own secret, the others say nothing of the fleet.
const EVERYBODY: [&str; 3] = ["/api/v1/enrol", "/healthz", "/readyz"];

const VERBS: [&str; 9] = ["approve", "deny", "start", "pause", "resume", "promote", "retry", "abort", "undo"];

/// Addresses of a route, with something in each place.
fn addresses(route: &str) -> Vec<String> {
    let filled = route
        .replace("{team}/{model}/{version}", "demo/m/1.0.0")
        .replace("{team}", "demo")
        .replace("{model}", "m")
        .replace("{id}", "cam-1")
        .replace("{name}", "hall")
        .replace("{number}", "1")
        .replace("{*path}", "models/demo/m/1.0.0/manifest.json")
        .replace("{digest}", &"0".repeat(64));
    if filled.contains("{verb}") {
        return VERBS.iter().map(|verb| filled.replace("{verb}", verb)).collect();
    }
    vec![filled]
}

/// The code of the refusal, if it is one. Nothing is sent that any route would take.
async fn code(caller: &Caller, method: &str, address: &str) -> Option<String> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    // A stream that began would never end.
    let reply = caller.send(method, address, &[("last-event-id", "x")], vec![]).await;
    (!reply.status.is_success()).then(|| reply.problem().1)
}

#[test]
fn every_route_is_in_a_table() {
    let named = SOURCES.iter().flat_map(|source| source.split(".route(\"").skip(1));
    let mut routes: Vec<&str> = named.filter_map(|rest| rest.split('"').next()).collect();
    routes.sort_unstable();
    routes.dedup();
    let mut known: Vec<&str> = OPERATORS.iter().map(|(_, route, _)| *route).chain(DEVICES).chain(EVERYBODY).collect();
    known.sort_unstable();
    known.dedup();
    assert_eq!(routes, known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operators_route_asks_for_its_permission_and_nothing_less() {
    let rig = Rig::start().await;
    let strangers = [(rig.stranger(), "missing-token"), (rig.bearer("70cc"), "bad-token")];
    let mut callers = Vec::new();
    for role in Role::ALL {
        callers.push((role, rollouts::token(&rig, &format!("a-{}", role.as_str()), role).await));
    }
    for (method, route, permission) in OPERATORS {
        for address in addresses(route) {
            for (caller, refusal) in &strangers {
                assert_eq!(code(caller, method, &address).await.as_deref(), Some(*refusal), "{method} {address}");
            }
            for (role, caller) in &callers {
                let code = code(caller, method, &address).await;
                let is_refused = code.as_deref() == Some("wrong-role");
                assert_eq!(is_refused, !role.allows(permission), "{method} {address} as {role:?}: {code:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_routes_know_neither_tokens_nor_dashboards() {
    let rig = Rig::start().await;
    let (issued, key) = readers::add(&rig, "hall").await;
    let dashboard = rig.caller(Some((&issued.certificate_pem, &key)), None);
    for address in DEVICES.into_iter().flat_map(addresses) {
        for caller in [&rig.stranger(), &rig.admin(), &dashboard] {
            assert_eq!(code(caller, "GET", &address).await.as_deref(), Some("no-certificate"), "{address}");
        }
    }
    assert_eq!(code(&dashboard, "GET", "/api/v1/devices").await.as_deref(), Some("missing-token"));
}
