//! Numbers only: what a device counts, what a reference profile holds, and the tests that tell decay from weather.
//!
//! Device side: [`derived`] makes numbers of images and signals; [`cells`], [`numeric`], [`categorical`], [`unseen`], [`latency`] fold values into sums; [`recorder`]
//! folds whole rows; [`window`] adds sums of one shape. [`calendar`] knows
//! the season. Build time: [`profile`] fits a baseline in time order. Server side: [`scores`] reads a window,
//! [`step`] weighs it over time, [`hard`] judges it at once, [`cohort`] and [`pooled`] compare devices, and
//! [`calibration`], [`slo`] and [`estimate`] judge the model by labels and confidence.
//!
//! Everything is deterministic but one: a latency sketch tosses coins when it compacts, so nothing here rests on it.
//! The unit of evidence is the window, never the row: rows of real sensors are neither independent nor identical.
//!
//! Never: bytes on a wire, keys, a clock, I/O. Time and rows arrive as arguments.

pub mod calendar;
pub mod calibration;
pub mod categorical;
pub mod cells;
pub mod cohort;
pub mod course;
pub mod derived;
pub mod design;
pub mod estimate;
pub mod hard;
pub mod labels;
pub mod latency;
mod math;
pub mod numeric;
pub mod pooled;
pub mod profile;
pub mod recorder;
pub mod scores;
mod shape;
pub mod slo;
pub mod step;
pub mod unseen;
pub mod whiten;
pub mod window;

pub use shape::ShapeMismatch;
