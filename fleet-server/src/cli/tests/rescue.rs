//! `tern device rescue`: a ticket that a device takes, signed by one holder of a root key after the other.

use tern_protocol::{
    ids::{DeviceId, FleetId},
    keys::KeySet,
    rescue::{Asking, TicketRefusal, admit},
    signed::SignatureError,
};

use super::*;

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// What the fake server publishes.
pub(super) fn published() -> Value {
    let roles = json!({"root": 3, "timestamp": 1_780_000_000, "snapshot": 1_780_000_000, "targets": 4, "demo": 12});
    json!({"root_threshold": 2, "roles": roles})
}

struct Holders {
    desk: Desk,
    keys: Vec<SigningKey>,
}

impl Holders {
    fn new() -> Self {
        let desk = Desk::new();
        let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
        for (n, key) in keys.iter().enumerate() {
            crate::keyfile::write(&desk.path(&format!("root-{n}.key")), key, None).unwrap();
        }
        Self { desk, keys }
    }

    fn rescue(&self, device: &str, nonce: &str, more: &[(&str, &str)]) -> Outcome {
        let paths: Vec<_> = more.iter().map(|(flag, name)| (*flag, self.desk.path(name))).collect();
        let mut args = vec!["--output", "json", "device", "rescue", device, "--nonce", nonce];
        args.extend(paths.iter().flat_map(|(flag, path)| [*flag, path.to_str().unwrap()]));
        self.desk.tern(&args)
    }

    fn judge(&self, file: &str) -> Result<Value, TicketRefusal> {
        let root = KeySet::new(self.keys.iter().map(|k| (k.public().id(), k.public())), 2);
        let (device, fleet): (DeviceId, FleetId) = ("cam-1".parse().unwrap(), "demo".parse().unwrap());
        let now = crate::clock::now();
        let asking = Asking { device: &device, fleet: &fleet, nonce: NONCE, root: &root, now };
        let ticket = admit(&fs::read(self.desk.path(file)).unwrap(), &asking)?;
        Ok(serde_json::to_value(ticket.into_inner()).unwrap())
    }
}

#[test]
fn a_ticket_goes_from_one_holder_to_the_next_and_counts_at_the_threshold() {
    let holders = Holders::new();
    let made = holders.rescue("cam-1", NONCE, &[("--key", "root-0.key"), ("--out", "t")]).json();
    assert_eq!((&made["signatures"], &made["threshold"]), (&json!(1), &json!(2)));
    let under = SignatureError::UnderThreshold { found: 1, threshold: 2 };
    assert_eq!(holders.judge("t"), Err(TicketRefusal::Signature(under)));
    let asked = holders.desk.state(|s| s.requests.len());
    let added = holders.rescue("cam-1", NONCE, &[("--key", "root-2.key"), ("--add", "t")]).json();
    assert_eq!((&added["signatures"], &added["ticket"]), (&json!(2), &made["ticket"]));
    assert_eq!(holders.desk.state(|s| s.requests.len()), asked, "a cold machine needs no server");
    let ticket = holders.judge("t").unwrap();
    assert_eq!(ticket["roles"], published()["roles"]);
    let again = holders.rescue("cam-1", NONCE, &[("--key", "root-2.key"), ("--add", "t")]).json();
    assert_eq!(again["signatures"], 2, "nobody signs twice");
}

#[test]
fn several_keys_at_hand_sign_at_once_and_the_generation_is_the_demanded_one() {
    let holders = Holders::new();
    let keys = [("--key", "root-0.key"), ("--key", "root-1.key"), ("--out", "t")];
    assert_eq!(holders.rescue("cam-1", NONCE, &keys).code, 0);
    let row: Value = holders.desk.tern(&["--output", "json", "device", "show", "cam-1"]).json();
    assert_eq!(holders.judge("t").unwrap()["generation"], row["desired_generation"]);
}

#[test]
fn nobody_signs_another_ticket_than_the_one_that_was_asked_for() {
    let holders = Holders::new();
    assert_eq!(holders.rescue("cam-1", NONCE, &[("--key", "root-0.key"), ("--out", "t")]).code, 0);
    let add = [("--key", "root-1.key"), ("--add", "t")];
    let other = holders.rescue("cam-2", NONCE, &add);
    assert!(other.refused().contains("is for device cam-1, not for cam-2"), "{}", other.err);
    let other = holders.rescue("cam-1", &"f".repeat(32), &add);
    assert!(other.refused().contains("answers nonce"), "{}", other.err);
    fs::write(holders.desk.path("t"), b"{}").unwrap();
    assert!(holders.rescue("cam-1", NONCE, &add).refused().contains("no rescue ticket"));
    assert_eq!(holders.rescue("nobody", NONCE, &[("--key", "root-0.key"), ("--out", "u")]).code, 1);
    assert!(!holders.desk.path("u").exists());
}
