//! A `tern.toml` for people to edit: all that is known of a model, and comments where they must decide. Pure.
//!
//! What is written here is read by `bundle` like one that was written by hand; nothing in it is ours alone.

use std::fmt::Write as _;

use tern_engine::{DType, Tensor};
use tern_protocol::contract::MAX_FEATURES;

use super::{
    columns::{Column, Input},
    quality::{Quality, Roles},
    trial::Figures,
};

/// A line; writing to a string cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => { let _ = writeln!($text, $($format)*); };
}

/// What a draft is made of.
#[derive(Debug)]
pub(super) struct Draft<'d> {
    /// team/model.
    pub name: String,
    /// The model file, beside which it is written.
    pub file: String,
    pub inputs: &'d [Input],
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// What the model gave for one row.
    pub one_row: &'d [Tensor],
    pub is_batched: bool,
    pub roles: Roles,
    /// What the reference's columns are like, for each input; empty without a reference.
    pub columns: Vec<Vec<Column>>,
    pub reference: Option<Reference>,
    pub sets: usize,
    /// Who gave the expected answers.
    pub golden_by: String,
    pub absolute: f64,
    pub relative: f64,
    pub figures: Figures,
}

/// The reference's own facts.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub name: String,
    pub rows: usize,
    pub sha256: String,
    pub label: Option<String>,
    pub quality: Option<Quality>,
}

/// The text of `tern.toml`.
pub(super) fn write(draft: &Draft<'_>) -> String {
    let mut text = String::new();
    head(draft, &mut text);
    for (at, input) in draft.inputs.iter().enumerate() {
        let columns = draft.columns.get(at).map_or(&[][..], Vec::as_slice);
        self::input(input, columns, draft.is_batched, &mut text);
    }
    for (name, tensor) in draft.outputs.iter().zip(draft.one_row) {
        tensor_head("outputs", name, tensor.dtype(), &shape(tensor.shape(), draft.is_batched), &mut text);
        line!(text, "");
    }
    tail(draft, &mut text);
    text
}

fn head(draft: &Draft<'_>, text: &mut String) {
    line!(
        text,
        "# Drafted by `tern model check`; edit what is not right, then run `tern model publish` on this folder."
    );
    line!(text, "format = 1");
    line!(text, "# Your team, and the name under which devices serve it.");
    line!(text, "model = {}", quoted(&draft.name));
    line!(text, "version = \"1.0.0\"");
    line!(text, "# Names of classes that it may run on, or \"*\" for all.");
    line!(text, "device_classes = [\"*\"]");
    line!(text, "minimum_agent = {}\n", quoted(env!("CARGO_PKG_VERSION")));
    line!(text, "[files]\nmodel = {}", quoted(&draft.file));
    line!(
        text,
        "# A page for people, what inputs were like while all was well (`tern model profile` makes it), names of classes:"
    );
    line!(text, "# card = \"card.md\"\n# reference = \"reference.json\"\n# labels = \"labels.txt\"\n");
    line!(text, "[golden]");
    line!(text, "# Expected answers are by {}. Floats agree if", comment(&draft.golden_by));
    line!(text, "# |got - want| <= absolute + relative * |want|, all else if equal.");
    line!(text, "sets = {}", draft.sets);
    line!(text, "absolute_tolerance = {:?}\nrelative_tolerance = {:?}\n", draft.absolute, draft.relative);
}

fn tail(draft: &Draft<'_>, text: &mut String) {
    let name = |at: Option<usize>| at.and_then(|at| draft.outputs.get(at)).map(|name| quoted(name));
    if let Some(label) = name(draft.roles.label) {
        line!(text, "# What can be right or wrong, and how sure the model is of it.");
        line!(text, "[contract.prediction]\nlabel = {label}");
        if let Some(confidence) = name(draft.roles.confidence) {
            line!(text, "confidence = {confidence}");
        }
        line!(text, "");
    }
    let Figures { p50_us, p99_us, calls, peak_rss_bytes } = draft.figures;
    let ms = |us: u64| us as f64 / 1e3;
    line!(
        text,
        "# Measured on this machine over {calls} calls of one row: half within {} ms, all but one in a hundred",
        ms(p50_us)
    );
    line!(
        text,
        "# within {} ms, {} MB of memory. A device refuses a version that goes over its budget.",
        ms(p99_us),
        peak_rss_bytes.div_ceil(1_000_000)
    );
    line!(text, "# [budgets.\"*\"]");
    line!(
        text,
        "# p95_latency_ms = {}\n# peak_rss_mb = {}\n",
        (p99_us / 100).max(1),
        (peak_rss_bytes / 250_000).max(32)
    );
    line!(text, "[training]");
    match &draft.reference {
        None => {
            line!(text, "# Where the data came from; `tern model check --reference data.csv` fills in what it sees.");
            line!(text, "data_origin = \"not stated\"");
        }
        Some(reference) => {
            line!(text, "# What the reference was; say where it came from.");
            line!(text, "data_origin = {}", quoted(&reference.name));
            line!(text, "data_rows = {}\ndata_sha256 = {}", reference.rows, quoted(&reference.sha256));
            metrics(reference, text);
        }
    }
}

