//! The detector's state as bytes and back. What cannot be read back, or is not sound under the profile, begins anew.
//!
//! The bytes are postcard of the types of [`super::watch`] and [`super::device`], under their format number: a change of
//! those types is a new number, and states of another number are not read.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, ModelVersion},
    report::v1::Item,
};

use super::{
    detector::{Committed, Detector, Run, Standard, Subject, Touched},
    incidents::{Change, Incident},
    watch::{FORMAT, Watch},
};
use crate::{
    forms::incident::IncidentKind,
    store::{Advance, DetectorState, DeviceState, IncidentChange, RunState, TelemetryRow, VersionState},
};

/// The hooks that an incident's change calls, each with the occasion.
pub type Policy = Arc<dyn Fn(IncidentKind, &Incident, Change) -> Vec<(&'static str, &'static str)> + Send + Sync>;

/// A stored row as the detector takes it.
fn committed(row: TelemetryRow) -> Committed {
    let item = match postcard::take_from_bytes::<Item>(&row.item) {
        Ok((item, [])) => Some(item),
        Ok(_) | Err(_) => {
            tracing::warn!(row = row.id, device = %row.device, "a row of telemetry cannot be read; it is left out");
            None
        }
    };
    Committed { id: row.id, device: row.device, model: row.model, received: row.received, item }
}

/// The detector as it was written down. `standard` gives what a version is held against.
pub fn restore(state: DetectorState, standard: impl Fn(&ModelVersion) -> Standard) -> Detector {
    let mut detector = Detector { cursor: state.cursor, ..Detector::default() };
    for version in state.versions {
        let mut subject = Subject::new(standard(&version.model));
        if let Some((judge, watch)) = &mut subject.watching {
            let kept = version.state.filter(|(format, _)| *format == FORMAT);
            let kept = kept.and_then(|(_, bytes)| postcard::from_bytes::<Watch>(&bytes).ok());
            match kept.filter(|kept| kept.is_sound(judge)) {
                Some(kept) => *watch = kept,
                None => tracing::warn!(model = %version.model, "the detectors of a version begin anew"),
            }
        }
        detector.subjects.insert(version.model, subject);
    }
    for device in state.devices {
        let bytes = device.state.filter(|(format, _)| *format == FORMAT).map(|(_, bytes)| bytes);
        let Some((subject, bytes)) = detector.subjects.get_mut(&device.model).zip(bytes) else { continue };
        subject.devices.insert(device.device.clone());
        let Some((judge, watch)) = &mut subject.watching else { continue };
        match postcard::from_bytes::<super::device::DeviceWatch>(&bytes).ok().filter(|kept| kept.is_sound(judge)) {
            Some(kept) => drop(watch.devices.insert(device.device, kept)),
            None => tracing::warn!(model = %device.model, device = %device.device, "its detectors begin anew"),
        }
    }
    for run in state.runs {
        if let Some(subject) = detector.subjects.get_mut(&run.model) {
            subject.devices.insert(run.device.clone());
        }
        let value = Run { version: run.model.version, in_a_row: run.in_a_row };
        detector.runs.insert((run.device, run.model.name), value);
    }
    for open in state.open {
        if let Some(subject) = detector.subjects.get_mut(&open.model) {
            subject.open.insert(open.kind, open.incident);
        }
    }
    detector
}

/// Takes in a batch of rows, and then the time up to `until` in milliseconds since 1970 where no row says it; returns what is to be
/// written in one transaction.
pub fn batch(detector: &mut Detector, rows: Vec<TelemetryRow>, until: Option<i64>, policy: &Policy) -> Advance {
    let (from, mut touched) = (detector.cursor, Touched::default());
    rows.into_iter().map(committed).for_each(|row| detector.take(row, &mut touched));
    if let Some(until) = until {
        detector.pass(until, &mut touched);
    }
    advance(detector, from, touched, policy)
}

/// What a batch changed, to be written in one transaction.
pub fn advance(detector: &Detector, from: i64, touched: Touched, policy: &Policy) -> Advance {
    Advance {
        from,
        cursor: detector.cursor,
        versions: versions(detector, &touched.versions),
        devices: touched.devices.iter().map(|(model, device)| device_state(detector, model, device)).collect(),
        runs: touched
            .runs
            .into_iter()
            .filter_map(|key| {
                let run = detector.runs.get(&key)?;
                let model = ModelVersion { name: key.1, version: run.version.clone() };
                Some(RunState { device: key.0, model, in_a_row: run.in_a_row })
            })
            .collect(),
        changes: touched
            .changes
            .into_iter()
            .map(|(model, kind, incident, change, at)| IncidentChange {
                hooks: policy(kind, &incident, change),
                model,
                kind,
                incident,
                change,
                at: Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH),
            })
            .collect(),
    }
}

fn versions(detector: &Detector, touched: &BTreeSet<ModelVersion>) -> Vec<VersionState> {
    let of = |model: &ModelVersion| {
        let subject = detector.subjects.get(model)?;
        let state = subject.watching.as_ref().map(|(_, watch)| (FORMAT, bytes(watch)));
        Some(VersionState {
            model: model.clone(),
            status: subject.status.into(),
            windows: subject.windows(),
            devices: subject.devices.len() as u64,
            figures: subject.figures(),
            state,
        })
    };
    touched.iter().filter_map(of).collect()
}

fn device_state(detector: &Detector, model: &ModelVersion, device: &DeviceId) -> DeviceState {
    let state = detector.device(model, device).map(|watch| (FORMAT, bytes(watch)));
    DeviceState { model: model.clone(), device: device.clone(), state }
}

fn bytes(state: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(state).expect("invariant: our states have known lengths only")
}
