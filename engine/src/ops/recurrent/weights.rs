//! The weights of one way through a sequence, laid out to be multiplied with.

use super::{
    super::{dots::Table, kernel::values},
    Cell,
};
use tract_onnx::prelude::{Tensor, TractResult};

#[derive(Debug)]
pub(super) struct Weights {
    /// Of a step's values, for every gate.
    pub(super) input: Table,
    /// Of the state, for the gates that take it as it is.
    pub(super) gates: Table,
    /// Of the state, for a GRU's candidate.
    pub(super) candidate: Table,
}

impl Weights {
    /// Of the tables `[ways, gates * hidden, values]` and `[ways, gates * hidden, hidden]`, whose shapes the caller has checked.
    pub(super) fn of(input: &Tensor, state: &Tensor, way: usize, cell: Cell) -> TractResult<Self> {
        let part = |table: &Tensor| {
            let size = table.shape()[1] * table.shape()[2];
            way * size..(way + 1) * size
        };
        let columns = input.shape()[2];
        let input = Table::new(&values::<f32>(input)?[part(input)], columns)?;
        let (state, hidden) = (&values::<f32>(state)?[part(state)], state.shape()[2]);
        let gates = if matches!(cell, Cell::Gru { .. }) { 2 * hidden * hidden } else { state.len() };
        let (gates, candidate) = state.split_at(gates);
        Ok(Self { input, gates: Table::new(gates, hidden)?, candidate: Table::new(candidate, hidden)? })
    }

    /// Of every way.
    pub(super) fn all(input: &Tensor, state: &Tensor, cell: Cell) -> TractResult<Vec<Self>> {
        (0..state.shape()[0]).map(|way| Self::of(input, state, way, cell)).collect()
    }
}
