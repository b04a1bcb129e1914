//! The play: cameras before devices, their lenses clean or fouled, labels that come late.

pub mod script;
