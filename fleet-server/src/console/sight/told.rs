//! Records in the console's words: figures, rollouts, incidents. Pure.

use jiff::Timestamp;
use tern_protocol::ids::ModelVersion;
use tern_stats::calendar::{Calendar, Coverage};

use super::super::{
    chart::Chart,
    view::{
        EvidenceLine, Figures, IncidentLine, IncidentView, Listed, RolloutDevice, RolloutLine, RolloutView, Season,
        Severity, StageLine, VerdictLine,
    },
};
use crate::{
    forms::incident::{self, IncidentRow},
    ingest,
    rollout::{Actor, Advance, Change, Evidence, FleetSnapshot, Phase, Stage, Tally, plan, standings},
    store::{Happened, RolloutRecord},
    wording,
};

pub(super) fn figures(version: ModelVersion, tally: &ingest::Tally) -> Figures {
    Figures {
        version,
        inferences: tally.inferences,
        rows: tally.rows,
        errors: tally.errors,
        windows: tally.windows,
        labels: tally.labels,
        label_errors: tally.label_errors,
    }
}

/// What of the year a feature's reference knows.
pub(super) fn season(calendar: Option<&Calendar>, covered: &Coverage) -> Season {
    match calendar {
        None => Season::Timeless,
        Some(_) if covered.spans_year() => Season::Whole,
        Some(_) => Season::Part(wording::days_of_year(covered)),
    }
}

pub(super) fn rollout(record: &RolloutRecord) -> RolloutLine {
    let state = &record.state;
    RolloutLine {
        id: record.id.to_string(),
        target: record.target.clone(),
        phase: state.phase.as_str().into(),
        stage: state.stage.saturating_add(1),
        stages: record.policy.last_stage().saturating_add(1),
        tally: Vec::new(),
        created_by: state.created_by.clone(),
        created: record.created,
    }
}

/// The numbers, what has happened first.
pub(super) fn tally(tally: &Tally) -> Vec<(String, u64)> {
    let all = [
        ("survived", tally.survived),
        ("failed", tally.failed),
        ("rejected", tally.rejected),
        ("silent", tally.silent),
        ("idle", tally.idle),
        ("pending", tally.pending),
        ("waiting", tally.waiting),
        ("unreached", tally.unreached),
        ("had it before", tally.already),
        ("held back to compare", tally.held_back),
        ("excluded", tally.excluded),
        ("left", tally.left),
        ("returned", tally.returned),
        ("not yet back", tally.outstanding),
    ];
    all.into_iter().map(|(name, number)| (name.to_owned(), number as u64)).collect()
}

/// A rollout's page. `history` is newest first.
pub(super) fn rollout_view(
    record: &RolloutRecord,
    snapshot: &FleetSnapshot,
    history: Vec<Happened>,
    most: usize,
    now: Timestamp,
) -> RolloutView {
    let state = &record.state;
    let now_planned = plan(&record.policy, snapshot, now).verdict;
    let stands = standings(&record.policy, snapshot, now);
    let devices = stands.into_iter().take(most + 1).map(|(device, stand)| {
        let assignment = snapshot.devices.get(&device).and_then(|view| view.assignment.as_ref());
        RolloutDevice {
            device,
            stage: assignment.map(|a| a.stage.saturating_add(1)),
            outcome: stand.word.to_owned(),
            code: stand.code.map(|code| code.to_string()).unwrap_or_default(),
            since: assignment.map(|a| a.at),
        }
    });
    // The planner's words begin with the phase, which stands beside them already.
    let prefix = format!("{}: ", state.phase);
    let planned = now_planned.why.strip_prefix(&prefix).unwrap_or(&now_planned.why).to_owned();
    let ended = matches!(state.phase, Phase::Aborted | Phase::Denied | Phase::Undone);
    let last = history.first().filter(|_| ended).map(|happened| happened.entry.why.clone());
    let stages = record.policy.stages.iter().enumerate();
    RolloutView {
        line: RolloutLine { tally: tally(&now_planned.evidence.tally), ..rollout(record) },
        selector: record.selector.to_string(),
        reason: record.reason.clone(),
        cause: state.held.as_ref().map(ToString::to_string).or(last).or(state.phase.is_live().then_some(planned)),
        stages: stages.map(|(index, terms)| stage(index, terms, record)).collect(),
        devices: Listed::of(devices.collect(), most),
        verdicts: Listed::of(history.into_iter().map(verdict).collect(), most),
    }
}

fn stage(index: usize, terms: &Stage, record: &RolloutRecord) -> StageLine {
    let (index, at) = (u32::try_from(index).unwrap_or(u32::MAX), record.state.stage);
    let state = match record.state.phase {
        Phase::Created | Phase::Denied => "to come",
        Phase::Finished | Phase::Undone => "done",
        _ if index < at => "done",
        _ if index == at => "current",
        _ => "to come",
    };
    let by = match terms.advance {
        Advance::Auto => "",
        Advance::ByHand => ", promoted by hand",
    };
    let words = format!(
        "{} must survive {} inferences and {} s, watched {} s more{by}",
        terms.min_survivors, terms.probation.min_inferences, terms.probation.min_seconds, terms.bake_seconds
    );
    StageLine { number: index.saturating_add(1), share: terms.size.to_string(), terms: words, state }
}

