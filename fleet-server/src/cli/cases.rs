//! `tern model test`: every model below some folders against its own test cases, in ONNX's layout.
//!
//! Each model is run in a process of its own, see [`confined`](super::confined): whatever a model does, it is a line about
//! that model and the rest go on. Deciding what a case came to is [`trial`]'s.

mod find;
mod trial;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::bail;
use serde::Serialize;
use tern_engine::golden::Tolerance;

pub(super) use trial::{Header, carry_out};

use super::{
    args,
    confined::{self, Itself, Order, Said, Work},
    output::Printer,
};
use crate::wording::count;
use find::Folder;
use trial::{Line, Outcome, Verdict};

/// Floats agree by default if |got - want| <= absolute + relative * |want|: what ONNX's own backend tests ask.
const ABSOLUTE: f64 = 1e-5;
/// See [`ABSOLUTE`].
const RELATIVE: f64 = 1e-3;

/// What a case came to, for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    model: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// How often each outcome was seen.
#[derive(Debug, Default, Serialize)]
struct Summary {
    models: usize,
    cases: usize,
    pass: usize,
    wrong: usize,
    unsupported: usize,
    error: usize,
    /// Cases, whatever their outcome, in which all inputs but the first had to be constants.
    constants: usize,
    /// What the kernel lacks of the sandbox that the models ran in.
    lacking: Vec<String>,
    /// How often each operator or type was missing, in cases.
    missing: BTreeMap<String, usize>,
}

impl Summary {
    fn see(&mut self, verdict: &Verdict) {
        self.cases += 1;
        self.constants += usize::from(verdict.constants);
        match &verdict.outcome {
            Outcome::Pass { .. } => self.pass += 1,
            Outcome::Wrong { .. } => self.wrong += 1,
            Outcome::Unsupported { lacks } => {
                self.unsupported += 1;
                lacks.iter().for_each(|what| *self.missing.entry(what.clone()).or_insert(0) += 1);
            }
            Outcome::Error { .. } => self.error += 1,
        }
    }
}

/// How models are tested.
#[derive(Debug, Clone, Copy)]
struct Rules {
    absolute: f64,
    relative: f64,
    /// Whether a case without an answer is tried again with its inputs but the first as constants.
    constants: bool,
    /// Most time for a model.
    wall: Duration,
}

pub(super) async fn run(order: &args::Test, itself: Option<&Itself>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let rules = Rules {
        absolute: order.atol.or(order.tolerance).unwrap_or(ABSOLUTE),
        relative: order.rtol.or(order.tolerance).unwrap_or(RELATIVE),
        constants: order.constants,
        wall: order.time_limit,
    };
    if Tolerance::new(rules.absolute, rules.relative).is_none() {
        bail!("a tolerance is a finite number that is not negative");
    }
    let mut folders = Vec::new();
    for place in &order.folders {
        folders.extend(find::below(place)?);
    }
    let mut summary = Summary { models: folders.len(), ..Summary::default() };
    for folder in &folders {
        let name = shown(&folder.path);
        printer.progress(&name);
        let (verdicts, lacking) = test(folder, rules, itself).await;
        printer.progress("");
        summary.lacking.extend(lacking.into_iter().filter(|what| !summary.lacking.contains(what)).collect::<Vec<_>>());
        for verdict in &verdicts {
            summary.see(verdict);
            tell(&Told { model: &name, verdict }, printer)?;
        }
    }
    conclude(&summary, printer)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What each case of a model came to, and what its process lacked of the sandbox.
async fn test(folder: &Folder, rules: Rules, itself: Option<&Itself>) -> (Vec<Verdict>, Vec<String>) {
    let Rules { absolute, relative, constants, wall } = rules;
    let names = || folder.sets.iter().map(|set| set.name.clone());
    let (files, cases) = match folder.read() {
        Ok(read) => read,
        Err(error) => {
            let message = format!("{error:#}");
            let failed = |case| Verdict::error(case, &message);
            return (names().map(failed).collect(), Vec::new());
        }
    };
    let header = Header { absolute, relative, constants, cases };
    // A fraction of a second more would be no bound that a person means.
    let cpu_seconds = wall.as_secs().max(1);
    let Said { bytes, end } =
        confined::run(&Order { work: Work::Cases(header), files, cpu_seconds, wall }, itself).await;
    let (mut verdicts, mut lacking) = (BTreeMap::new(), Vec::new());
    for line in bytes.split(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line::Lacking(what)) => lacking = what,
            Ok(Line::Verdict(verdict)) => drop(verdicts.insert(verdict.case.clone(), verdict)),
            // The last line of one that died.
            Err(_) => {}
        }
    }
    let message = match end {
        Ok(()) => "the process that ran the model said nothing of this case".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let verdict = |case: String| {
        let said = verdicts.remove(&case);
        said.unwrap_or_else(|| Verdict::error(case, &message))
    };
    (names().map(verdict).collect(), lacking)
}

fn tell(told: &Told<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    if printer.is_json() {
        return line(told, printer);
    }
    let Verdict { case, constants, outcome } = told.verdict;
    let constants = if *constants { ", inputs but the first as constants" } else { "" };
    printer.line(&format!("{:11}  {}  {case}  {}{constants}", outcome.word(), told.model, outcome.details()))
}

/// One line of JSON.
fn line<T: Serialize>(form: &T, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(form)?;
    text.push(b'\n');
    printer.raw(&text)
}

fn conclude(summary: &Summary, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    if !summary.lacking.is_empty() {
        let lacking = summary.lacking.join("; ");
        printer.note(&format!("warning: this kernel lacks a part of the sandbox that models ran in: {lacking}"))?;
    }
    if printer.is_json() {
        #[derive(Serialize)]
        struct Form<'a> {
            summary: &'a Summary,
        }
        line(&Form { summary }, printer)?;
    } else {
        let Summary { pass, wrong, unsupported, error, .. } = summary;
        let of = format!("{} of {}", count(summary.cases, "case"), count(summary.models, "model"));
        printer.line(&format!("{of}: {pass} pass, {wrong} wrong, {unsupported} unsupported, {error} error"))?;
        let missing: Vec<_> = summary.missing.iter().map(|(what, times)| format!("{what} {times}")).collect();
        if summary.constants > 0 {
            printer.line(&format!("{} of them with all inputs but the first as constants", summary.constants))?;
        }
        if !missing.is_empty() {
            printer.line(&format!("missing, in cases: {}", missing.join(", ")))?;
        }
    }
    match summary.cases - summary.pass {
        0 => Ok(()),
        failed => bail!("{failed} of {} did not pass", count(summary.cases, "case")),
    }
}
