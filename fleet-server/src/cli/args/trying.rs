//! Flags of what is done with a model before anybody publishes it: no server, no keys.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tern_protocol::ids::ModelName;

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
    /// Try a case that has no answer again with all its inputs but the first as constants: tests of single operators give
    /// shapes and axes as inputs, which exporters write into the file
    #[arg(long)]
    pub constants: bool,
    /// Most time for one model with all its cases: a number and s, m or h
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = super::duration)]
    pub time_limit: Duration,
    /// A line of JSON for each case, then one with the summary
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The model is run on every row as a device would run it. Rows are cut in their order into windows; \
                        at least 50 are wanted. Nothing is sent anywhere."
)]
pub(in crate::cli) struct Profile {
    /// The folder that holds tern.toml
    pub folder: PathBuf,
    /// The rows: a header, then one line each with the input's values in row-major order
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The column that holds the right answer; its errors by confidence become part of the profile, where tern.toml
    /// says what is predicted
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Rows of a window
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Windows between false alarms of one device, in expectation
    #[arg(long, value_name = "WINDOWS", default_value_t = tern_stats::profile::DEFAULT_ARL)]
    pub arl: f64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The model runs in a process of its own without files, network or keys. Written beside it: tern.toml, \
                        to edit and then `tern model publish`, and golden vectors, test_data_set_<n>. Expected answers are \
                        onnxruntime's where Python has it. Nothing is sent anywhere."
)]
pub(in crate::cli) struct Check {
    /// The model file
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Rows that the model is meant for: CSV with a header, or Parquet where Python has pandas; columns of a wide input go by
    /// position, in training order, single-column inputs by name
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The reference's column that holds the right answer
    #[arg(long, value_name = "COLUMN", requires = "reference")]
    pub label: Option<String>,
    /// The size of a dimension that the file leaves open, by its name or as INPUT[AXIS]; rows may stay open
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension)]
    pub dimensions: Vec<(String, usize)>,
    /// team/model [default: my-team and the file's name]
    #[arg(long, value_name = "TEAM/MODEL")]
    pub name: Option<ModelName>,
    /// The Python that is asked for onnxruntime's answers; it is not confined
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub python: PathBuf,
    /// Do not have onnxruntime run the model: for one that is not yours
    #[arg(long)]
    pub no_onnxruntime: bool,
    /// Absolute tolerance of floats [default: 1e-4]
    #[arg(long, value_name = "T")]
    pub atol: Option<f64>,
    /// Relative tolerance of floats [default: 1e-3]
    #[arg(long, value_name = "T")]
    pub rtol: Option<f64>,
    /// Write tern.toml anew and replace all test_data_set_<n> that are there
    #[arg(long)]
    pub force: bool,
    /// What was found as JSON, as --output json
    #[arg(long)]
    pub json: bool,
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let sized = text.rsplit_once('=').and_then(|(name, size)| Some((name.to_owned(), size.parse().ok()?)));
    let sized = sized.filter(|(name, size)| !name.is_empty() && (1..=1 << 20).contains(size));
    sized.ok_or_else(|| "write a name and a size from 1 to 1048576, such as height=224 or x[2]=224".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_is_a_name_and_a_size() {
        assert_eq!(dimension("height=224"), Ok(("height".into(), 224)));
        assert_eq!(dimension("x[2]=1"), Ok(("x[2]".into(), 1)));
        assert_eq!(dimension("a=b=3"), Ok(("a=b".into(), 3)));
        for text in ["", "height", "=3", "height=0", "height=-1", "height=1048577", "height=3.5"] {
            assert!(dimension(text).is_err(), "{text}");
        }
    }
}
