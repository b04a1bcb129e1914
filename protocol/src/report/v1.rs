//! Format 1 of a report, frozen: members are never added, removed, reordered or given another type.
//!
//! A change is a new module `v2` with `From<v1::Report>`. Counts are plain sums, so windows of one shape merge by adding.

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::{
    digest::Digest,
    ids::{Generation, ModelName, Version},
    refusal::RefusalCode,
};

/// Most rows in a report.
pub const MAX_ROWS: usize = 4096;
/// Most features in a window.
pub const MAX_FEATURES: usize = 4096;
/// Most cells of a feature.
pub const MAX_CELLS: usize = 1024;

/// Random identity of one outbox's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stream(pub [u8; 16]);

/// Rows of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The outbox that the rows come from.
    pub stream: Stream,
    /// The rows, in growing sequence.
    pub rows: Vec<Row>,
}

/// One immutable row of an outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number in the stream, from 1, without holes.
    pub sequence: u64,
    /// What it holds.
    pub item: Item,
}

/// What a row holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// Statistics of one version over one period.
    Window(Box<Window>),
    /// Labels that came after their window was sent.
    Correction(Correction),
    /// Something that happened.
    Event(Event),
}

/// Statistics of one version on one device over one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The window's number on this device and version; corrections name it.
    pub number: u64,
    /// Which model.
    pub model: ModelName,
    /// Which version of it.
    pub version: Version,
    /// Digest of the contract that the features are counted under: unlike windows are never merged.
    pub contract: Digest,
    /// The boot that the window belongs to: sequence terms do not cross boots.
    pub boot: u64,
    /// Start, in milliseconds since 1970 by the device's time.
    pub start_ms: i64,
    /// End, likewise; not before the start.
    pub end_ms: i64,
    /// Whether the device knew the date.
    pub clock: Clock,
    /// Inferences answered.
    pub inferences: u64,
    /// Rows in them.
    pub rows: u64,
    /// Errors by kind.
    pub errors: Vec<ErrorCount>,
    /// Contract violations: of the policies reject, clamp and flag.
    pub violations: Violations,
    /// Latency of one inference in microseconds: a KLL sketch of f32 in Apache DataSketches' serial form; empty for none.
    pub latency: Vec<u8>,
    /// Watched inputs, in the contract's order: columns, then derived features.
    pub features: Vec<Feature>,
    /// Watched outputs, in the contract's order.
    pub outputs: Vec<Feature>,
    /// Rows per confidence bin, in the reference profile's bins.
    pub confidence: Vec<u64>,
    /// Labels per confidence bin that came while the window was open.
    pub feedback: Vec<Feedback>,
    /// The device's own figures.
    pub system: System,
}

/// How far a window's times can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// The clock agreed with the signed floor throughout.
    Trusted,
    /// The clock stood at the floor: order is known, the date is not.
    Floored,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// The kind.
    pub kind: ErrorKind,
    /// How many.
    pub count: u64,
}

/// Kinds of failed inferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request was malformed.
    BadRequest,
    /// The contract refused a value.
    Contract,
    /// Too many at once.
    Overload,
    /// Not done before the deadline.
    Deadline,
    /// The engine failed.
    Engine,
    /// An output was NaN or infinite.
    NotFinite,
}

/// Values that broke the contract, by what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Violations {
    /// In refused requests.
    pub rejected: u64,
    /// Moved to the nearest allowed value.
    pub clamped: u64,
    /// Used as they were.
    pub flagged: u64,
}

/// One watched number or category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Feature {
    /// A number.
    Numeric(Numeric),
    /// A category.
    Categorical(Categorical),
}

/// Sums over a numeric feature. `sd` and `med` are the reference profile's standard deviation and median.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Numeric {
    /// Values per cell of the reference profile.
    pub cells: Vec<u64>,
    /// Values counted: neither missing nor NaN.
    pub n: u64,
    /// Values that were absent.
    pub missing: u64,
    /// Values that were NaN or infinite.
    pub nan: u64,
    /// Values outside the reference's range widened by a quarter on both sides.
    pub out: u64,
    /// Sum of `clip((x - med) / sd, -8, 8)`.
    pub s1: f64,
    /// Sum of the squares of the same.
    pub s2: f64,
    /// Sum of `min(|x - last| / sd, 6)` over neighbours.
    pub sd_sum: f64,
    /// How many neighbours.
    pub nd: u64,
    /// How many of them were equal.
    pub flat: u64,
}

/// Counts over a categorical feature.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Categorical {
    /// Values per category of the reference profile.
    pub counts: Vec<u64>,
    /// Values of no known category.
    pub other: u64,
    /// Values that were absent.
    pub missing: u64,
    /// The unknown ones: a HyperLogLog sketch in Apache DataSketches' serial form; empty for none.
    pub unseen: Vec<u8>,
}

