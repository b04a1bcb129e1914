//! Sums of one model version over one period, how they add up, and when a detection window by rows is full.
//!
//! Where there is no clock the unit of evidence is a number of rows: it closes at the first whole report that reaches
//! it, and a report is never split. Calendar windows are closed by whoever has a calendar.

use serde::{Deserialize, Serialize};

use crate::{
    categorical::Categorical,
    labels::{Labels, merge_labels},
    numeric::Numeric,
    shape::{ShapeMismatch, same},
};

/// Format of [`ByRows`] where it is written down.
const FORMAT: u16 = 1;

/// Sums over one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Sums {
    /// Of numbers.
    Numeric(Numeric),
    /// Of categories.
    Categorical(Categorical),
}

impl Sums {
    /// Values that were or should have been there.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numeric(sums) => sums.rows(),
            Self::Categorical(sums) => sums.rows(),
        }
    }

    /// Values that cannot be used.
    pub fn absent(&self) -> u64 {
        match self {
            Self::Numeric(sums) => sums.absent(),
            Self::Categorical(sums) => sums.missing,
        }
    }

    /// Adds the sums of another window.
    ///
    /// # Errors
    /// Where they are of another kind or length; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ShapeMismatch> {
        match (self, other) {
            (Self::Numeric(ours), Self::Numeric(theirs)) => ours.merge(theirs),
            (Self::Categorical(ours), Self::Categorical(theirs)) => ours.merge(theirs),
            _ => Err(ShapeMismatch { what: "numeric features", expected: 0, found: 1 }),
        }
    }

    fn is_like(&self, other: &Self) -> Result<(), ShapeMismatch> {
        match (self, other) {
            (Self::Numeric(a), Self::Numeric(b)) => same("cells", a.cells.len(), b.cells.len()),
            (Self::Categorical(a), Self::Categorical(b)) => same("categories", a.counts.len(), b.counts.len()),
            _ => Err(ShapeMismatch { what: "numeric features", expected: 0, found: 1 }),
        }
    }
}

/// What the detectors need of a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    /// Rows in it.
    pub rows: u64,
    /// Watched inputs, in the profile's order.
    pub features: Vec<Sums>,
    /// Watched outputs, in the profile's order.
    pub outputs: Vec<Sums>,
    /// Rows per confidence bin.
    pub confidence: Vec<u64>,
    /// Labels per confidence bin.
    pub labels: Vec<Labels>,
}

impl Window {
    /// Inputs, then outputs.
    pub fn watched(&self) -> impl Iterator<Item = &Sums> {
        self.features.iter().chain(&self.outputs)
    }

    /// Whether it holds nothing at all, not even places to count in: nothing was answered.
    pub fn is_blank(&self) -> bool {
        self.rows == 0
            && self.watched().next().is_none()
            && self.confidence.is_empty()
            && self.labels.iter().all(|labels| labels.n == 0)
    }

    /// Empties it; the shape stays.
    pub fn clear(&mut self) {
        self.rows = 0;
        for sums in self.features.iter_mut().chain(&mut self.outputs) {
            *sums = match sums {
                Sums::Numeric(sums) => Sums::Numeric(Numeric::empty(sums.cells.len())),
                Sums::Categorical(sums) => Sums::Categorical(Categorical::empty(sums.counts.len())),
            };
        }
        self.confidence.fill(0);
        self.labels.fill(Labels::default());
    }

    /// Counts rows that should have come and did not: each of its values is missing.
    pub fn add_missing(&mut self, rows: u64) {
        for sums in self.features.iter_mut().chain(&mut self.outputs) {
            let missing = match sums {
                Sums::Numeric(sums) => &mut sums.missing,
                Sums::Categorical(sums) => &mut sums.missing,
            };
            *missing = missing.saturating_add(rows);
        }
    }