fn verdict(happened: Happened) -> VerdictLine {
    let entry = happened.entry;
    let what = match entry.what {
        Change::Created => "created".to_owned(),
        Change::Verb(verb) => verb.as_str().to_owned(),
        Change::Baking => "settled".to_owned(),
        Change::Promoted(stage) => format!("promoted to stage {}", stage.saturating_add(1)),
        Change::Held => "held".to_owned(),
        Change::Aborted => "aborted".to_owned(),
        Change::Finished => "finished".to_owned(),
    };
    let by = match entry.who {
        Actor::Person(name) => name,
        Actor::Planner => "the planner".to_owned(),
    };
    let evidence = happened.verdict.map(|verdict| grounds(&verdict.evidence)).unwrap_or_default();
    VerdictLine { number: happened.number, at: entry.at, what, by, why: entry.why, evidence }
}

fn grounds(evidence: &Evidence) -> Vec<(String, String)> {
    let counted = tally(&evidence.tally).into_iter().filter(|(_, number)| *number > 0);
    let counted: Vec<_> = counted.map(|(name, number)| format!("{number} {name}")).collect();
    let mut lines = vec![
        ("devices".to_owned(), counted.join(", ")),
        ("reached".to_owned(), format!("{} of {} in the stage", evidence.reached, evidence.quota)),
        ("must survive".to_owned(), evidence.survivors_needed.to_string()),
        ("may fail".to_owned(), evidence.bad_allowed.to_string()),
    ];
    lines.extend(evidence.gates.iter().map(|(name, gate)| (format!("gate {name}"), gate.detail.clone())));
    lines.extend(evidence.troubles.iter().map(|trouble| {
        let code = trouble.code.map(|code| format!(" ({code})")).unwrap_or_default();
        (trouble.device.to_string(), format!("{}{code}", trouble.outcome.as_str()))
    }));
    lines
}

pub(super) fn incident(row: &IncidentRow) -> IncidentLine {
    IncidentLine {
        number: row.number,
        kind: row.kind.as_str().replace('-', " "),
        severity: match row.severity {
            incident::Severity::Notice => Severity::Notice,
            incident::Severity::Alarm => Severity::Alarm,
            incident::Severity::Critical => Severity::Critical,
        },
        is_open: row.state == "open",
        version: row.model.clone(),
        devices: row.devices.clone(),
        features: row.features.clone(),
        opened: row.opened,
        updated: row.updated,
        resolved: row.resolved,
    }
}

/// An incident's page.
pub(super) fn incident_view(row: &IncidentRow, charts: Vec<Chart>) -> IncidentView {
    let actions = row.actions.iter().map(|action| {
        let tries = wording::count(action.attempts as usize, "attempt");
        let detail = if action.detail.is_empty() { String::new() } else { format!(": {}", action.detail) };
        (Some(action.at), format!("{}, when {}: {} after {tries}{detail}", action.hook, action.occasion, action.state))
    });
    let resolution = row.resolution.map(|why| (row.resolved, format!("resolved: {}", why.says())));
    IncidentView {
        line: incident(row),
        since: Some(row.since),
        summary: row.summary.clone(),
        cause: sentence(row.cause.says()),
        evidence: Listed { rows: row.evidence.iter().map(evidence).collect(), more: false },
        actions: Listed { rows: actions.chain(resolution).collect(), more: false },
        acknowledged_by: row.acknowledged_by.clone(),
        muted_until: row.muted_until,
        mute_reason: row.mute_reason.clone(),
        charts,
    }
}

/// With a capital first, and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

fn evidence(evidence: &incident::Evidence) -> EvidenceLine {
    let device = evidence.device.as_ref().map(ToString::to_string);
    let subject: Vec<String> = evidence.feature.iter().cloned().chain(device).collect();
    let mut found = evidence.measure.clone();
    if let Some(direction) = evidence.direction {
        found.push_str(&format!(", {}", format!("{direction:?}").to_lowercase()));
    }
    if let Some(share) = evidence.share {
        found.push_str(&format!(": {:.1} %", share * 100.0));
        if let Some(of) = evidence.of {
            found.push_str(&format!(" of {of}"));
        }
        if let Some(limit) = evidence.limit {
            found.push_str(&format!(", at most {:.1} % is usual", limit * 100.0));
        }
    }
    match evidence.strength {
        Some(strength) if strength < 6.0 => {
            let times = 10f64.powf(strength);
            let digits = usize::from(times < 10.0);
            found.push_str(&format!(", {times:.digits$} times its threshold"));
        }
        Some(_) => found.push_str(", more than a million times its threshold"),
        None => {}
    }
    EvidenceLine { detector: evidence.layer.as_str().into(), subject: subject.join(" on "), found, at: evidence.at }
}
