//! `tern model inspect`: what an ONNX file says about itself. Nothing of it runs, and even so it is read in a process of its own, see
//! [`confined`](super::confined).

use std::io::Write;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tern_engine::{Declared, Inspection, Limits, Opset, Quantisation, sandbox};

use super::{
    args,
    confined::{self, Itself, Order, Said, Work, say},
    output::Printer,
};
use crate::{disk, wording::size};

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Facts(Box<Inspection>),
    Refused(String),
}

pub(super) async fn run(
    order: &args::Inspect,
    itself: Option<&Itself>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let place = || order.file.display().to_string();
    let bytes =
        disk::read(&order.file, Limits::default().file_bytes).with_context(|| format!("reading {}", place()))?;
    let bytes = bytes.with_context(|| format!("there is no file {}", place()))?;
    let (facts, _) = facts(bytes, itself).await.with_context(place)?;
    printer.result(&facts, |p| tell(&facts, p))
}

/// The facts of a model file, and the file again.
///
/// # Errors
/// Where it is no model, or takes the process down that reads it.
pub(super) async fn facts(model: Vec<u8>, itself: Option<&Itself>) -> anyhow::Result<(Inspection, Vec<u8>)> {
    let (cpu_seconds, wall) = (sandbox::TRIAL_CPU_SECONDS, sandbox::TRIAL_WALL);
    let mut order = Order { work: Work::Facts, files: vec![model], cpu_seconds, wall };
    let Said { bytes, end } = confined::run(&order, itself).await;
    end?;
    match serde_json::from_slice(&bytes).context("what was found in the file is malformed")? {
        Told::Facts(facts) => Ok((*facts, order.files.swap_remove(0))),
        Told::Refused(why) => bail!("{why}"),
    }
}

/// The child's part.
pub(super) fn carry_out(files: &[Vec<u8>], to: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = files.first().context("the model is missing")?;
    let told = match tern_engine::inspect(bytes, &Limits::default()) {
        Ok(facts) => Told::Facts(Box::new(facts)),
        Err(error) => Told::Refused(error.to_string()),
    };
    Ok(say(&told, to)?)
}

fn tell(facts: &Inspection, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let opset = |set: &Opset| {
        let domain = if set.domain.is_empty() { "ai.onnx" } else { &set.domain };
        format!("{domain} {}", set.version)
    };
    let operators: Vec<_> = facts.operators.iter().map(|(name, times)| format!("{name} {times}")).collect();
    printer.facts(&[
        ("size", size(facts.file_bytes)),
        ("producer", facts.producer.clone()),
        (
            "format",
            format!("IR {}, {}", facts.ir_version, facts.opsets.iter().map(opset).collect::<Vec<_>>().join(", ")),
        ),
        ("parameters", format!("{}, {}", grouped(facts.parameters), size(facts.parameter_bytes))),
        ("MACs a row", macs(facts)),
        ("quantised", quantised(facts.quantisation).into()),
        ("operators", operators.join(", ")),
    ])?;
    let row = |side: &str, tensor: &Declared| {
        vec![side.into(), tensor.name.clone(), tensor.dtype.clone(), tensor.shape_text()]
    };
    let rows = facts.inputs.iter().map(|tensor| row("input", tensor));
    let rows = rows.chain(facts.outputs.iter().map(|tensor| row("output", tensor))).collect();
    printer.table(&["SIDE", "NAME", "TYPE", "SHAPE"], rows, "it takes nothing and gives nothing")?;
    match (&facts.unsupported[..], &facts.refusal) {
        ([], None) => printer.line("the engine has every operator; `tern model check` tells whether it runs"),
        ([], Some(why)) => printer.line(&format!("the engine refuses it: {why}")),
        (missing, _) => printer.line(&format!("the engine lacks {}", missing.join(", "))),
    }
}

fn macs(facts: &Inspection) -> String {
    let mut told = grouped(facts.macs.per_row);
    if !facts.macs.uncounted.is_empty() {
        let left: Vec<_> = facts.macs.uncounted.iter().map(|(name, times)| format!("{name} {times}")).collect();
        told.push_str(&format!(" and those of {}, whose shapes the file does not tell", left.join(", ")));
    }
    told
}

fn quantised(kind: Quantisation) -> &'static str {
    match kind {
        Quantisation::None => "no",
        Quantisation::Weights => "weights only",
        Quantisation::Dynamic => "dynamically",
        Quantisation::Qdq => "statically, QDQ",
        Quantisation::QOperator => "statically, QOperator",
    }
}

/// A number with its digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }
}
