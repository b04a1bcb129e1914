//! `tern decay`: detection of decay on a desk, by the very code that the server runs. It asks no server and loads no key.

mod answers;
mod company;
mod cutter;
mod fit;
mod plot;
mod replay;
mod said;
mod standard;
mod survey;
pub(super) mod table;

use super::{args::decay::Decay, output::Printer};

pub(super) fn run(order: &Decay, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match order {
        Decay::Fit(order) => fit::run(order, printer),
        Decay::Replay(order) => replay::run(order, printer),
        Decay::Plot(order) => plot::run(order, printer),
    }
}
