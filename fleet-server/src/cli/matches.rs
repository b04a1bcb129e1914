//! Right answers held against a model's: labels that are written otherwise than the classes match none, and a profile that is
//! fitted to them takes every answer for wrong and never warns.

use std::collections::BTreeSet;

use anyhow::ensure;
use tern_stats::labels::Labels;

/// Most different labels and answers that are told apart.
const MAX_KEPT: usize = 64;
/// Most of them that are named.
const MAX_NAMED: usize = 5;

/// Rows with a label, how many were answered otherwise, and what the two look like.
#[derive(Debug, Default)]
pub(super) struct Matches {
    rows: Labels,
    labels: BTreeSet<String>,
    answers: BTreeSet<String>,
}

impl Matches {
    /// Counts a row: its right answer, where one came, and the model's.
    pub(super) fn take(&mut self, label: Option<&str>, answer: Option<&str>, wrong: Option<bool>) {
        if let Some(wrong) = wrong {
            self.rows = Labels { n: self.rows.n + 1, errors: self.rows.errors + u64::from(wrong) };
        }
        keep(&mut self.labels, label);
        keep(&mut self.answers, answer);
    }

    /// # Errors
    /// Where no label is the answer to any row.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let is_answered = |label: &String| self.answers.iter().any(|answer| are_same(label, answer));
        ensure!(
            self.rows.n == 0 || self.rows.errors < self.rows.n || self.labels.iter().any(is_answered),
            "no label is the model's answer to any row: labels {}, answers {}: write labels as the model's classes are",
            named(&self.labels),
            named(&self.answers)
        );
        Ok(())
    }

    /// The share of labelled rows that were answered wrongly; none where there are no labels.
    pub(super) fn error_rate(&self) -> Option<f64> {
        (self.rows.n > 0).then(|| self.rows.errors as f64 / self.rows.n as f64)
    }

    /// The error rate for people.
    pub(super) fn words(&self) -> Option<String> {
        let Labels { n, errors } = self.rows;
        self.error_rate().map(|rate| format!("error rate {:.2} %: {errors} of {n} labelled rows", 100.0 * rate))
    }
}

/// Whether a label and an answer are one class: `1` and `1.0` are.
pub(super) fn are_same(label: &str, answer: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite());
    label == answer || number(label).is_some_and(|label| Some(label) == number(answer))
}

fn keep(kept: &mut BTreeSet<String>, text: Option<&str>) {
    if let Some(text) = text.filter(|text| kept.len() < MAX_KEPT && !kept.contains(*text)) {
        kept.insert(text.to_owned());
    }
}

fn named(kept: &BTreeSet<String>) -> String {
    if kept.is_empty() {
        return "none".into();
    }
    let first: Vec<&str> = kept.iter().take(MAX_NAMED).map(String::as_str).collect();
    format!("{}{}", first.join(", "), if kept.len() > MAX_NAMED { " …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(&str, &str)]) -> Matches {
        let mut matches = Matches::default();
        rows.iter().for_each(|(label, answer)| {
            matches.take(Some(label), Some(answer), Some(!are_same(label, answer)));
        });
        matches
    }

    #[test]
    fn labels_of_another_spelling_are_refused_and_a_bad_model_is_not() {
        let error = of(&[("a", "0"), ("b", "1"), ("c", "2")]).check().unwrap_err().to_string();
        assert!(error.contains("labels a, b, c, answers 0, 1, 2: write labels as"), "{error}");
        let bad = of(&[("0", "1"), ("1", "0")]);
        assert!(bad.check().is_ok());
        assert_eq!(bad.words().unwrap(), "error rate 100.00 %: 2 of 2 labelled rows");
        assert_eq!(of(&[("1.0", "1"), ("x", "2")]).error_rate(), Some(0.5));
        assert!(Matches::default().check().is_ok() && Matches::default().words().is_none());
    }
}
