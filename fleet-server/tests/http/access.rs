//! Who may call which route: every route of the server against every role, strangers, and certificates of the wrong kind.

use std::{collections::BTreeSet, path::Path};

use tern_fleet_server::identity::Permission::{self, Administer, Approve, Audit, Operate, Publish, Read, ReadModel};

use super::*;

/// Routes of operators: each wants this permission and nothing less.
const OPERATORS: [(&str, &str, Permission); 47] = [
    ("GET", "/api/v1/whoami", Read),
    ("GET", "/api/v1/models", Read),
    ("GET", "/api/v1/trust", Read),
    ("GET", "/api/v1/trust/metadata", Read),
    ("PUT", "/api/v1/trust/metadata", Administer),
    ("GET", "/api/v1/models/{team}/{model}", Read),
    ("GET", "/api/v1/models/{team}/{model}/{version}", Read),
    ("PUT", "/api/v1/manifests/{team}/{model}/{version}", Publish),
    ("GET", "/api/v1/teams/{team}/metadata", Read),
    ("PUT", "/api/v1/teams/{team}/metadata", Publish),
    ("GET", "/api/v1/blobs/sha256/{digest}", ReadModel),
    ("PUT", "/api/v1/blobs/sha256/{digest}", Publish),
    ("POST", "/api/v1/teams/{team}/proposals", Publish),
    ("GET", "/api/v1/proposals", Read),
    ("GET", "/api/v1/proposals/{id}", Read),
    ("POST", "/api/v1/proposals/{id}/signatures", Approve),
    ("POST", "/api/v1/proposals/{id}/withdraw", Read),
    ("POST", "/api/v1/enrolments", Operate),
    ("POST", "/api/v1/claims", Operate),
    ("GET", "/api/v1/devices", Read),
    ("GET", "/api/v1/devices/{id}", Read),
    ("POST", "/api/v1/devices/{id}/revoke", Operate),
    ("POST", "/api/v1/devices/{id}/reidentify", Operate),
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
    ("GET", "/api/v1/tokens", Administer),
    ("POST", "/api/v1/tokens", Administer),
    ("DELETE", "/api/v1/tokens/{name}", Administer),
    ("GET", "/api/v1/accesses", Audit),
    ("GET", "/metrics", Read),
];

/// The verbs of a rollout: each wants this permission, whatever the row of its route says.
const VERBS: [(&str, Permission); 9] = [
    ("approve", Approve),
    ("deny", Approve),
    ("start", Operate),
    ("pause", Operate),
    ("resume", Operate),
    ("promote", Operate),
    ("retry", Operate),
    ("abort", Operate),
    ("undo", Operate),
];

/// Who has a permission, spelled out: nobody who is not named.
fn holders(permission: Permission) -> &'static [Role] {
    match permission {
        Read => &Role::ALL,
        ReadModel => &[Role::Publisher, Role::Approver, Role::Auditor, Role::Admin],
        Publish => &[Role::Publisher, Role::Admin],
        Approve => &[Role::Approver, Role::Admin],
        Operate => &[Role::Operator, Role::Admin],
        Audit => &[Role::Auditor, Role::Admin],
        Administer => &[Role::Admin],
    }
}

/// Routes of devices, by certificate.
const DEVICES: [(&str, &str); 4] = [
    ("GET", "/tuf/metadata/{name}"),
    ("GET", "/tuf/targets/{*path}"),
    ("GET", "/blobs/sha256/{digest}"),
    ("POST", "/api/v1/renew"),
];

/// Routes for everybody: enrolment asks for its own secret, the others say nothing of the fleet.
const EVERYBODY: [(&str, &str); 4] =
    [("POST", "/api/v1/enrol"), ("POST", "/api/v1/claim"), ("GET", "/healthz"), ("GET", "/readyz")];

/// The address of a route, with something in each place.
fn address(route: &str) -> String {
    route
        .replace("{team}/{model}/{version}", "demo/m/1.0.0")
        .replace("{team}", "demo")
        .replace("{model}", "m")
        .replace("{id}", "cam-1")
        .replace("{name}", "hall")
        .replace("{number}", "1")
        .replace("{*path}", "models/demo/m/1.0.0/manifest.json")
        .replace("{digest}", &"0".repeat(64))
}

/// A route's addresses, each with what it wants.
fn wanted(route: &str, permission: Permission) -> Vec<(String, Permission)> {
    let address = address(route);
    if address.contains("{verb}") {
        return VERBS.iter().map(|(verb, wants)| (address.replace("{verb}", verb), *wants)).collect();
    }
    vec![(address, permission)]
}

/// Every method of every route that the sources of the interface name.
fn routes() -> BTreeSet<(&'static str, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = std::fs::read_dir(source.join("http")).unwrap().map(|entry| entry.unwrap().path());
    let mut routes = BTreeSet::new();
    for file in modules.chain([source.join("http.rs")]).filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        for rest in text.split(".route(").skip(1) {
            let Some((path, rest)) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                panic!("a route without a literal address: {}", rest.chars().take(60).collect::<String>());
            };
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let handlers = &rest[..end.unwrap()];
            let words: BTreeSet<_> = handlers.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
            let methods = [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("delete", "DELETE"), ("patch", "PATCH")];
            let before = routes.len();
            routes.extend(methods.iter().filter(|(word, _)| words.contains(word)).map(|(_, m)| (*m, path.to_owned())));
            let is_known = routes.iter().any(|(_, known)| known == path);
            assert!(routes.len() > before || is_known, "{path} has no method that this test knows");
        }
    }
    routes
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
    let operators = OPERATORS.iter().map(|(method, route, _)| (*method, (*route).to_owned()));
    let devices = DEVICES.iter().map(|(method, route)| (*method, (*route).to_owned()));
    let everybody = EVERYBODY.iter().map(|(method, route)| (*method, (*route).to_owned()));
    let known: BTreeSet<_> = operators.chain(devices).chain(everybody).collect();
    let routes = routes();
    let lacking: Vec<_> = routes.difference(&known).collect();
    assert!(lacking.is_empty(), "who may call {lacking:?}? add a row for each to the tables of this test");
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
        for (address, permission) in wanted(route, permission) {
            for (caller, refusal) in &strangers {
                assert_eq!(code(caller, method, &address).await.as_deref(), Some(*refusal), "{method} {address}");
            }
            for (role, caller) in &callers {
                let code = code(caller, method, &address).await;
                let is_refused = code.as_deref() == Some("wrong-role");
                let may = holders(permission).contains(role);
                assert_eq!(is_refused, !may, "{method} {address} as {role:?}: {code:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_routes_know_neither_tokens_nor_dashboards() {
    let rig = Rig::start().await;
    let (issued, key) = readers::add(&rig, "hall").await;
    let dashboard = rig.caller(Some((&issued.certificate_pem, &key)), None);
    for (method, address) in DEVICES.map(|(method, route)| (method, address(route))) {
        for caller in [&rig.stranger(), &rig.admin(), &dashboard] {
            assert_eq!(code(caller, method, &address).await.as_deref(), Some("no-certificate"), "{address}");
        }
    }
    assert_eq!(code(&dashboard, "GET", "/api/v1/devices").await.as_deref(), Some("missing-token"));
}
