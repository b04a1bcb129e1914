//! The director: signs what one device is to run. It decides nothing, stores nothing and sends nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    desired::{self, DesiredModel, DesiredState, Settings},
    ids::{DeviceId, FleetId, Generation},
    keys::{KeyId, SigningKey},
    signed,
};

/// A signed state and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedState {
    /// The envelope.
    pub bytes: Vec<u8>,
    /// When it expires.
    pub expires: Timestamp,
}

/// The holder of the director's keys: one mostly, several in a rotation, all of which sign.
#[derive(Debug)]
pub struct Director {
    keys: Mutex<Vec<Arc<SigningKey>>>,
    fleet: FleetId,
    valid: SignedDuration,
    settings: Settings,
}

impl Director {
    /// A director of `fleet` whose states are good for `valid`.
    pub fn new(keys: Vec<Arc<SigningKey>>, fleet: FleetId, valid: SignedDuration) -> Self {
        Self { keys: Mutex::new(keys), fleet, valid, settings: Settings::default() }
    }

    /// Signs with these keys from now on.
    pub fn use_keys(&self, keys: Vec<Arc<SigningKey>>) {
        *self.keys() = keys;
    }

    fn keys(&self) -> MutexGuard<'_, Vec<Arc<SigningKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, with these settings in every state.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Whether a state that was signed before has other settings, or other keys' signatures, than one that is signed now.
    pub fn is_outdated(&self, envelope: &[u8]) -> bool {
        #[derive(serde::Deserialize)]
        struct Envelope {
            signatures: Vec<Signature>,
            signed: Signed,
        }
        #[derive(serde::Deserialize)]
        struct Signature {
            keyid: KeyId,
        }
        #[derive(serde::Deserialize)]
        struct Signed {
            #[serde(default)]
            settings: Settings,
        }
        // What cannot be read is signed anew too.
        let Ok(found) = serde_json::from_slice::<Envelope>(envelope) else { return true };
        let mut signers: Vec<_> = found.signatures.into_iter().map(|signature| signature.keyid).collect();
        let mut own: Vec<_> = self.keys().iter().map(|key| key.public().id()).collect();
        signers.sort();
        own.sort();
        found.signed.settings != self.settings || signers != own
    }

    /// How long its states are good for.
    pub fn valid(&self) -> SignedDuration {
        self.valid
    }

    /// The signed state of a device.
    ///
    /// # Errors
    /// Where it has no canonical form or is larger than a device accepts.
    pub fn sign(
        &self,
        device: &DeviceId,
        generation: Generation,
        models: Vec<DesiredModel>,
        now: Timestamp,
    ) -> anyhow::Result<SignedState> {
        let expires = now.saturating_add(self.valid).unwrap_or(Timestamp::MAX);
        let state = DesiredState {
            format: desired::FORMAT,
            fleet: self.fleet.clone(),
            device: device.clone(),
            generation,
            // Whole seconds: what is signed reads the same in every tool.
            issued: whole_seconds(now),
            expires: whole_seconds(expires),
            models,
            settings: self.settings,
        };
        let keys = self.keys().clone();
        let bytes = signed::sign(&state, &keys.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        anyhow::ensure!(
            bytes.len() <= <DesiredState as signed::Document>::MAX_BYTES,
            "the desired state of {device} would be {} bytes, more than a device reads: assign fewer models",
            bytes.len()
        );
        Ok(SignedState { bytes, expires: state.expires })
    }
}

/// `at` without its fraction of a second.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use tern_protocol::{
        desired::{Admission, Admitted, GenerationFloor, admit},
        digest::Digest,
        keys::KeySet,
    };

    use super::*;

    #[test]
    fn a_device_admits_what_the_director_signed_for_it() {
        let key = SigningKey::generate().unwrap();
        let keys = KeySet::new([(key.public().id(), key.public())], 1);
        let fleet: FleetId = "f".parse().unwrap();
        let device: DeviceId = "cam-1".parse().unwrap();
        let director = Director::new(vec![Arc::new(key)], fleet.clone(), SignedDuration::from_hours(24));
        let model = DesiredModel {
            model: "demo/m".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            manifest: Digest::of(b"m"),
            swap: Default::default(),
            probation: Default::default(),
            candidate: false,
        };
        let now: Timestamp = "2026-06-01T00:00:00.5Z".parse().unwrap();
        let signed = director.sign(&device, Generation(7), vec![model.clone()], now).unwrap();
        assert_eq!(signed.expires, "2026-06-02T00:00:00Z".parse().unwrap());
        let settings = Settings { report_interval_seconds: 1, ..Settings::default() };
        let director = director.with_settings(settings);
        assert!(director.is_outdated(&signed.bytes) && director.is_outdated(b"x"));
        let again = director.sign(&device, Generation(8), vec![], now).unwrap();
        assert!(!director.is_outdated(&again.bytes));
        let floor = GenerationFloor::default();
        let admission = Admission { device: &device, fleet: &fleet, director: &keys, floor, now };
        let Admitted::New { state, .. } = admit(&signed.bytes, &admission).unwrap() else { panic!("not new") };
        assert_eq!((state.generation, &state.models), (Generation(7), &vec![model]));
    }
}
