//! A compiled plan and what its calls leave for the next: the tables in which tract keeps what it computed, empty again.

use super::{plans::lock, registers};
use crate::{error::brief, ops};
use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};
use tract_onnx::{
    prelude::{IntoRunnable, TValue, TVec, TractResult, TypedModel, TypedOp, TypedRunnableModel, TypedSimpleState},
    tract_core::plan::EvalContext,
};

/// A plan that any number of threads run.
#[derive(Debug)]
pub(crate) struct Pooled {
    plan: Arc<TypedRunnableModel>,
    /// States that no call uses now, as many as calls ever ran at the same time.
    spare: Mutex<Vec<TypedSimpleState>>,
    /// Whether no operator remembers anything, so that one call's state does for another.
    is_forgetful: bool,
}

impl Pooled {
    pub(crate) fn new(model: TypedModel) -> TractResult<Self> {
        let plan = model.into_runnable()?;
        let is_forgetful = plan.spawn()?.op_states.iter().all(Option::is_none);
        Ok(Self { plan, spare: Mutex::default(), is_forgetful })
    }

    pub(crate) fn model(&self) -> &TypedModel {
        self.plan.model()
    }

    /// What the plan answers. A state in which a call failed or panicked is used no more.
    /// `at` is the operator that was begun last.
    pub(crate) fn run(&self, inputs: TVec<TValue>, at: &Cell<usize>) -> TractResult<TVec<TValue>> {
        if !self.is_forgetful {
            return registers::run(&mut self.plan.spawn()?, inputs, at);
        }
        let state = lock(&self.spare).pop();
        let mut state = state.map_or_else(|| self.plan.spawn(), Ok)?;
        let outputs = registers::run(&mut state, inputs, at)?;
        lock(&self.spare).push(state);
        Ok(outputs)
    }
}

/// Runs one plan, for any number of threads.
pub(crate) enum Runner {
    /// A graph of one operator, as most forests are, needs no plan.
    Alone(Alone),
    Plan(Pooled),
}

impl Runner {
    pub(crate) fn new(model: TypedModel) -> TractResult<Self> {
        match Alone::of(&model) {
            Some(alone) => Ok(Self::Alone(alone)),
            None => Pooled::new(model).map(Self::Plan),
        }
    }

    /// What the plan answers; `at` is the operator that was begun last.
    pub(crate) fn run(&self, inputs: TVec<TValue>, at: &Cell<usize>) -> TractResult<TVec<TValue>> {
        match self {
            Self::Alone(alone) => alone.run(&inputs),
            Self::Plan(plan) => plan.run(inputs, at),
        }
    }

    /// The name of an operator of the plan, and what it is.
    pub(crate) fn operator(&self, at: usize) -> Option<(String, String)> {
        let Self::Plan(plan) = self else { return None };
        let node = plan.model().nodes.get(at)?;
        Some((brief(&node.name), node.op.name().into_owned()))
    }
}

/// A graph of one operator of ours.
pub(crate) struct Alone {
    op: Box<dyn TypedOp>,
    /// The graph's inputs that it takes, and its outputs that the graph gives.
    takes: Vec<usize>,
    gives: Vec<usize>,
}

impl Alone {
    fn of(model: &TypedModel) -> Option<Self> {
        let mut inner = model.nodes.iter().filter(|node| !model.inputs.contains(&node.id.into()));
        let (node, None) = (inner.next()?, inner.next()) else { return None };
        let takes = node.inputs.iter().map(|taken| model.inputs.iter().position(|input| input == taken));
        let gives = model.outputs.iter().map(|given| (given.node == node.id).then_some(given.slot));
        let alone =
            Self { op: node.op.clone(), takes: takes.collect::<Option<_>>()?, gives: gives.collect::<Option<_>>()? };
        ops::is_plain(&*node.op).then_some(alone)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let taken = self.takes.iter().map(|at| inputs[*at].clone()).collect();
        let made = registers::rested(|| self.op.eval(&EvalContext::out_of_plan(), taken))?;
        Ok(self.gives.iter().map(|at| made[*at].clone()).collect())
    }
}
