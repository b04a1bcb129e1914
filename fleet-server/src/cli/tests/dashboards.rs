//! `tern dashboard` against the fake server: the key stays here, and a refusal leaves nothing behind.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// What the fake server answers.
pub(super) fn issued() -> Value {
    json!({
        "name": "hall", "client_id": "_reader.hall", "fleet": "f", "certificate_pem": "CERTIFICATE", "ca_pem": "AUTHORITY",
        "expires": "2027-06-01T00:00:00Z", "mqtt_address": "fleet.example:8883"
    })
}

#[test]
fn a_dashboard_gets_a_folder_whose_key_was_never_sent() {
    let desk = Desk::new();
    let out = desk.path("hall");
    let added = desk.tern(&["dashboard", "add", "hall", "--out", out.to_str().unwrap()]);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.out.contains("mosquitto_sub -h fleet.example -p 8883") && added.out.contains("-i _reader.hall"));
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let sent = desk.state(|s| String::from_utf8(s.last_body.clone()).unwrap());
    let key = text("key.pem");
    assert!(key.contains("PRIVATE KEY") && !sent.contains("PRIVATE KEY") && sent.contains("CERTIFICATE REQUEST"));
    assert_eq!((text("certificate.pem").as_str(), text("ca.pem").as_str()), ("CERTIFICATE", "AUTHORITY"));
    assert_eq!(fs::metadata(out.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);

    let again = desk.tern(&["dashboard", "add", "hall", "--out", out.to_str().unwrap()]);
    assert!(again.refused().contains("is there already"), "{}", again.err);
    assert_eq!(text("key.pem"), key, "what is there is not written over");
}

#[test]
fn a_refused_dashboard_leaves_no_key() {
    let desk = Desk::new();
    let problem = Problem::new(409, "reader-exists", "There is a dashboard of this name", "take another");
    desk.state(|s| s.answer = Some((409, serde_json::to_string(&problem).unwrap())));
    let out = desk.path("hall");
    let refused = desk.tern(&["dashboard", "add", "hall", "--out", out.to_str().unwrap()]);
    assert_eq!(refused.code, 1);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn removing_wants_a_reason_and_a_name_that_can_be_one() {
    let desk = Desk::new();
    desk.state(|s| s.answer = Some((204, String::new())));
    assert_eq!(desk.tern(&["dashboard", "remove", "hall"]).code, 2);
    assert_eq!(desk.tern(&["dashboard", "remove", "_reader.hall", "--reason", "x"]).code, 2);
    let removed = desk.tern(&["dashboard", "remove", "hall", "--reason", "screen sold"]);
    assert_eq!((removed.code, removed.out.as_str()), (0, "dashboard hall reads no more\n"), "{}", removed.err);
    let asked = desk.state(|s| s.requests.last().unwrap().clone());
    assert!(asked.contains("/api/v1/readers/hall?reason=screen%20sold"), "{asked}");
}
