//! What a device's own events become among the events of the fleet.
//!
//! A twin says at once what runs and what was refused, so a report's `Activated` and `Refused` would tell the same twice.
//! What no twin tells comes from here: probation passed, taken back, a worker that died, an outbox that began anew.

use tern_protocol::{
    ids::{DeviceId, ModelVersion},
    report::v1::{Event, EventKind as Kind, Stream},
};

use crate::{events::EventKind, store::NewEvent};

/// The fleet's event, where there is something to tell.
pub(super) fn event(device: &DeviceId, event: &Event) -> Option<NewEvent> {
    let told = match &event.kind {
        Kind::Activated { .. } | Kind::Refused { .. } => return None,
        Kind::Committed { model, version } => {
            let of = ModelVersion { name: model.clone(), version: version.clone() };
            NewEvent::new(EventKind::VersionCommitted, "survived probation").of_version(&of)
        }
        Kind::TakenBack { model, version, to, code } => {
            let of = ModelVersion { name: model.clone(), version: version.clone() };
            let now = to.as_ref().map_or_else(|| "nothing answers now".into(), |to| format!("{to} answers now"));
            NewEvent::new(EventKind::VersionTakenBack, now).of_version(&of).coded(code.as_str())
        }
        Kind::WorkerRestarted { cause } => NewEvent::new(EventKind::WorkerRestarted, cause.clone()),
        Kind::NewStream { previous } => {
            let before = previous.map_or_else(|| "an unknown one".into(), |Stream(id)| hex::encode(id));
            NewEvent::new(EventKind::OutboxRenewed, format!("in place of {before}"))
        }
    };
    Some(told.by(device.as_str()).of_device(device))
}

#[cfg(test)]
mod tests {
    use tern_protocol::{
        ids::{Generation, ModelName, Version},
        refusal::RefusalCode,
    };

    use super::*;

    #[test]
    fn only_what_no_twin_tells_is_told() {
        let device: DeviceId = "cam-1".parse().unwrap();
        let model: ModelName = "demo/m".parse().unwrap();
        let version: Version = "1.1.0".parse().unwrap();
        let to = Some("1.0.0".parse().unwrap());
        let of = |kind| event(&device, &Event { at_ms: 1, generation: Generation(4), kind });
        assert!(of(Kind::Activated { model: model.clone(), version: version.clone(), previous: None }).is_none());
        let code = RefusalCode::ProbationFailed;
        let told = of(Kind::TakenBack { model, version, to, code }).unwrap();
        assert_eq!((told.kind, told.code), (EventKind::VersionTakenBack, code.as_str()));
        assert_eq!((told.message.as_str(), told.device), ("1.0.0 answers now", Some(device.clone())));
        assert_eq!(told.version, Some("1.1.0".parse().unwrap()));
        let told = of(Kind::NewStream { previous: Some(Stream([0xab; 16])) }).unwrap();
        assert!(told.message.ends_with(&"ab".repeat(16)) && told.actor == "cam-1");
    }
}
