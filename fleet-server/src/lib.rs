//! Placeholder.
pub mod broker;
