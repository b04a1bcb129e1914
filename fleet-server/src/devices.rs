//! What a twin says that is new: pure comparison of one twin with the one before.

use std::collections::BTreeMap;

use tern_protocol::{
    ids::{ModelName, ModelVersion},
    twin::{LastError, Twin},
};

pub mod delivery;

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
}
