//! `Loop`: a body that is gone through again and again. How often must be known once shapes are, where it collects a value each time:
//! that is the length of what it gives.
//!
//! Exporters write loops over the steps of a sequence so: a most number of rounds, and a condition that counts. What the condition hangs on
//! is gone through by itself while the plan is made, if all of it is known then.

mod repeated;
#[cfg(test)]
mod tests;

use super::kernel::{Built, values};
use crate::{
    error::brief,
    model::{runner::Pooled, settle},
};
pub(super) use repeated::Repeated;
use repeated::open;
use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tract_onnx::{
    model::{ParseResult, ParsingContext},
    pb::{GraphProto, NodeProto},
    prelude::tensor0,
    tract_hir::{
        internal::{
            DatumType, EvalOp, Factoid, InferenceFact, InferenceModel, InferenceModelExt, InferenceNode, InferenceOp,
            Op, OutletId, ShapeFactoid, SpecialOps, StaticName, TDim, TValue, TVec, Tensor, TractResult, TypedFact,
            TypedModel, TypedOp, anyhow, as_op, bail, ensure, not_a_typed_op, not_out_of_plan,
        },
        ops::konst::Const,
    },
};

/// What becomes known of inputs, outputs and what an operator watches besides.
type Known = (TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>);

/// Most rounds, however little each of them does.
const MOST_ROUNDS: usize = 1 << 16;

/// The body takes the number of the round, the condition, a value for each state, and what it reads from around it; it gives the
/// condition, the states, and what is collected.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    body: InferenceModel,
    has_most: bool,
    has_condition: bool,
    states: usize,
    /// Which of what it gives, states first, the graph names.
    wanted: Vec<usize>,
}

impl PartialEq for Loop {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Loop {}

pub(super) fn rounds(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let ParseResult { mut model, unresolved_inputs, .. } =
        context.parse_graph(node.get_attr::<&GraphProto>("body")?)?;
    let is_there = |at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    let states = node.input.len().saturating_sub(2);
    ensure!((2..node.input.len()).all(is_there), "a state of Loop begins without a value");
    let (takes, gives) = (model.inputs.len() - unresolved_inputs.len(), model.outputs.len());
    ensure!(takes == 2 + states, "the body of Loop takes {takes} values, not {}", 2 + states);
    ensure!(gives > states, "the body of Loop gives {gives} values for {states} states");
    ensure!(node.output.len() < gives, "Loop gives {} values, its body {gives}", node.output.len());
    for (at, datum) in [DatumType::I64, DatumType::Bool].into_iter().enumerate() {
        // What exporters note of its states is of the shapes that they saw; of these two it says whether they are lists.
        let rank = model.input_fact(at)?.shape.rank().concretize().filter(|rank| *rank == 1);
        let shape: &[usize] = if rank.is_some() { &[1] } else { &[] };
        model.set_input_fact(at, InferenceFact::dt_shape(datum, shape))?;
    }
    (2..model.inputs.len()).try_for_each(|at| model.set_input_fact(at, InferenceFact::default()))?;
    let wanted = (0..node.output.len()).filter(|at| !node.output[*at].is_empty()).collect();
    let (has_most, has_condition) = (is_there(0), is_there(1));
    Ok((Box::new(Loop { body: model, has_most, has_condition, states, wanted }), unresolved_inputs))
}

/// The body, if this is such an operator.
pub(super) fn body(op: &mut dyn Op) -> Option<&mut InferenceModel> {
    op.downcast_mut::<Loop>().map(|repeated| &mut repeated.body)
}

/// tract has a type for sizes, which ONNX knows as whole numbers.
fn plain(datum: DatumType) -> DatumType {
    if datum == DatumType::TDim { DatumType::I64 } else { datum }
}

/// What is known of a tensor but for its values.
fn outline(fact: &InferenceFact) -> InferenceFact {
    let fact = fact.clone().without_value();
    match fact.datum_type.concretize() {
        Some(datum) => fact.with_datum_type(plain(datum)),
        None => fact,
    }
}

/// A state's first value.
fn begun(value: &Tensor) -> TractResult<TValue> {
    Ok(value.cast_to_dt(plain(value.datum_type()))?.into_owned().into())
}

fn is_true(condition: &Tensor) -> TractResult<bool> {
    match values::<bool>(condition)? {
        [condition] => Ok(*condition),
        several => bail!("Loop takes one condition, got {} values", several.len()),
    }
}

fn single(value: &Tensor) -> TractResult<i64> {
    match values::<i64>(&*value.cast_to::<i64>()?)? {
        [one] => Ok(*one),
        several => bail!("Loop takes one number of rounds and one condition, got {} values", several.len()),
    }
}

fn known(fact: &InferenceFact) -> TractResult<Option<i64>> {
    fact.value.concretize().map(|value| single(&value)).transpose()
}

/// What a body of it takes at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taken {
    Round,
    Condition,
    State(usize),
    /// From around it: an input of the operator.
    Outer(usize),
}