fn metrics(reference: &Reference, text: &mut String) {
    let (Some(quality), Some(label)) = (&reference.quality, &reference.label) else { return };
    line!(text, "\n[training.metrics]");
    let on = format!("{} rows of {}, answers in column {label}", quality.rows, reference.name);
    line!(text, "# Rows that the model was trained on flatter it.");
    line!(text, "evaluated_on = {}", quoted(&on));
    for (name, value) in &quality.metrics {
        line!(text, "{name} = {value:?}");
    }
}

fn input(input: &Input, columns: &[Column], is_batched: bool, text: &mut String) {
    tensor_head("inputs", &input.name, input.dtype, &shape(&input.shape(1), is_batched && input.is_batched()), text);
    if matches!(input.dtype, DType::F32 | DType::F64) {
        let holes = columns.iter().map(|column| column.holes).sum::<usize>();
        line!(text, "# What to do with a value that is not a number; the reference has {holes}.");
        line!(text, "nan = {}", if holes > 0 { "\"flag\"" } else { "\"reject\"" });
    }
    if columns.is_empty() {
        line!(
            text,
            "# minimum = 0.0\n# maximum = 1.0\n# out_of_range = \"reject\" # or \"clamp\", or \"flag\": let it pass and count it\n"
        );
        return;
    }
    let texts = columns.iter().filter(|column| input.dtype == DType::Bytes && column.categories.is_empty());
    let texts: Vec<_> = texts.map(|column| comment(&column.name)).take(20).collect();
    if !texts.is_empty() {
        // Features are of all columns or none, and the value of a text is no number.
        line!(
            text,
            "# Free text ({}) is not watched, nor are columns beside it: features are for numbers and",
            texts.join(", ")
        );
        line!(text, "# categories, and there is one for each column or none.\n");
        return;
    }
    if !input.is_table() || columns.len() > MAX_FEATURES {
        let ends = columns.iter().filter_map(|column| column.range);
        let ends = ends.reduce(|(low, high), (min, max)| (low.min(min), high.max(max)));
        line!(
            text,
            "# As the reference shows them. \"flag\" lets others pass and counts them; \"reject\" and \"clamp\" do not."
        );
        range(ends, text);
        line!(text, "");
        return;
    }
    line!(
        text,
        "# Columns as the reference shows them. \"flag\" lets others pass and counts them; \"reject\" and \"clamp\" do not.\n"
    );
    for column in columns {
        line!(text, "[[contract.inputs.features]]\nname = {}", quoted(&column.name));
        range(column.range, text);
        if !column.categories.is_empty() {
            let words: Vec<_> = column.categories.iter().map(|word| quoted(word)).collect();
            line!(text, "categories = [{}]", words.join(", "));
        }
        line!(text, "");
    }
}

fn range(ends: Option<(f64, f64)>, text: &mut String) {
    if let Some((low, high)) = ends {
        line!(text, "minimum = {low:?}\nmaximum = {high:?}\nout_of_range = \"flag\"");
    }
}

fn tensor_head(side: &str, name: &str, dtype: DType, shape: &[i64], text: &mut String) {
    line!(text, "[[contract.{side}]]\nname = {}\ndtype = {}\nshape = {shape:?}", quoted(name), quoted(dtype.name()));
}

/// The shape of one row, its batch open where callers choose it.
fn shape(one_row: &[usize], is_batched: bool) -> Vec<i64> {
    let dim = |(axis, dim): (usize, &usize)| match (axis, is_batched) {
        (0, true) => -1,
        _ => i64::try_from(*dim).unwrap_or(i64::MAX),
    };
    one_row.iter().enumerate().map(dim).collect()
}

/// As TOML writes text.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// On one line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