    /// Adds another window.
    ///
    /// # Errors
    /// Where the shapes differ; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ShapeMismatch> {
        same("features", self.features.len(), other.features.len())?;
        same("outputs", self.outputs.len(), other.outputs.len())?;
        same("confidence bins", self.confidence.len(), other.confidence.len())?;
        same("labelled bins", self.labels.len(), other.labels.len())?;
        self.watched().zip(other.watched()).try_for_each(|(a, b)| a.is_like(b))?;
        self.rows = self.rows.saturating_add(other.rows);
        for (ours, theirs) in self.features.iter_mut().chain(&mut self.outputs).zip(other.watched()) {
            ours.merge(theirs)?;
        }
        for (ours, theirs) in self.confidence.iter_mut().zip(&other.confidence) {
            *ours = ours.saturating_add(*theirs);
        }
        merge_labels(&mut self.labels, &other.labels)
    }
}

/// Collects report windows into detection windows of at least `need` rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ByRows {
    format: u16,
    need: u64,
    open: Option<Window>,
}

impl ByRows {
    /// Windows of at least `need` rows, 1 at least.
    pub fn new(need: u64) -> Self {
        Self { format: FORMAT, need: need.max(1), open: None }
    }

    /// Whether a collection that was read back is one to go on from.
    pub fn is_sound(&self) -> bool {
        self.format == FORMAT
    }

    /// Takes in the next report window; returns the detection window that it fills.
    ///
    /// # Errors
    /// Where its shape differs from what is open; it is left out then.
    pub fn push(&mut self, window: &Window) -> Result<Option<Window>, ShapeMismatch> {
        match &mut self.open {
            Some(open) => open.merge(window)?,
            None => self.open = Some(window.clone()),
        }
        Ok(self.open.take_if(|open| open.rows >= self.need))
    }

    /// Rows collected towards the next window, and rows it takes.
    pub fn progress(&self) -> (u64, u64) {
        (self.open.as_ref().map_or(0, |open| open.rows), self.need)
    }

    /// Drops what is open: another version or shape begins.
    pub fn clear(&mut self) {
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(rows: u64) -> Window {
        let numeric = Numeric { cells: vec![rows, 0], n: rows, s1: 1.5, ..Numeric::default() };
        let categorical = Categorical { counts: vec![rows], ..Categorical::default() };
        Window {
            rows,
            features: vec![Sums::Numeric(numeric)],
            outputs: vec![Sums::Categorical(categorical)],
            confidence: vec![rows],
            labels: vec![Labels { n: 2, errors: 1 }],
        }
    }

    #[test]
    fn a_detection_window_closes_at_the_first_report_that_fills_it() {
        let mut rows = ByRows::new(200);
        assert_eq!(rows.push(&window(150)), Ok(None));
        assert_eq!(rows.progress(), (150, 200));
        let full = rows.push(&window(70)).unwrap().unwrap();
        assert_eq!((full.rows, &full.confidence[..]), (220, &[220][..]), "a report is never split");
        assert_eq!(full.labels, [Labels { n: 4, errors: 2 }]);
        assert_eq!(rows.progress(), (0, 200));
        assert_eq!(rows.push(&window(200)).unwrap().unwrap().rows, 200);
        rows.push(&window(3)).unwrap();
        let back: ByRows = serde_json::from_str(&serde_json::to_string(&rows).unwrap()).unwrap();
        assert!(back.is_sound() && back == rows);
    }

    #[test]
    fn a_window_of_another_shape_is_left_out_whole() {
        let mut open = window(10);
        let mut odd = window(10);
        odd.outputs = vec![Sums::Numeric(Numeric::empty(3))];
        assert!(open.merge(&odd).is_err());
        assert_eq!(open, window(10));
    }

    #[test]
    fn rows_that_never_came_are_missing_in_every_feature() {
        let mut open = window(10);
        open.add_missing(3);
        assert_eq!(open.rows, 10);
        assert!(open.watched().all(|sums| (sums.absent(), sums.rows()) == (3, 13)));
    }
}
