//! Worker and probe as real processes: what they serve, what they refuse, what they survive.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod client;
mod confinement;
mod feedback;
mod fitting;
mod fixture;
mod life;
mod probe;
mod refusals;
mod sums;
