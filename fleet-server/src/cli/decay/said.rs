//! The lines of a replay: an alarm each, then the summary.

use std::sync::Arc;

use jiff::{Timestamp, tz::Offset};
use serde::Serialize;
use tern_stats::{
    calendar::Calendar,
    hard::Breach,
    profile::{self, FeatureProfile},
    scores::Score,
    step::{Crossing, Direction},
};

use crate::{
    cli::output::Printer,
    decay::{
        judge::Judge,
        marks::{rule_name, score_name},
    },
    forms::incident::Severity,
    wording::count,
};

/// Which detector spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Hard,
    Step,
    Concurrent,
    Pooled,
    Calibration,
    Slo,
    Estimate,
}

/// A crossing of a threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "alarm")]
pub(super) struct Alarm<'a> {
    /// The device's window, from 0; of the fleet's mean the round.
    pub(super) window: u64,
    pub(super) start: Option<String>,
    pub(super) device: Option<&'a str>,
    pub(super) feature: Option<String>,
    pub(super) kind: Kind,
    /// Which score crossed, and its sign.
    pub(super) score: String,
    /// log10 of the detector over its threshold; of a hard rule, of the share over its limit.
    pub(super) evidence: f64,
    pub(super) severity: Severity,
}

impl Alarm<'_> {
    pub(super) fn line(&self) -> anyhow::Result<Vec<u8>> {
        line(self)
    }

    pub(super) fn words(&self) -> String {
        let start = self.start.as_deref().map(|start| format!(" ({start})")).unwrap_or_default();
        let device = self.device.map(|device| format!(" {device}")).unwrap_or_default();
        let feature = self.feature.as_deref().map(|feature| format!(" {feature}")).unwrap_or_default();
        let kind = format!("{:?}", self.kind).to_lowercase();
        let severity = self.severity.as_str();
        format!(
            "{severity}: window {}{start}{device}{feature}: {kind}, {}, {:+.2}",
            self.window, self.score, self.evidence
        )
    }
}

/// The last line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    windows: u64,
    alarms: u64,
    features: Vec<FeatureFact>,
    /// Whether the reference has times, so that anyone knows its season.
    #[serde(skip)]
    is_timed: bool,
}

#[derive(Debug, Serialize)]
struct FeatureFact {
    name: String,
    /// Constant bias found in ten windows, in reference standard deviations; of several profiles the largest.
    mde: Option<f64>,
    /// [Whether](season) the reference spans the calendar year; of several profiles whether all do.
    covered: bool,
}

impl Summary {
    pub(super) fn of(windows: u64, alarms: u64, judges: &[Arc<Judge>]) -> Self {
        let mut features: Vec<FeatureFact> = Vec::new();
        for feature in judges.iter().flat_map(|judge| judge.watched()) {
            let (mde, covered) = (feature.mde, feature.covered.spans_year());
            match features.iter_mut().find(|fact| fact.name == feature.name) {
                Some(fact) => {
                    fact.mde = fact.mde.zip(mde).map(|(a, b)| a.max(b));
                    fact.covered &= covered;
                }
                None => features.push(FeatureFact { name: feature.name.clone(), mde, covered }),
            }
        }
        let is_timed = judges.iter().all(|judge| judge.profile().calendar.is_some());
        Self { windows, alarms, features, is_timed }
    }

    pub(super) fn line(&self) -> anyhow::Result<Vec<u8>> {
        line(self)
    }

    pub(super) fn tell(&self, printer: &mut Printer<'_>) -> anyhow::Result<()> {
        let mde = |fact: &FeatureFact| fact.mde.map_or("-".into(), |mde| format!("{mde:.2} sd"));
        let row = |fact: &FeatureFact| vec![fact.name.clone(), mde(fact), season(fact.covered, self.is_timed).into()];
        let rows = self.features.iter().map(row).collect();
        printer.table(&["FEATURE", "SMALLEST BIAS FOUND", "SEASON COVERED"], rows, "nothing is watched")?;
        let alarms = count(usize::try_from(self.alarms).unwrap_or(usize::MAX), "alarm");
        printer.line(&format!("{} windows judged, {alarms}; quiet is never \"no decay\"", self.windows))
    }
}

