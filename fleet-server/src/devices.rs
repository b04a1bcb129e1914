//! What a twin says that is new, and which of its refusals still stand: pure rules on twins.

use std::collections::BTreeMap;

use tern_protocol::{
    ids::{Generation, ModelName, ModelVersion},
    refusal::RefusalCode,
    twin::{LastError, ModelTwin, Twin},
};

pub mod delivery;
pub mod starts;

/// Most models in a twin: those demanded and those on their way out.
pub const MAX_TWIN_MODELS: usize = 2 * tern_protocol::desired::MAX_MODELS;
/// Most labels of a device.
pub const MAX_LABELS: usize = 64;

/// A refusal that was not in the twin before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefusal {
    /// The model it concerns; none for a desired state as a whole.
    pub model: Option<ModelName>,
    /// The refusal.
    pub error: LastError,
}

/// The refusals in `new` that `old` does not show: another code, version, generation or time. A risen count of the
/// same refusal is none.
pub fn new_refusals(old: Option<&Twin>, new: &Twin) -> Vec<NewRefusal> {
    let before = |model: Option<&ModelName>| match model {
        None => old.and_then(|twin| twin.last_error.as_ref()),
        Some(name) => {
            old.and_then(|twin| twin.models.iter().find(|m| m.model == *name)).and_then(|m| m.last_error.as_ref())
        }
    };
    let shown = std::iter::once((None, new.last_error.as_ref()))
        .chain(new.models.iter().map(|model| (Some(&model.model), model.last_error.as_ref())));
    shown
        .filter_map(|(model, error)| {
            let error = error?;
            let is_new = before(model).is_none_or(|old| !is_same(old, error));
            is_new.then(|| NewRefusal { model: model.cloned(), error: error.clone() })
        })
        .collect()
}

fn is_same(a: &LastError, b: &LastError) -> bool {
    (a.code, &a.version, a.generation, a.at) == (b.code, &b.version, b.generation, b.at)
}

/// A refusal in a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What the device said.
    pub error: &'a LastError,
    /// Whether it is about what is demanded now. Twins keep the newest refusal for ever: one that was overcome is past.
    pub stands: bool,
}

/// Every refusal that a twin shows, of its desired state (`of_state`) and of its models.
///
/// That of a model stands while the version that was refused is demanded and does not answer; that of a desired state while
/// the state is not taken over, or another one was under its number.
pub fn refusals<'a>(
    models: &'a [ModelTwin],
    of_state: Option<&'a LastError>,
    taken_over: Generation,
    demanded: Generation,
) -> impl Iterator<Item = Refusal<'a>> {
    let of_state = of_state.map(move |error| {
        let is_twofold = error.code == RefusalCode::Equivocation && error.generation == taken_over;
        Refusal { error, stands: taken_over != demanded || taken_over < error.generation || is_twofold }
    });
    of_state.into_iter().chain(models.iter().filter_map(|model| {
        let error = model.last_error.as_ref()?;
        let is_of_demanded = error.version.is_none() || error.version == model.desired;
        Some(Refusal { error, stands: model.desired.is_some() && model.version != model.desired && is_of_demanded })
    }))
}

/// The refusal to show where there is room for one: the newest that stands, or else the newest.
pub fn foremost<'a>(refusals: impl Iterator<Item = Refusal<'a>>) -> Option<Refusal<'a>> {
    refusals.max_by_key(|refusal| (refusal.stands, refusal.error.at))
}

/// The versions that answer on the device.
pub fn running(twin: &Twin) -> impl Iterator<Item = ModelVersion> {
    twin.models
        .iter()
        .filter_map(|model| model.version.clone().map(|version| ModelVersion { name: model.model.clone(), version }))
}

/// The versions that answer in `new` and did not in `old`.
pub fn newly_running(old: Option<&Twin>, new: &Twin) -> Vec<ModelVersion> {
    let before: BTreeMap<_, _> = old.into_iter().flat_map(running).map(|v| (v.name, v.version)).collect();
    running(new).filter(|v| before.get(&v.name) != Some(&v.version)).collect()
}

#[cfg(test)]
mod tests {
    use tern_protocol::{
        ids::Generation,
        refusal::RefusalCode,
        twin::{ModelState, ModelTwin},
    };

    use super::*;

    fn error(code: RefusalCode, at: &str, count: u64) -> LastError {
        let at = at.parse().unwrap();
        LastError { code, message: "m".into(), version: None, generation: Generation(3), at, count }
    }

