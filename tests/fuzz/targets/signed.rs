//! Signed envelopes: desired state and rescue ticket, as somebody without a key sends them, and signed by a key that counts.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tern_protocol::{
    desired::{self, Admission, Admitted, DesiredRefusal, DesiredState, GenerationFloor, MAX_MODELS, latest_believed},
    digest::Digest,
    ids::{DeviceId, FleetId, Generation},
    keys::{KeySet, SigningKey},
    rescue::{self, Asking, RescueTicket},
    signed::{self, Document, Verified},
};

use super::{NOW, key, key_set};
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("desired", Form::Json, Pace::Slow, || Box::new(Desired::new())),
        Kind::new("rescue", Form::Json, Pace::Slow, || Box::new(Rescue::new())),
    ]
}

/// The signed part of an envelope, signed anew by `keys`; none where there is no such part or it has no form to sign.
pub(super) fn signed_anew(envelope: &[u8], keys: &[&SigningKey]) -> Option<Vec<u8>> {
    let mut envelope: Value = serde_json::from_slice(envelope).ok()?;
    signed::sign_value(envelope.get_mut("signed")?.take(), keys).ok()
}

fn bytes_of(document: &impl Serialize, kind: &str, keys: &[&SigningKey]) -> Vec<u8> {
    let mut value = serde_json::to_value(document).expect("a document can be written");
    value["_type"] = kind.into();
    signed::sign_value(value, keys).expect("a document can be signed")
}

/// What is the same whatever the document: one of the originals, or it was signed.
fn same_meaning<T: Document + PartialEq + DeserializeOwned>(read: &Verified<T>, originals: &[Vec<u8>]) -> bool {
    originals.iter().any(|bytes| {
        let mut envelope: Value = serde_json::from_slice(bytes).expect("an envelope");
        let original: T = serde_json::from_value(envelope["signed"].take()).expect("a document");
        original == **read
    })
}

struct Desired {
    key: SigningKey,
    keys: KeySet,
    device: DeviceId,
    fleet: FleetId,
    now: Timestamp,
    originals: Vec<Vec<u8>>,
}

impl Desired {
    fn new() -> Self {
        let key = key(1);
        let model = |name: &str, more: Value| {
            let mut model = json!({"model": name, "version": "1.0.0", "manifest": Digest::of(name.as_bytes())});
            for (member, value) in more.as_object().expect("members") {
                model[member] = value.clone();
            }
            model
        };
        let state = |generation: u64, models: Value| {
            let state = json!({"format": 1, "fleet": "f", "device": "cam-1", "generation": generation, "issued": NOW,
                "expires": "2026-06-08T00:00:00Z", "models": models});
            bytes_of(&state, DesiredState::TYPE, &[&key])
        };
        let two = json!([
            model("demo/digits", json!({"swap": "replace", "probation": {"min_inferences": 1, "min_seconds": 2}})),
            model("demo/meter", json!({"candidate": true, "version": "2.0.0-rc.1"})),
        ]);
        let originals = vec![state(5, two), state(6, json!([]))];
        let (keys, now) = (key_set(&[&key], 1), NOW.parse().expect("a time"));
        Self {
            key,
            keys,
            device: "cam-1".parse().expect("a name"),
            fleet: "f".parse().expect("a name"),
            now,
            originals,
        }
    }

    fn admission<'a>(&'a self, device: &'a DeviceId, floor: GenerationFloor) -> Admission<'a> {
        Admission { device, fleet: &self.fleet, director: &self.keys, floor, now: self.now }
    }

