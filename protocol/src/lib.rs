//! What the agent and the server must agree on, byte for byte: names, topics, signed documents, reports, frames.
//!
//! Never: I/O, a clock, SQL, sockets, tract. Time arrives as an argument; bytes become types here, at the door, and
//! what was verified has a type of its own that only the verifier makes ([`signed::Verified`]).

pub mod api;
pub mod canonical;
pub mod contract;
pub mod desired;
pub mod digest;
pub mod enrolment;
pub mod figures;
pub mod frames;
pub mod ids;
pub mod keys;
pub mod manifest;
pub mod reference;
pub mod refusal;
pub mod report;
pub mod rescue;
pub mod signed;
pub mod standing;
pub mod topics;
pub mod tuf;
pub mod twin;
pub mod watch;
pub mod watermark;
