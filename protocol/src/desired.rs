//! Desired state: which approved versions one device runs, signed by the director.
//!
//! [`admit`] decides whether a device may take one over. Precedence: signature, type, format, device, fleet,
//! generation, equivocation, expiry, plausible time. It knows the floor and the time only as arguments.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{DeviceId, FleetId, Generation, ModelName, ModelVersion, Version},
    keys::KeySet,
    signed::{self, Document, SignatureError, Verified},
};

/// The only format so far.
pub const FORMAT: u32 = 1;
/// Most models on a device.
pub const MAX_MODELS: usize = 64;
/// How far above what a device knows a time may lie and still be believed, signed or not. One signature over a time without
/// bounds would otherwise carry the device's floor of time past the end of every certificate and every role.
pub const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(400 * 24);

/// What one device is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// [`FORMAT`].
    pub format: u32,
    /// The fleet that the device belongs to.
    pub fleet: FleetId,
    /// The device that this is for.
    pub device: DeviceId,
    /// Its number; newer is higher.
    pub generation: Generation,
    /// When it was signed.
    pub issued: Timestamp,
    /// From when on it starts no install.
    pub expires: Timestamp,
    /// The models, each at most once.
    pub models: Vec<DesiredModel>,
    /// Settings that the server steers.
    #[serde(default)]
    pub settings: Settings,
}

/// One model that a device is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredModel {
    /// Which model.
    pub model: ModelName,
    /// Which version of it.
    pub version: Version,
    /// SHA-256 of the version's manifest.
    pub manifest: Digest,
    /// How the new version takes over.
    #[serde(default)]
    pub swap: Swap,
    /// What it must survive before it counts as committed.
    #[serde(default)]
    pub probation: Probation,
    /// Whether the team's candidate role lists it, not its release role; only for devices that allow candidates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub candidate: bool,
}

impl DesiredModel {
    /// The TUF path of its manifest.
    pub fn target_path(&self) -> String {
        let version = self.model_version();
        if self.candidate { version.candidate_path() } else { version.target_path() }
    }

    /// The model and version together.
    pub fn model_version(&self) -> ModelVersion {
        ModelVersion { name: self.model.clone(), version: self.version.clone() }
    }
}

/// How a new version takes over from the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// Loaded beside the old one, which answers until the new one is warm.
    #[default]
    Beside,
    /// The old one is dropped first: for memory that holds only one.
    Replace,
}

/// What a version must survive after it took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// At least so many inferences …
    pub min_inferences: u64,
    /// … and at least so many seconds.
    pub min_seconds: u64,
}

impl Probation {
    /// The shortest that a device takes, in seconds; its owner may ask for more.
    pub const LEAST_SECONDS: u64 = 1;
    /// The longest that a device takes, in seconds: 30 days. A version on probation is taken back by whatever ends the agent.
    pub const MOST_SECONDS: u64 = 30 * 86_400;
    /// The most inferences that a device waits for.
    pub const MOST_INFERENCES: u64 = 1_000_000;

    /// The nearest that a device takes whose owner wants at least so many seconds.
    #[must_use]
    pub fn bounded(self, least_seconds: u64) -> Self {
        Self {
            min_inferences: self.min_inferences.min(Self::MOST_INFERENCES),
            min_seconds: self.min_seconds.max(least_seconds.max(Self::LEAST_SECONDS)).min(Self::MOST_SECONDS),
        }
    }

    /// Whether it is longer than any that a device takes.
    pub fn is_too_long(&self) -> bool {
        self.min_inferences > Self::MOST_INFERENCES || self.min_seconds > Self::MOST_SECONDS
    }
}

impl Default for Probation {
    fn default() -> Self {
        Self { min_inferences: 100, min_seconds: 600 }
    }
}

/// Settings that the server steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How often reports are sent.
    pub report_interval_seconds: u32,
    /// How long a window is.
    pub window_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { report_interval_seconds: 900, window_seconds: 3600 }
    }
}

impl Document for DesiredState {
    const TYPE: &'static str = "tern-desired-state";
    const MAX_BYTES: usize = 256 << 10;
}