/// Labels of one confidence bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Feedback {
    /// Labels that came.
    pub n: u64,
    /// Predictions that they contradict.
    pub errors: u64,
}

/// The device's own figures over the window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct System {
    /// Processor time of the worker, in milliseconds.
    pub cpu_ms: u64,
    /// Its resident memory at the end, in bytes.
    pub rss_bytes: u64,
    /// Free bytes where Tern keeps its files, at the end.
    pub disk_free_bytes: u64,
    /// Bytes that Tern wrote to disk.
    pub written_bytes: u64,
    /// Temperature in degrees Celsius, where there is a sensor.
    pub temperature: Option<f32>,
}

/// Labels for a window that was sent before they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Which model.
    pub model: ModelName,
    /// Which version of it.
    pub version: Version,
    /// The window's number.
    pub window: u64,
    /// The confidence bin.
    pub bin: u32,
    /// Labels that came.
    pub n: u64,
    /// Predictions that they contradict.
    pub errors: u64,
}

/// Something that happened on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970 by the device's time.
    pub at_ms: i64,
    /// The generation that was in force.
    pub generation: Generation,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A version took over.
    Activated {
        /// Which model.
        model: ModelName,
        /// The version that answers now.
        version: Version,
        /// The one before.
        previous: Option<Version>,
    },
    /// A version survived probation.
    Committed {
        /// Which model.
        model: ModelName,
        /// Which version.
        version: Version,
    },
    /// A version was taken back by the device itself.
    TakenBack {
        /// Which model.
        model: ModelName,
        /// The version that was taken back.
        version: Version,
        /// The one that answers now.
        to: Option<Version>,
        /// Why.
        code: RefusalCode,
    },
    /// Something was refused.
    Refused {
        /// Which model, where it concerns one.
        model: Option<ModelName>,
        /// Which version, where it concerns one.
        version: Option<Version>,
        /// Why.
        code: RefusalCode,
        /// The same for people.
        message: String,
    },
    /// The worker ended unasked and was started again.
    WorkerRestarted {
        /// How it ended, for people.
        cause: String,
    },
    /// The outbox was damaged or restored: a new stream begins.
    NewStream {
        /// The stream before, where it is known.
        previous: Option<Stream>,
    },
}

impl Report {
    /// Checks what types alone cannot say.
    ///
    /// # Errors
    /// [`ReportError::Inconsistent`] with the first fault.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        let wrong = |what| Err(ReportError::Inconsistent(what));
        if self.rows.len() > MAX_ROWS {
            return wrong("too many rows");
        }
        if self.rows.first().is_some_and(|row| row.sequence == 0) {
            return wrong("a sequence of 0");
        }
        if !self.rows.is_sorted_by(|a, b| a.sequence < b.sequence) {
            return wrong("sequences that do not grow");
        }
        self.rows.iter().try_for_each(|row| match &row.item {
            Item::Window(window) => window.check(),
            Item::Correction(c) if c.errors > c.n => wrong("more errors than labels"),
            Item::Correction(_) | Item::Event(_) => Ok(()),
        })
    }
}

impl Window {
    fn check(&self) -> Result<(), ReportError> {
        let wrong = |what| Err(ReportError::Inconsistent(what));
        if self.end_ms < self.start_ms {
            return wrong("a window that ends before it starts");
        }
        if self.features.len() > MAX_FEATURES || self.outputs.len() > MAX_FEATURES {
            return wrong("too many features");
        }
        if self.feedback.iter().any(|f| f.errors > f.n) {
            return wrong("more errors than labels");
        }
        self.features.iter().chain(&self.outputs).try_for_each(Feature::check)
    }
}

impl Feature {
    fn check(&self) -> Result<(), ReportError> {
        let wrong = |what| Err(ReportError::Inconsistent(what));
        match self {
            Self::Numeric(f) if f.cells.len() > MAX_CELLS => wrong("too many cells"),
            Self::Numeric(f) if ![f.s1, f.s2, f.sd_sum].iter().all(|x| x.is_finite()) => {
                wrong("a sum that is not finite")
            }
            Self::Numeric(f) if f.flat > f.nd || f.out > f.n => wrong("a share over one"),
            Self::Numeric(f) if f.cells.iter().try_fold(0u64, |sum, c| sum.checked_add(*c)) != Some(f.n) => {
                wrong("cells that do not add up to n")
            }
            Self::Categorical(f) if f.counts.len() > MAX_CELLS => wrong("too many categories"),
            _ => Ok(()),
        }
    }
}
