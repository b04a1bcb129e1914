//! What `tern model check` found, for people and programs.

use serde::Serialize;
use tern_engine::Inspection;

use super::{
    Answers, Place,
    columns::Bound,
    description::Draft,
    quality::Quality,
    table::Table,
    trial::{Figures, Tried},
};
use crate::{
    bundle::{self, DESCRIPTION},
    cli::output::Printer,
    wording::{count, size},
};

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Checked<'c> {
    model: String,
    facts: &'c Inspection,
    /// Who gave the expected answers.
    golden_by: String,
    /// Whether those are another program's than the engine's.
    independent: bool,
    golden_sets: usize,
    largest_absolute: f64,
    largest_relative: f64,
    load_us: u64,
    #[serde(flatten)]
    figures: Figures,
    reference_rows: Option<usize>,
    metrics: Vec<(&'static str, f64)>,
    warnings: Vec<String>,
    written: String,
    /// What keeps the folder from being published as it is.
    not_publishable: Option<String>,
}

impl<'c> Checked<'c> {
    #[expect(clippy::too_many_arguments, reason = "it gathers what a run has found, and is made in one place")]
    pub(super) fn new(
        place: &Place,
        facts: &'c Inspection,
        draft: &Draft<'_>,
        answers: &Answers,
        tried: &Tried,
        quality: Option<Quality>,
        bound: Option<&Bound<'_>>,
        table: Option<&Table>,
    ) -> Self {
        let read = bundle::read(&place.folder);
        Self {
            model: place.shown(),
            facts,
            golden_by: answers.by.clone(),
            independent: answers.is_independent,
            golden_sets: draft.sets,
            largest_absolute: answers.agreement.absolute.min(f64::MAX),
            largest_relative: answers.agreement.relative.min(f64::MAX),
            load_us: tried.load_us,
            figures: tried.figures,
            reference_rows: table.map(|table| table.rows.len()),
            warnings: warnings(answers, tried, quality.as_ref(), bound, table, draft),
            metrics: quality.map(|quality| quality.metrics).unwrap_or_default(),
            written: place.folder.join(DESCRIPTION).display().to_string(),
            not_publishable: read.err().map(|error| error.to_string()),
        }
    }

    pub(super) fn tell(&self, printer: &mut Printer<'_>) -> anyhow::Result<()> {
        printer.result(self, |p| {
            let ms = |us: u64| format!("{}.{:03} ms", us / 1_000, us % 1_000);
            let mut facts = vec![
                ("model", format!("{}, {}", self.model, size(self.facts.file_bytes))),
                ("engine", format!("runs it; loaded in {}", ms(self.load_us))),
                ("answers", self.answers()),
                (
                    "one row",
                    format!(
                        "p50 {}, p99 {} of {} calls",
                        ms(self.figures.p50_us),
                        ms(self.figures.p99_us),
                        self.figures.calls
                    ),
                ),
                ("memory", size(self.figures.peak_rss_bytes)),
            ];
            facts.extend(self.reference_rows.map(|rows| ("reference", count(rows, "row"))));
            facts.extend(self.metrics.iter().map(|(name, value)| (*name, format!("{value:.4}"))));
            p.facts(&facts)?;
            self.warnings.iter().try_for_each(|warning| p.note(&format!("note: {warning}")))?;
            p.line(&format!("wrote {} and {}", self.written, count(self.golden_sets, "golden vector")))?;
            match &self.not_publishable {
                None => p.line("next: edit it (model, training, ranges), then `tern model publish` its folder"),
                Some(why) => p.line(&format!("next: edit it; as it is it cannot be published: {why}")),
            }
        })
    }

    fn answers(&self) -> String {
        let apart = format!("largest difference {:.1e}, relative {:.1e}", self.largest_absolute, self.largest_relative);
        if self.independent { format!("agree with {}: {apart}", self.golden_by) } else { "of the engine alone".into() }
    }
}

/// What somebody should know before relying on it.
fn warnings(
    answers: &Answers,
    tried: &Tried,
    quality: Option<&Quality>,
    bound: Option<&Bound<'_>>,
    table: Option<&Table>,
    draft: &Draft<'_>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(why) = &answers.why {
        warnings.push(format!("golden vectors are the engine's own answers, which checks nothing {why}"));
    }
    if bound.is_none() {
        warnings.push(
            "inputs were made up, and no ranges are known: give rows that the model is meant for with --reference"
                .into(),
        );
    }
    if let (Some(table), Some(bound)) = (table, bound) {
        if table.is_cut {
            warnings.push(format!("only the first {} of the reference were looked at", count(table.rows.len(), "row")));
        }
        if !bound.left.is_empty() {
            warnings.push(format!("columns that no input takes: {}", bound.left.join(", ")));
        }
        if table.rows.len() < draft.sets {
            warnings
                .push(format!("{} are few: some golden vectors mix cells of several", count(table.rows.len(), "row")));
        }
        let is_labelled = draft.reference.as_ref().is_some_and(|reference| reference.label.is_some());
        match quality {
            None if is_labelled => warnings.push(
                "answers could not be held against the labels: the model has neither a class nor a single number a row, or the labels are not of its kind"
                    .into(),
            ),
            Some(Quality { unanswered, .. }) if !unanswered.is_empty() => warnings.push(format!(
                "labels that the model answers to no row: {}; are they written as its classes are, or do the columns stand in another order?",
                unanswered.join(", ")
            )),
            _ => {}
        }
    }
    if !tried.lacking.is_empty() {
        warnings.push(format!(
            "this kernel lacks a part of the sandbox that the model ran in: {}",
            tried.lacking.join("; ")
        ));
    }
    warnings
}
