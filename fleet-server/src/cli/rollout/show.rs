//! Rollouts as people read them.

use super::super::output::Printer;
use crate::{
    forms::rollouts::{RolloutDetail, RolloutDevice, RolloutHistory, RolloutPlan, RolloutRow},
    rollout::{Action, Actor, Change, Phase, Tally},
    wording::count,
};

/// Devices that a line of a plan names.
const NAMED: usize = 12;

/// The rollout in one line.
pub(super) fn summary(row: &RolloutRow) -> String {
    let phase = match row.phase {
        Phase::Running | Phase::Paused | Phase::Held => format!("{}, stage {} of {}", row.phase, row.stage, row.stages),
        phase => phase.to_string(),
    };
    let held = row.held.as_ref().map(|held| format!(": {held}")).unwrap_or_default();
    format!("{}  {}  {phase}{held}", row.id, row.model)
}

pub(super) fn list(rows: &[RolloutRow], printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let lines = rows.iter().map(|row| {
        vec![
            row.id.to_string(),
            row.model.to_string(),
            row.selector.clone(),
            row.phase.to_string(),
            format!("{}/{}", row.stage, row.stages),
            row.created_by.clone(),
            printer.when(row.created),
            row.reason.clone(),
        ]
    });
    let lines = lines.collect();
    let header = ["ROLLOUT", "MODEL", "TO", "PHASE", "STAGE", "BY", "CREATED", "REASON"];
    printer.table(&header, lines, "no rollouts: make one with `tern rollout create`")
}

pub(super) fn detail(detail: &RolloutDetail, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let (row, evidence) = (&detail.row, &detail.evidence);
    let mut facts = vec![
        ("rollout", row.id.to_string()),
        ("model", row.model.to_string()),
        ("devices", format!("{} of {}", tally(&evidence.tally), row.selector)),
        ("phase", format!("{}, stage {} of {}", row.phase, row.stage, row.stages)),
        ("why", row.held.clone().unwrap_or_else(|| detail.why.clone())),
        ("budget", format!("{} of {} may fail or fall silent", evidence.bad_allowed, evidence.quota)),
        ("made", format!("{} by {}: {}", printer.when(row.created), row.created_by, row.reason)),
    ];
    let gates = evidence.gates.values().map(|gate| gate.detail.clone()).collect::<Vec<_>>().join("; ");
    if !gates.is_empty() {
        facts.push(("gates", gates));
    }
    if let Some(next) = detail.next {
        facts.push(("looks again", printer.when(next)));
    }
    printer.facts(&facts)?;
    let rows = detail.rows.iter().map(|device| device_row(device, printer)).collect();
    let header = ["DEVICE", "CLASS", "STAGE", "STANDS", "CODE", "RUNNING", "DEMANDED", "ONLINE", "ASSIGNED"];
    printer.table(&header, rows, "no device: look at the selector")
}

fn device_row(device: &RolloutDevice, printer: &Printer<'_>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![
        device.device.to_string(),
        device.class.to_string(),
        or_dash(device.stage.map(|stage| stage.to_string())),
        stands(device),
        or_dash(device.code.map(|code| code.as_str().to_owned())),
        or_dash(device.running.as_ref().map(ToString::to_string)),
        or_dash(device.desired.as_ref().map(ToString::to_string)),
        if device.online { "yes" } else { "no" }.into(),
        or_dash(device.assigned.map(|at| printer.when(at))),
    ]
}

fn stands(device: &RolloutDevice) -> String {
    match device.taken_back {
        Some(_) => format!("{}, taken back", device.stands),
        None => device.stands.clone(),
    }
}

/// The counts that are not zero.
pub(super) fn tally(tally: &Tally) -> String {
    let counts = [
        (tally.survived, "survived"),
        (tally.failed, "failed"),
        (tally.rejected, "rejected"),
        (tally.silent, "silent"),
        (tally.idle, "idle"),
        (tally.pending, "pending"),
        (tally.waiting, "waiting"),
        (tally.unreached, "unreached"),
        (tally.held_back, "held back"),
        (tally.already, "had it already"),
        (tally.excluded, "excluded"),
        (tally.left, "left"),
        (tally.returned, "returned"),
        (tally.outstanding, "not back yet"),
    ];
    let told: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if told.is_empty() { "none".into() } else { told.join(", ") }
}

pub(super) fn plan(plan: &RolloutPlan, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    if plan.as_if_started {
        printer.note("it is not started: this is what its start would do")?;
    }
    for (n, devices) in plan.stages.iter().enumerate() {
        let named: Vec<_> = devices.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match devices.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        printer.line(&format!("stage {}  {}: {}{more}", n + 1, count(devices.len(), "device"), named.join(", ")))?;
    }
    let rows = plan.plan.actions.iter().map(action).collect();
    printer.table(&["DO", "DEVICE", "WHAT"], rows, "nothing is to be done now")?;
    printer.line(&format!("verdict     {}", plan.plan.verdict.why))
}

fn action(action: &Action) -> Vec<String> {
    let (what, device, why) = match action {
        Action::Settle { device, outcome, code } => {
            let code = code.map(|code| format!(", {}", code.as_str())).unwrap_or_default();
            ("settle", Some(device), format!("{}{code}", outcome.as_str()))
        }
        Action::TakeBack { device, to, .. } => {
            let to = to.as_ref().map_or_else(|| "remove the model".into(), |version| format!("back to {version}"));
            ("take back", Some(device), to)
        }
        Action::Assign { device, stage, previous, .. } => {
            let from = previous.as_ref().map(|version| format!(", from {version}")).unwrap_or_default();
            ("assign", Some(device), format!("stage {}{from}", stage.saturating_add(1)))
        }
        Action::Bake { stage } => ("watch", None, format!("stage {}", stage.saturating_add(1))),
        Action::Promote { stage, why } => ("promote", None, format!("stage {}: {why}", stage.saturating_add(1))),
        Action::Hold { reason } => ("hold", None, reason.to_string()),
        Action::Abort { reason } => ("abort", None, reason.to_string()),
        Action::Finish { why } => ("finish", None, why.clone()),
    };
    vec![what.into(), device.map_or_else(|| "-".into(), ToString::to_string), why]
}

pub(super) fn verdicts(lines: &[RolloutHistory], printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let rows = lines.iter().map(|line| {
        let grounds = line.verdict.as_ref().map(|verdict| tally(&verdict.evidence.tally));
        vec![
            printer.when(line.entry.at),
            who(&line.entry.who),
            change(line.entry.what),
            line.entry.why.clone(),
            grounds.unwrap_or_else(|| "-".into()),
        ]
    });
    let rows = rows.collect();
    printer.table(&["AT", "WHO", "WHAT", "WHY", "GROUNDS"], rows, "nothing happened")
}

/// A change in one line, with the time of day.
pub(super) fn happened(line: &RolloutHistory) -> String {
    let at = line.entry.at.to_string();
    let time = at.get(11..19).unwrap_or_default();
    format!("{time}  {}: {} ({})", change(line.entry.what), line.entry.why, who(&line.entry.who))
}

fn who(actor: &Actor) -> String {
    match actor {
        Actor::Person(name) => name.clone(),
        Actor::Planner => "planner".into(),
    }
}

fn change(change: Change) -> String {
    match change {
        Change::Created => "created".into(),
        Change::Verb(verb) => verb.to_string(),
        Change::Baking => "watching".into(),
        Change::Promoted(stage) => format!("stage {}", stage.saturating_add(1)),
        Change::Held => "held".into(),
        Change::Aborted => "aborted".into(),
        Change::Finished => "finished".into(),
    }
}