    fn twin(version: Option<&str>, model_error: Option<LastError>, last_error: Option<LastError>) -> Twin {
        let model = ModelTwin {
            model: "demo/m".parse().unwrap(),
            version: version.map(|v| v.parse().unwrap()),
            digest: None,
            state: ModelState::Committed,
            desired: None,
            generation: Generation(3),
            since: "2026-06-01T00:00:00Z".parse().unwrap(),
            last_error: model_error,
        };
        Twin {
            generation: Generation(3),
            models: vec![model],
            device_class: "pi".parse().unwrap(),
            labels: Default::default(),
            agent_version: "1.0.0".into(),
            last_error,
        }
    }

    #[test]
    fn a_refusal_is_new_once() {
        let first = error(RefusalCode::WrongDevice, "2026-06-01T00:00:00Z", 1);
        let risen = LastError { count: 9, ..first.clone() };
        let later = error(RefusalCode::WrongDevice, "2026-06-01T00:00:09Z", 10);
        let old = twin(None, None, Some(first.clone()));
        assert_eq!(new_refusals(None, &old).len(), 1);
        assert_eq!(new_refusals(Some(&old), &twin(None, None, Some(risen))), []);
        assert_eq!(new_refusals(Some(&old), &twin(None, None, Some(later.clone())))[0].error, later);
        assert_eq!(new_refusals(Some(&old), &twin(None, None, None)), []);
        let other = error(RefusalCode::GoldenMismatch, "2026-06-01T00:00:00Z", 1);
        let found = new_refusals(Some(&old), &twin(None, Some(other), Some(first)));
        assert_eq!(found[0].model, Some("demo/m".parse().unwrap()));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_version_runs_newly_once() {
        let (none, one, two) =
            (twin(None, None, None), twin(Some("1.0.0"), None, None), twin(Some("2.0.0"), None, None));
        assert_eq!(newly_running(None, &one), ["demo/m@1.0.0".parse().unwrap()]);
        assert_eq!(newly_running(Some(&one), &one), []);
        assert_eq!(newly_running(Some(&one), &two), ["demo/m@2.0.0".parse().unwrap()]);
        assert_eq!(newly_running(Some(&one), &none), []);
    }

    #[test]
    fn a_refusal_stands_while_what_was_refused_is_demanded_and_not_there() {
        let of = |desired: Option<&str>, answers: &str, refused: Option<&str>| {
            let version = refused.map(|v| v.parse().unwrap());
            let error = LastError { version, ..error(RefusalCode::GoldenMismatch, "2026-01-01T00:00:00Z", 1) };
            let mut twin = twin(Some(answers), Some(error), None);
            twin.models[0].desired = desired.map(|v| v.parse().unwrap());
            refusals(&twin.models, None, Generation(3), Generation(3)).map(|refusal| refusal.stands).collect::<Vec<_>>()
        };
        assert_eq!(of(Some("1.1.0"), "1.0.0", Some("1.1.0")), [true]);
        assert_eq!(of(Some("1.1.0"), "1.0.0", None), [true]);
        assert_eq!(of(Some("1.0.0"), "1.0.0", Some("1.1.0")), [false], "it was taken back");
        assert_eq!(of(Some("1.2.0"), "1.0.0", Some("1.1.0")), [false], "another is demanded");
        assert_eq!(of(Some("1.1.0"), "1.1.0", Some("1.1.0")), [false], "it answers after all");
        assert_eq!(of(None, "1.0.0", Some("1.1.0")), [false], "nothing is demanded any more");
    }

    #[test]
    fn a_refused_state_stands_until_one_is_taken_over() {
        let of = |code, refused, taken_over, demanded| {
            let error = LastError { generation: Generation(refused), ..error(code, "2026-01-01T00:00:00Z", 1) };
            refusals(&[], Some(&error), Generation(taken_over), Generation(demanded)).next().unwrap().stands
        };
        use RefusalCode as C;
        assert!(of(C::Expired, 4, 3, 4) && of(C::Malformed, 0, 3, 4), "the device is behind");
        assert!(of(C::Expired, 4, 3, 3), "the server may have forgotten it; the device has not");
        assert!(!of(C::Expired, 4, 4, 4) && !of(C::OldGeneration, 2, 4, 4) && !of(C::Malformed, 0, 4, 4));
        assert!(of(C::Equivocation, 4, 4, 4) && !of(C::Equivocation, 4, 5, 5));
    }

    #[test]
    fn one_that_stands_is_shown_before_a_newer_one_that_is_past() {
        let (old, new) = (
            error(RefusalCode::Fetch, "2026-01-01T00:00:00Z", 1),
            error(RefusalCode::Fetch, "2026-02-01T00:00:00Z", 1),
        );
        let [standing, past] = [Refusal { error: &old, stands: true }, Refusal { error: &new, stands: false }];
        assert_eq!(foremost([standing, past].into_iter()), Some(standing));
        assert_eq!(foremost([past].into_iter()), Some(past));
        assert_eq!(foremost([].into_iter()), None);
    }
}