impl Loop {
    /// Where the states begin among the operator's inputs.
    fn first_state(&self) -> usize {
        usize::from(self.has_most) + usize::from(self.has_condition)
    }

    fn taken(&self, at: usize) -> Taken {
        match at {
            0 => Taken::Round,
            1 => Taken::Condition,
            _ if at < 2 + self.states => Taken::State(at - 2),
            _ => Taken::Outer(self.first_state() + at - 2),
        }
    }

    /// Whether a state stays what it was.
    fn is_kept(&self, state: usize) -> bool {
        self.body.outputs[1 + state] == self.body.inputs[2 + state]
    }

    /// What a place of the body is known to be; a state may have another value in each round.
    fn inner_fact(&self, at: usize, inputs: &[InferenceFact]) -> Option<InferenceFact> {
        match self.taken(at) {
            Taken::Round | Taken::Condition => None,
            Taken::State(state) if !self.is_kept(state) => Some(outline(&inputs[self.first_state() + state])),
            Taken::State(state) => Some(inputs[self.first_state() + state].clone()),
            Taken::Outer(input) => Some(inputs[input].clone()),
        }
    }

    /// Carries what is known between inside and outside until nothing new comes of it.
    fn agree(&mut self, inputs: &[InferenceFact], outputs: &mut [InferenceFact]) -> TractResult<()> {
        let first = self.first_state();
        loop {
            let mut changed = false;
            for at in 2..self.body.inputs.len() {
                if let Some(mut outside) = self.inner_fact(at, inputs) {
                    changed |= self.body.input_fact_mut(at)?.unify_with_mut(&mut outside)?;
                }
            }
            for state in 0..self.states {
                let mut made = outline(self.body.output_fact(1 + state)?);
                let begins = outline(&inputs[first + state]);
                changed |= made.unify_with_mut(&mut begins.clone())?;
                self.body.output_fact_mut(1 + state)?.unify_with_mut(&mut made)?;
            }
            changed |= self.body.analyse(false)?;
            if !changed {
                break;
            }
        }
        let rounds = self.rounds(inputs)?;
        for (at, output) in self.wanted.iter().zip(outputs) {
            let mut told = outline(self.body.output_fact(1 + at)?);
            if *at >= self.states {
                let Some(shape) = told.shape.concretize() else { continue };
                let Some(rounds) = rounds else { continue };
                let shape: TVec<TDim> = std::iter::once(TDim::from(rounds)).chain(shape).collect();
                told.shape = ShapeFactoid::from(shape);
            }
            output.unify_with_mut(&mut told)?;
        }
        Ok(())
    }

    /// How often it goes round, if that is known.
    fn rounds(&self, inputs: &[InferenceFact]) -> TractResult<Option<usize>> {
        let most = if self.has_most { known(&inputs[0])? } else { Some(i64::MAX) };
        let begins = if self.has_condition { known(&inputs[usize::from(self.has_most)])? } else { Some(1) };
        let (Some(most), Some(begins)) = (most, begins) else { return Ok(None) };
        if begins == 0 || most <= 0 {
            return Ok(Some(0));
        }
        let is_kept = self.body.outputs[0] == self.body.inputs[1];
        let goes_on = if is_kept { Some(1) } else { known(self.body.output_fact(0)?)? };
        let rounds = match goes_on {
            Some(0) => Some(1),
            Some(_) => Some(usize::try_from(most).unwrap_or(usize::MAX)),
            None => self.counted(most, inputs)?,
        };
        ensure!(rounds.is_none_or(|rounds| rounds <= MOST_ROUNDS), "Loop goes round more than {MOST_ROUNDS} times");
        Ok(rounds)
    }

    /// The states and what else the condition hangs on, by their places among what the body takes.
    fn control(&self) -> BTreeSet<usize> {
        let (mut needed, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![self.body.outputs[0].node];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            open.extend(self.body.node(id).inputs.iter().map(|input| input.node));
            if let Some(at) = self.body.inputs.iter().position(|input| input.node == id) {
                needed.insert(at);
                if let Taken::State(state) = self.taken(at) {
                    open.push(self.body.outputs[1 + state].node);
                }
            }
        }
        needed
    }

