//! What happened to a model, read off its commit record before and after a step; and what was told of it already.
//!
//! An event says something once: what is tried again and fails again is counted in the twin.

use std::collections::BTreeSet;

use tern_protocol::{
    ids::{Generation, ModelName, Version},
    refusal::RefusalCode,
    report::v1::{Event, EventKind},
    twin::LastError,
};

use crate::state::ModelRecord;

/// What happened between two records of a model.
pub fn between(model: &ModelName, before: &ModelRecord, after: &ModelRecord) -> Vec<EventKind> {
    let mut events = Vec::new();
    let error = after.last_error.as_ref().filter(|e| Some(*e) != before.last_error.as_ref());
    let moved = before.active != after.active;
    let took_over = moved && after.active.is_some() && after.active == before.candidate;
    // What gave up its place without a candidate, and with an error that names it, was taken back.
    let lost = before.active.as_ref().filter(|_| moved && !took_over);
    let taken_back =
        lost.and_then(|lost| error.filter(|e| e.version.as_ref() == Some(&lost.version)).map(|e| (lost, e)));
    if let Some(active) = after.active.as_ref().filter(|_| took_over) {
        events.push(EventKind::Activated {
            model: model.clone(),
            version: active.version.clone(),
            previous: before.active.as_ref().map(|a| a.version.clone()),
        });
    }
    if let Some((lost, error)) = taken_back {
        events.push(EventKind::TakenBack {
            model: model.clone(),
            version: lost.version.clone(),
            to: after.active.as_ref().map(|a| a.version.clone()),
            code: error.code,
        });
    } else if let Some(error) = error {
        events.push(refused(Some(model), error));
    }
    let survived = !moved && !before.proven && after.proven;
    if let Some(active) = after.active.as_ref().filter(|_| survived) {
        events.push(EventKind::Committed { model: model.clone(), version: active.version.clone() });
    }
    events
}

/// The event of a refusal.
pub fn refused(model: Option<&ModelName>, error: &LastError) -> EventKind {
    let LastError { code, message, version, .. } = error.clone();
    EventKind::Refused { model: model.cloned(), version, code, message }
}

/// The event that says that something was lost here.
pub fn loss(message: String, at_ms: i64, generation: Generation) -> Event {
    let kind = EventKind::Refused { model: None, version: None, code: RefusalCode::NoSpace, message };
    Event { at_ms, generation, kind }
}

/// Refusals that were told, so that none is told for every try.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<(Option<ModelName>, Option<Version>, Generation, RefusalCode)>);

/// Refusals that are remembered. More than that many different ones are told anew.
const MOST_TOLD: usize = 256;

impl Told {
    /// Whether this is to be told: all but refusals that were.
    pub fn is_new(&mut self, kind: &EventKind, generation: Generation) -> bool {
        let EventKind::Refused { model, version, code, .. } = kind else { return true };
        if self.0.len() >= MOST_TOLD {
            self.0.clear();
        }
        self.0.insert((model.clone(), version.clone(), generation, *code))
    }
}