/// What a reference has seen of the calendar year, for people: all of it where no hole is over 30 days.
pub(super) fn season(is_covered: bool, is_timed: bool) -> &'static str {
    match (is_covered, is_timed) {
        (true, _) => "whole year",
        (false, true) => "part of the year",
        (false, false) => "unknown",
    }
}

fn line(form: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(form)?;
    text.push(b'\n');
    Ok(text)
}

/// A moment as RFC 3339, by the device's own time where it is known; none outside the years that RFC 3339 can write.
pub(super) fn when(seconds: f64, calendar: Option<Calendar>) -> Option<String> {
    let time = Timestamp::from_millisecond((seconds * 1e3).round() as i64).ok()?;
    match calendar.map_or(0, |calendar| calendar.utc_offset) {
        0 => Some(time.to_string()),
        seconds => Some(time.display_with_offset(Offset::from_seconds(seconds).ok()?).to_string()),
    }
}

/// A score's name: of a category's share with that of the category.
pub(super) fn name(feature: &FeatureProfile, score: Score) -> String {
    match (score, &feature.kind) {
        (Score::Category(index), profile::Kind::Categorical(known)) => {
            format!("category:{}", known.names().get(usize::from(index)).map_or("", String::as_str))
        }
        (score, _) => score_name(score),
    }
}

/// Which score crossed, and its sign.
pub(super) fn score(feature: &FeatureProfile, crossing: &Crossing) -> String {
    let sign = if crossing.direction == Direction::Up { '+' } else { '-' };
    format!("{}{sign}", name(feature, crossing.score))
}

/// More errors than the confidences allow for, and than the objective does.
pub(super) const ERRORS_BY_CONFIDENCE: &str = "errors-by-confidence+";
pub(super) const ERRORS: &str = "errors+";

/// Which way the expected error rate went.
pub(super) fn estimated(crossing: &Crossing) -> String {
    format!("estimated-error{}", if crossing.direction == Direction::Up { '+' } else { '-' })
}

/// Which rule was broken, and by how much.
pub(super) fn hard(breach: &Breach) -> (String, f64) {
    (format!("{}+", rule_name(breach.rule)), (breach.share / breach.limit).log10())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use tern_stats::hard::Rule;

    use super::*;
    use crate::cli::args::Cli;

    /// Every score that an alarm can name, without the sign.
    fn scores() -> Vec<String> {
        let of_values = Score::NUMERIC.into_iter().chain([Score::EstimatedError]).map(score_name);
        let rules =
            [Rule::Missing, Rule::Flat, Rule::OutOfRange, Rule::UnknownCategory].map(|rule| rule_name(rule).into());
        let labels = [ERRORS_BY_CONFIDENCE, ERRORS].map(|score| score.trim_end_matches('+').to_owned());
        of_values.chain(rules).chain(labels).chain(["category:NAME".into()]).collect()
    }

    #[test]
    fn every_score_kind_and_severity_is_listed_for_readers() {
        let page = include_str!("../../../../docs/decay.md");
        let mut cli = Cli::command();
        let help = cli.find_subcommand_mut("decay").and_then(|decay| decay.find_subcommand_mut("replay")).unwrap();
        let help = help.render_long_help().to_string();
        for score in scores() {
            assert!(help.contains(&score), "replay --help lacks {score}");
            assert!([format!("`{score}±`"), format!("`{score}+`")].iter().any(|own| page.contains(own)), "{score}");
        }
        let kinds =
            [Kind::Hard, Kind::Step, Kind::Concurrent, Kind::Pooled, Kind::Calibration, Kind::Slo, Kind::Estimate];
        for kind in kinds {
            let name = serde_json::to_string(&kind).unwrap();
            let row = format!("| `{}` |", name.trim_matches('"'));
            assert!(page.contains(&row), "docs/decay.md has no row of {name}");
        }
        assert!(Severity::ALL.iter().all(|severity| page.contains(&format!("`{}`", severity.as_str()))));
    }

    #[test]
    fn moments_are_told_in_the_devices_own_time() {
        assert_eq!(when(86_400.0, None).unwrap(), "1970-01-02T00:00:00Z");
        assert_eq!(when(86_400.0, Some(Calendar::plain(0))).unwrap(), "1970-01-02T00:00:00Z");
        assert_eq!(when(86_400.0 - 7200.0, Some(Calendar::plain(7200))).unwrap(), "1970-01-02T00:00:00+02:00");
        assert_eq!(when(1e18, None), None);
    }
}