/// What the next desired state is measured by: the newest that was taken over under a key that root still names, or without a
/// digest the oldest that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GenerationFloor {
    /// Its generation; 0 where there was none.
    pub generation: Generation,
    /// SHA-256 of its envelope's bytes.
    pub digest: Option<Digest>,
}

/// Who the device is and what it knows: everything that [`admit`] may look at.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// The device itself.
    pub device: &'a DeviceId,
    /// Its fleet.
    pub fleet: &'a FleetId,
    /// The director's keys, as root names them.
    pub director: &'a KeySet,
    /// The durable floor.
    pub floor: GenerationFloor,
    /// The present time, floored as DESIGN 3 says.
    pub now: Timestamp,
}

/// A desired state that the device may take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// It is newer than the floor.
    New {
        /// The state.
        state: Verified<DesiredState>,
        /// The floor that must be durable before anything of it is acted on.
        floor: GenerationFloor,
    },
    /// It is the one that the floor was made from.
    Same(Verified<DesiredState>),
}

/// Why a desired state was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesiredRefusal {
    /// Its signatures do not count, or it is malformed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A format that this agent does not know.
    #[error("desired state has format {0}: update the agent")]
    UnknownFormat(u32),
    /// It was made for another device.
    #[error("desired state is for device {named}, this is {this}")]
    WrongDevice {
        /// The device it names.
        named: DeviceId,
        /// This device.
        this: DeviceId,
    },
    /// It was made for another fleet.
    #[error("desired state is for fleet {named}, this is {this}")]
    WrongFleet {
        /// The fleet it names.
        named: FleetId,
        /// This fleet.
        this: FleetId,
    },
    /// It is older than one that was taken over.
    #[error("desired state has generation {offered}, generation {floor} was taken over before")]
    OldGeneration {
        /// Its generation.
        offered: Generation,
        /// The floor.
        floor: Generation,
    },
    /// Another state was signed under the same generation.
    #[error("two different desired states carry generation {0}: somebody else holds the director's key")]
    Equivocation(Generation),
    /// It has expired.
    #[error("desired state expired at {expires}, it is {now}")]
    Expired {
        /// When it expired.
        expires: Timestamp,
        /// The device's time.
        now: Timestamp,
    },
    /// It was issued after it expires, or too far above the device's time.
    #[error(
        "desired state is issued at {issued} and expires at {expires}, it is {now}: correct the server's clock, or enrol a \
         device again that was away for more than 400 days"
    )]
    ImplausibleTime {
        /// When it says that it was signed.
        issued: Timestamp,
        /// When it expires.
        expires: Timestamp,
        /// The device's time.
        now: Timestamp,
    },
    /// It lists a model twice or too many.
    #[error("desired state lists too many models, or one name twice")]
    BadModelList,
}

/// The latest time that is believed by whoever knows that it is `now`, or was: [`MAX_AHEAD`] later.
pub fn latest_believed(now: Timestamp) -> Timestamp {
    now.checked_add(MAX_AHEAD).unwrap_or(Timestamp::MAX)
}

