//! Flags of what is done with a model before anybody publishes it: no server, no keys.

use std::{path::PathBuf, time::Duration};

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

#[derive(Debug, Args)]
#[command(
    after_help = "Every folder in or below DIR that holds model.onnx and test_data_set_<n> is tested, each model in a \
                        process of its own without files, network or keys. Floats agree if |got - want| <= atol + rtol * \
                        |want|; NaN agrees with NaN; integers, truths and texts must be equal."
)]
pub(in crate::cli) struct Test {
    /// Folders to look in
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// Absolute and relative tolerance in one
    #[arg(long, value_name = "T", conflicts_with_all = ["atol", "rtol"])]
    pub tolerance: Option<f64>,
    /// Absolute tolerance of floats [default: 1e-5]
    #[arg(long, value_name = "T")]
    pub atol: Option<f64>,
    /// Relative tolerance of floats [default: 1e-3]
    #[arg(long, value_name = "T")]
    pub rtol: Option<f64>,
    /// Most time for one model with all its cases: a number and s, m or h
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = super::duration)]
    pub time_limit: Duration,
    /// A line of JSON for each case, then one with the summary
    #[arg(long)]
    pub json: bool,
}
