//! The device daemon.

pub mod admit;
pub mod boot;
pub mod bundle;
pub mod channel;
pub mod clock;
pub mod config;
pub mod control;
pub mod disk;
pub mod doctor;
pub mod enroll;
pub mod entry;
pub mod fetch;
pub mod http;
pub mod identity;
pub mod install;
pub mod link;
mod log;
pub mod notify;
pub mod outbox;
pub mod probe;
pub mod renewal;
pub mod rescue;
pub mod self_exec;
pub mod sources;
pub mod state;
pub mod status;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod trust;
pub mod tuf_client;
pub mod vitals;
pub mod worker;

pub use entry::main_from;
pub use self_exec::SelfExec;
