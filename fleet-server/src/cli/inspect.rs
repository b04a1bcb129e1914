//! `tern model inspect`: what an ONNX file says about itself. The file is decoded within bounds; nothing of it runs.

use anyhow::Context;
use tern_engine::{Declared, Inspection, Limits, Opset, Quantisation};

use super::{args, output::Printer};
use crate::{disk, wording::size};

pub(super) fn run(order: &args::Inspect, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let limits = Limits::default();
    let place = || order.file.display().to_string();
    let bytes = disk::read(&order.file, limits.file_bytes).with_context(|| format!("reading {}", place()))?;
    let bytes = bytes.with_context(|| format!("there is no file {}", place()))?;
    let facts = tern_engine::inspect(&bytes, &limits).with_context(place)?;
    printer.result(&facts, |p| tell(&facts, p))
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