    /// How often it goes round, counted by what the condition hangs on alone; none where a part of that is not known.
    fn counted(&self, most: i64, inputs: &[InferenceFact]) -> TractResult<Option<usize>> {
        let control = self.control();
        let state = |at: &usize| match self.taken(*at) {
            Taken::State(state) if !self.is_kept(state) => Some(state),
            _ => None,
        };
        let changing: Vec<usize> = control.iter().filter_map(state).collect();
        let first = self.first_state();
        let values = changing.iter().map(|state| inputs[first + state].value.concretize());
        let Some(values) = values.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let is_known = |at: &usize| {
            state(at).is_some() || self.inner_fact(*at, inputs).is_none_or(|fact| fact.value.concretize().is_some())
        };
        if !control.iter().all(is_known) {
            return Ok(None);
        }
        let mut body = self.body.clone();
        let outputs = std::iter::once(0).chain(changing.iter().map(|state| 1 + state));
        let outputs: Vec<OutletId> = outputs.map(|at| body.outputs[at]).collect();
        body.select_output_outlets(&outputs)?;
        let takes = self.settle(&mut body, inputs, |at| control.contains(&at))?;
        let body = settle::optimised(body.into_typed()?)?;
        if open(&body).is_some() {
            return Ok(None);
        }
        let plan = Pooled::new(body)?;
        let mut states = values.iter().map(|value| begun(value)).collect::<TractResult<Vec<_>>>()?;
        let mut condition = true;
        for round in 0..=MOST_ROUNDS {
            if !condition || i64::try_from(round)? >= most {
                return Ok(Some(round));
            }
            let given = takes.iter().map(|taken| match taken {
                Taken::State(state) => {
                    let at = changing.iter().position(|changing| changing == state);
                    at.map(|at| states[at].clone()).ok_or_else(|| anyhow!("a state that is not known"))
                }
                taken => self.counter(*taken, round, condition),
            });
            let mut made = plan.run(given.collect::<TractResult<_>>()?, &Cell::default())?.into_iter();
            let next = made.next().ok_or_else(|| anyhow!("no condition"))?;
            condition = is_true(&next)?;
            states = made.collect();
        }
        bail!("Loop goes round more than {MOST_ROUNDS} times")
    }

    /// The number of a round or the condition, of the shape in which the body takes it.
    fn counter(&self, taken: Taken, round: usize, condition: bool) -> TractResult<TValue> {
        let (at, tensor) = match taken {
            Taken::Round => (0, tensor0(i64::try_from(round)?)),
            _ => (1, tensor0(condition)),
        };
        let shape = self.body.input_fact(at)?.shape.concretize().unwrap_or_default();
        let shape = shape.iter().map(|_| 1).collect::<TVec<usize>>();
        Ok(tensor.into_shape(&shape)?.into())
    }

    /// Puts what is known into a body, leaves the rest of what is `needed` as its inputs, and says what these are.
    fn settle(
        &self,
        body: &mut InferenceModel,
        inputs: &[InferenceFact],
        needed: impl Fn(usize) -> bool,
    ) -> TractResult<Vec<Taken>> {
        let sources = body.inputs.clone();
        let (mut outlets, mut takes) = (Vec::new(), Vec::new());
        for (at, source) in sources.into_iter().enumerate().filter(|(at, _)| needed(*at)) {
            let known = self.inner_fact(at, inputs);
            if let Some(value) = known.as_ref().and_then(|fact| fact.value.concretize()) {
                body.set_outlet_fact(source, TypedFact::try_from(value.clone())?.into())?;
                body.node_mut(source.node).op = Box::new(Const::new(value)?);
                continue;
            }
            if let Some(known) = known {
                body.set_outlet_fact(source, outline(&known))?;
            }
            outlets.push(source);
            takes.push(self.taken(at));
        }
        body.set_input_outlets(&outlets)?;
        Ok(takes)
    }
}

impl Op for Loop {
    fn name(&self) -> StaticName {
        "Loop".into()
    }

    not_a_typed_op!();
}

impl EvalOp for Loop {
    not_out_of_plan!();
}

impl InferenceOp for Loop {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Known> {
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        self.agree(&inputs, &mut outputs)?;
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.len())
    }

    fn to_typed(
        &self,
        _: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let outer: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        let known = outer.iter().map(|input| target.outlet_fact(*input).map(InferenceFact::from));
        let known: Vec<InferenceFact> = known.collect::<TractResult<_>>()?;
        let mut settled = self.clone();
        settled.agree(&known, &mut [])?;
        let rounds = settled.rounds(&known)?;
        let mut body = settled.body.clone();
        if rounds.is_some() {
            let outputs = body.outputs[1..].to_vec();
            body.select_output_outlets(&outputs)?;
        }
        let takes = settled.settle(&mut body, &known, |_| true)?;
        let body = settle::optimised(body.into_typed()?)?;
        if let Some(open) = open(&body) {
            let (name, inner) = (brief(&node.name), brief(&open.name));
            bail!("the size of `{inner}` in the body of {name} is told by a call alone");
        }
        let skipped = usize::from(rounds.is_none());
        let fact = |at: &usize| -> TractResult<TypedFact> {
            let made = body.output_fact(skipped + at)?.without_value();
            if *at < self.states {
                return Ok(made);
            }
            let Some(rounds) = rounds else {
                bail!("{} collects a value in each round, and only a call tells how many these are", node.name)
            };
            let shape = std::iter::once(TDim::from(rounds)).chain(made.shape.iter().cloned());
            Ok(TypedFact::dt_shape(made.datum_type, shape.collect::<TVec<_>>()))
        };
        let facts = self.wanted.iter().map(fact).collect::<TractResult<TVec<_>>>()?;
        let plan = Arc::new(Pooled::new(body)?);
        let repeated = Repeated { settled: Arc::new(settled), plan, takes, rounds, facts };
        target.wire_node(&node.name, repeated, &outer)
    }

    as_op!();
}
