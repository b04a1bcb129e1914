//! What the store needs of a window or correction beside its bytes: the parsed form, many times as large, must not wait
//! for the writer. Pure.

use tern_protocol::{
    ids::ModelVersion,
    report::v1::{Correction, Window},
};

use super::Tally;

/// A row of telemetry without its item.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Of which version it is.
    pub model: ModelVersion,
    /// `window` or `correction`.
    pub kind: &'static str,
    /// The window's number, or that of the window which a correction is of.
    pub number: u64,
    /// Start and end of a window, in milliseconds since 1970 by the device's time; a correction has no time of its own.
    pub times: Option<(i64, i64)>,
    /// Rows served.
    pub rows: u64,
    /// What it adds to the figures.
    pub tally: Tally,
}

impl From<&Window> for Entry {
    fn from(window: &Window) -> Self {
        let mut tally = Tally::default();
        tally.window(window);
        Self {
            model: ModelVersion { name: window.model.clone(), version: window.version.clone() },
            kind: "window",
            number: window.number,
            times: Some((window.start_ms, window.end_ms)),
            rows: window.rows,
            tally,
        }
    }
}

impl From<&Correction> for Entry {
    fn from(correction: &Correction) -> Self {
        let mut tally = Tally::default();
        tally.correction(correction);
        Self {
            model: ModelVersion { name: correction.model.clone(), version: correction.version.clone() },
            kind: "correction",
            number: correction.window,
            times: None,
            rows: 0,
            tally,
        }
    }
}