/// Decides whether the device may take over the desired state in `bytes`.
///
/// # Errors
/// The first refusal in the order of this module's first lines.
pub fn admit(bytes: &[u8], admission: &Admission<'_>) -> Result<Admitted, DesiredRefusal> {
    let state: Verified<DesiredState> = signed::verify(bytes, admission.director)?;
    if state.format != FORMAT {
        return Err(DesiredRefusal::UnknownFormat(state.format));
    }
    if state.device != *admission.device {
        return Err(DesiredRefusal::WrongDevice { named: state.device.clone(), this: admission.device.clone() });
    }
    if state.fleet != *admission.fleet {
        return Err(DesiredRefusal::WrongFleet { named: state.fleet.clone(), this: admission.fleet.clone() });
    }
    let (floor, digest) = (admission.floor, Digest::of(bytes));
    if state.generation < floor.generation || state.generation == Generation(0) {
        return Err(DesiredRefusal::OldGeneration { offered: state.generation, floor: floor.generation });
    }
    let known = floor.digest.filter(|_| state.generation == floor.generation);
    if known.is_some_and(|known| known != digest) {
        return Err(DesiredRefusal::Equivocation(state.generation));
    }
    if state.expires <= admission.now {
        return Err(DesiredRefusal::Expired { expires: state.expires, now: admission.now });
    }
    if state.issued > state.expires || state.issued > latest_believed(admission.now) {
        let (issued, expires, now) = (state.issued, state.expires, admission.now);
        return Err(DesiredRefusal::ImplausibleTime { issued, expires, now });
    }
    // On a device a model is known by its name without the team, so that name is what must be unique.
    let names: std::collections::BTreeSet<_> = state.models.iter().map(|m| &m.model.model).collect();
    if names.len() != state.models.len() || state.models.len() > MAX_MODELS {
        return Err(DesiredRefusal::BadModelList);
    }
    if known.is_some() {
        return Ok(Admitted::Same(state));
    }
    let floor = GenerationFloor { generation: state.generation, digest: Some(digest) };
    Ok(Admitted::New { state, floor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn state() -> DesiredState {
        DesiredState {
            format: FORMAT,
            fleet: "f".parse().unwrap(),
            device: "cam-1".parse().unwrap(),
            generation: Generation(5),
            issued: NOW.parse().unwrap(),
            expires: "2026-06-08T00:00:00Z".parse().unwrap(),
            models: vec![DesiredModel {
                model: "demo/m".parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
                manifest: Digest::of(b"manifest"),
                swap: Swap::Beside,
                probation: Probation::default(),
                candidate: false,
            }],
            settings: Settings::default(),
        }
    }

    struct Device {
        key: SigningKey,
        keys: KeySet,
        device: DeviceId,
        fleet: FleetId,
        floor: GenerationFloor,
        now: Timestamp,
    }

    impl Device {
        fn new() -> Self {
            let key = SigningKey::generate().unwrap();
            let keys = KeySet::new([(key.public().id(), key.public())], 1);
            let (device, fleet) = ("cam-1".parse().unwrap(), "f".parse().unwrap());
            Self { key, keys, device, fleet, floor: GenerationFloor::default(), now: NOW.parse().unwrap() }
        }

        fn admit(&self, bytes: &[u8]) -> Result<Admitted, DesiredRefusal> {
            let Self { keys, device, fleet, floor, now, .. } = self;
            admit(bytes, &Admission { device, fleet, director: keys, floor: *floor, now: *now })
        }

        fn offered(&self, edit: impl FnOnce(&mut DesiredState)) -> Result<Admitted, DesiredRefusal> {
            let mut state = state();
            edit(&mut state);
            self.admit(&signed::sign(&state, &[&self.key]).unwrap())
        }
    }

    #[test]
    fn no_probation_is_none_or_for_ever() {
        let probation = |min_inferences, min_seconds| Probation { min_inferences, min_seconds };
        let longest = probation(Probation::MOST_INFERENCES, Probation::MOST_SECONDS);
        for (asked, least, taken) in [
            (probation(0, 0), 0, probation(0, Probation::LEAST_SECONDS)),
            (probation(20, 5), 60, probation(20, 60)),
            (probation(20, 600), 60, probation(20, 600)),
            (probation(u64::MAX, 10 * 365 * 86_400), 60, longest),
            (probation(1, 5), u64::MAX, probation(1, Probation::MOST_SECONDS)),
        ] {
            assert_eq!(asked.bounded(least), taken);
            assert!(!taken.is_too_long());
        }
        assert_eq!(Probation::default().bounded(Probation::LEAST_SECONDS), Probation::default());
        assert!(probation(Probation::MOST_INFERENCES + 1, 1).is_too_long());
        assert!(probation(1, Probation::MOST_SECONDS + 1).is_too_long());
    }

    #[test]
    fn each_refusal_has_its_variant() {
        let device = Device::new();
        let this = device.device.clone();
        assert!(matches!(device.offered(|_| {}), Ok(Admitted::New { floor, .. }) if floor.generation == Generation(5)));
        let named: DeviceId = "cam-2".parse().unwrap();
        let wrong = Err(DesiredRefusal::WrongDevice { named: named.clone(), this });
        assert_eq!(device.offered(|s| s.device = named), wrong);
        let wrong = Err(DesiredRefusal::WrongFleet { named: "g".parse().unwrap(), this: "f".parse().unwrap() });
        assert_eq!(device.offered(|s| s.fleet = "g".parse().unwrap()), wrong);
        assert_eq!(device.offered(|s| s.format = 2), Err(DesiredRefusal::UnknownFormat(2)));
        let now = device.now;
        assert_eq!(device.offered(|s| s.expires = now), Err(DesiredRefusal::Expired { expires: now, now }));
        assert_eq!(device.offered(|s| s.models.push(s.models[0].clone())), Err(DesiredRefusal::BadModelList));
        let old = DesiredRefusal::OldGeneration { offered: Generation(0), floor: Generation(0) };
        assert_eq!(device.offered(|s| s.generation = Generation(0)), Err(old));
    }

    #[test]
    fn a_time_that_cannot_be_true_is_not_taken_over() {
        let device = Device::new();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let offered = |issued, expires| device.offered(|s| (s.issued, s.expires) = (issued, expires));
        let (far, now) = (at("2099-01-01T00:00:00Z"), device.now);
        for (issued, expires) in [
            (at("2026-06-08T00:00:01Z"), at("2026-06-08T00:00:00Z")),
            (at("2027-07-06T00:00:01Z"), far),
            (Timestamp::MAX, Timestamp::MAX),
        ] {
            let implausible = Err(DesiredRefusal::ImplausibleTime { issued, expires, now });
            assert_eq!(offered(issued, expires), implausible);
        }
        for issued in ["1970-01-01T00:00:00Z", "2027-07-06T00:00:00Z"] {
            assert!(matches!(offered(at(issued), far), Ok(Admitted::New { .. })), "{issued}");
        }
    }

    #[test]
    fn a_foreign_key_signs_nothing() {
        let under = DesiredRefusal::Signature(SignatureError::UnderThreshold { found: 0, threshold: 1 });
        assert_eq!(
            Device::new().admit(&signed::sign(&state(), &[&SigningKey::generate().unwrap()]).unwrap()),
            Err(under)
        );
    }

    #[test]
    fn generations_only_grow_and_never_fork() {
        let mut device = Device::new();
        let bytes = signed::sign(&state(), &[&device.key]).unwrap();
        let Ok(Admitted::New { floor, .. }) = device.admit(&bytes) else { panic!("a new state is admitted") };
        device.floor = floor;
        assert!(matches!(device.admit(&bytes), Ok(Admitted::Same(_))));
        let fork = device.offered(|s| s.models.clear());
        assert_eq!(fork, Err(DesiredRefusal::Equivocation(Generation(5))));
        let old = DesiredRefusal::OldGeneration { offered: Generation(4), floor: Generation(5) };
        assert_eq!(device.offered(|s| s.generation = Generation(4)), Err(old));
        assert!(matches!(device.offered(|s| s.generation = Generation(6)), Ok(Admitted::New { .. })));
    }

    #[test]
    fn a_floor_without_a_state_admits_its_own_generation() {
        let mut device = Device::new();
        device.floor = GenerationFloor { generation: Generation(5), digest: None };
        assert!(matches!(device.offered(|_| {}), Ok(Admitted::New { floor, .. }) if floor.digest.is_some()));
        let old = DesiredRefusal::OldGeneration { offered: Generation(4), floor: Generation(5) };
        assert_eq!(device.offered(|s| s.generation = Generation(4)), Err(old));
    }

    #[test]
    fn two_teams_cannot_claim_one_name_on_a_device() {
        let add = |s: &mut DesiredState| {
            let mut twin = s.models[0].clone();
            twin.model = "other/m".parse().unwrap();
            s.models.push(twin);
        };
        assert_eq!(Device::new().offered(add), Err(DesiredRefusal::BadModelList));
    }
}
