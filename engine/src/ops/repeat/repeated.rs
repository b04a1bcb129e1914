//! A `Loop` with a plan of its body, as a call goes through it.

use super::{Loop, MOST_ROUNDS, Taken, begun, is_true, single};
use crate::model::runner::Pooled;
use std::{cell::Cell, sync::Arc};
use tract_onnx::tract_hir::internal::{
    EvalContext, EvalOp, IntoTensor, Op, StaticName, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel,
    TypedNode, TypedOp, anyhow, as_op, ensure, op_as_typed_op, op_out_of_plan,
};

/// What has a size in a body that only its values tell: it may be another in each round, and none bounds it.
pub(super) fn open(body: &TypedModel) -> Option<&TypedNode> {
    body.nodes.iter().find(|node| node.outputs.iter().any(|made| made.fact.shape.as_concrete().is_none()))
}

/// The operator with a plan of its body.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Repeated {
    pub(super) settled: Arc<Loop>,
    pub(super) plan: Arc<Pooled>,
    pub(super) takes: Vec<Taken>,
    /// None where only a call tells; the plan gives the condition first then.
    pub(super) rounds: Option<usize>,
    pub(super) facts: TVec<TypedFact>,
}

impl Repeated {
    pub(in crate::ops) fn model(&self) -> &TypedModel {
        self.plan.model()
    }

    /// Most rounds of a call, and whether the first of them begins.
    fn bounds(&self, inputs: &[TValue]) -> TractResult<(usize, bool)> {
        let Loop { has_most, has_condition, .. } = *self.settled;
        if let Some(rounds) = self.rounds {
            return Ok((rounds, true));
        }
        let most = if has_most { single(&inputs[0])? } else { i64::MAX };
        let begins = !has_condition || is_true(&inputs[usize::from(has_most)])?;
        Ok((usize::try_from(most.max(0)).unwrap_or(usize::MAX), begins))
    }
}

impl PartialEq for Repeated {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Repeated {}

impl Op for Repeated {
    fn name(&self) -> StaticName {
        "Loop".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Repeated {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Loop { states: count, .. } = *self.settled;
        let first = self.settled.first_state();
        let mut states =
            inputs[first..first + count].iter().map(|state| begun(state)).collect::<TractResult<TVec<_>>>()?;
        let (most, mut condition) = self.bounds(&inputs)?;
        let collected = self.settled.wanted.iter().zip(&self.facts).filter(|(at, _)| **at >= count);
        let mut collected = collected
            .map(|(at, fact)| Ok((*at, Tensor::zero_dt(fact.datum_type, fact.shape.as_concrete().unwrap_or(&[0]))?)))
            .collect::<TractResult<TVec<_>>>()?;
        let mut round = 0;
        while condition && round < most {
            ensure!(round < MOST_ROUNDS, "Loop goes round more than {MOST_ROUNDS} times");
            let given = self.takes.iter().map(|taken| match taken {
                Taken::State(state) => Ok(states[*state].clone()),
                Taken::Outer(input) => Ok(inputs[*input].clone()),
                counter => self.settled.counter(*counter, round, condition),
            });
            let mut made = self.plan.run(given.collect::<TractResult<_>>()?, &Cell::default())?;
            if self.rounds.is_none() {
                condition = is_true(&made.remove(0))?;
            }
            for (at, whole) in &mut collected {
                let mut part = made[*at].clone().into_tensor();
                part.insert_axis(0)?;
                whole.assign_slice(round..=round, &part, 0..=0, 0)?;
            }
            made.truncate(count);
            states = made;
            round += 1;
        }
        let mut collected = collected.into_iter().map(|(_, whole)| TValue::from(whole));
        let given = self.settled.wanted.iter().map(|at| match states.get(*at) {
            Some(state) => Some(state.clone()),
            None => collected.next(),
        });
        given.collect::<Option<_>>().ok_or_else(|| anyhow!("Loop collected too little"))
    }

    op_out_of_plan!();
}

impl TypedOp for Repeated {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.clone())
    }

    as_op!();
}
