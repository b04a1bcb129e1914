//! The device daemon.
pub mod clock;
