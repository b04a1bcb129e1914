//! Flags of what is done with a model before anybody publishes it: no server, no keys.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    /// The model file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The facts as JSON, as --output json
    #[arg(long)]
    pub json: bool,
}