    /// Every rule that a state which was taken over keeps.
    fn hold(&self, bytes: &[u8], state: &DesiredState, floor: GenerationFloor) {
        assert_eq!((&state.device, &state.fleet), (&self.device, &self.fleet));
        assert!(state.generation >= Generation(5) && state.expires > self.now);
        assert!(state.issued <= state.expires && state.issued <= latest_believed(self.now));
        assert!(state.models.len() <= MAX_MODELS);
        let again = desired::admit(bytes, &self.admission(&self.device, floor));
        assert!(matches!(again, Ok(Admitted::Same(_))), "what was taken over is known");
        let stranger = "cam-2".parse().expect("a name");
        let elsewhere = desired::admit(bytes, &self.admission(&stranger, GenerationFloor::default()));
        assert!(matches!(elsewhere, Err(DesiredRefusal::WrongDevice { .. })), "{elsewhere:?}");
        let later = GenerationFloor { generation: Generation(u64::MAX), digest: Some(Digest::of(b"other")) };
        assert!(desired::admit(bytes, &self.admission(&self.device, later)).is_err());
        let late = Admission { now: state.expires, ..self.admission(&self.device, GenerationFloor::default()) };
        assert!(matches!(desired::admit(bytes, &late), Err(DesiredRefusal::Expired { .. })));
    }
}

impl Target for Desired {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let names = ["two-models.json", "no-model.json"].map(str::to_owned);
        names.into_iter().zip(self.originals.clone()).collect()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let floor = GenerationFloor { generation: Generation(5), digest: None };
        if let Ok(Admitted::New { state, .. } | Admitted::Same(state)) =
            desired::admit(input, &self.admission(&self.device, floor))
        {
            assert!(same_meaning(&state, &self.originals), "nobody signed {state:?}");
        }
        let Some(bytes) = signed_anew(input, &[&self.key]) else { return Verdict::Refused };
        match desired::admit(&bytes, &self.admission(&self.device, floor)) {
            Ok(Admitted::New { state, floor }) => self.hold(&bytes, &state, floor),
            // Of the floor's own generation, whose digest is not known.
            Ok(Admitted::Same(state)) => assert_eq!(state.generation, floor.generation),
            Err(_) => return Verdict::Refused,
        }
        Verdict::Accepted
    }
}

struct Rescue {
    keys: [SigningKey; 3],
    root: KeySet,
    device: DeviceId,
    fleet: FleetId,
    originals: Vec<Vec<u8>>,
}

impl Rescue {
    fn new() -> Self {
        let keys = [key(1), key(2), key(3)];
        let ticket = json!({"format": 1, "fleet": "f", "device": "cam-1", "nonce": "0".repeat(32), "issued": NOW,
            "expires": "2026-06-08T00:00:00Z", "generation": 7,
            "roles": {"root": 2, "timestamp": 1_780_000_000, "snapshot": 1_780_000_000, "targets": 2, "demo": 3}});
        let pair = |a: usize, b: usize| bytes_of(&ticket, RescueTicket::TYPE, &[&keys[a], &keys[b]]);
        let originals = vec![pair(0, 1), pair(2, 0)];
        let root = key_set(&[&keys[0], &keys[1], &keys[2]], 2);
        Self { keys, root, device: "cam-1".parse().expect("a name"), fleet: "f".parse().expect("a name"), originals }
    }
}

impl Target for Rescue {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let names = ["first-and-second.json", "third-and-first.json"].map(str::to_owned);
        names.into_iter().zip(self.originals.clone()).collect()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let nonce = "0".repeat(32);
        let now = NOW.parse().expect("a time");
        let asking = Asking { device: &self.device, fleet: &self.fleet, nonce: &nonce, root: &self.root, now };
        if let Ok(ticket) = rescue::admit(input, &asking) {
            assert!(same_meaning(&ticket, &self.originals), "nobody signed {ticket:?}");
        }
        let Some(bytes) = signed_anew(input, &[&self.keys[0], &self.keys[1]]) else { return Verdict::Refused };
        let Ok(ticket) = rescue::admit(&bytes, &asking) else { return Verdict::Refused };
        assert_eq!((&ticket.device, &ticket.fleet, &ticket.nonce), (&self.device, &self.fleet, &nonce));
        assert!(ticket.expires > now);
        let other = Asking { nonce: "1", ..asking };
        assert!(rescue::admit(&bytes, &other).is_err(), "a ticket answers one nonce");
        let alone = signed_anew(input, &[&self.keys[0]]).expect("it was signed before");
        assert!(rescue::admit(&alone, &asking).is_err(), "one of two signatures does not count");
        Verdict::Accepted
    }
}
