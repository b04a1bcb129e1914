//! The fleet server, its embedded broker, and the operator's command line.
//!
//! Two entry points: [`server_main`] for `tern-server` and `cli_main` for `tern`.

pub mod broker;
pub mod clock;
pub mod forms;
pub mod overview;
