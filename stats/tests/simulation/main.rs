//! Seeded simulations of whole fleets of numbers: how often nothing is called something, and how fast something is found.
//!
//! Rows come from a small generator of our own, so that a seed means the same for ever. Figures are printed
//! (`--nocapture`); the bounds asserted leave room for other seeds.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot run has failed")]

mod faults;
mod fleet;
mod hostile;
mod labels;
mod null;
mod rng;
mod world;
