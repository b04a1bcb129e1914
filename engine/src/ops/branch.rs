//! `If`: where the condition is known once shapes are, the branch that it names stands in the operator's place, and the other is
//! never looked at; where only a call tells, both are kept.
//!
//! tract compiles both branches always, so that one that does not fit the shapes at hand, as exporters write them for the other
//! shapes, takes the model down.

use super::kernel::Built;
use crate::model::{runner::Pooled, settle};
use std::{cell::Cell, collections::HashMap, sync::Arc};
use tract_onnx::{
    model::{ParseResult, ParsingContext},
    pb::{GraphProto, NodeProto},
    tract_hir::internal::{
        DatumType, EvalContext, EvalOp, Factoid, InferenceFact, InferenceModel, InferenceModelExt, InferenceNode,
        InferenceOp, Op, OutletId, SpecialOps, StaticName, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel,
        TypedOp, anyhow, as_op, ensure, not_a_typed_op, not_out_of_plan, op_as_typed_op, op_out_of_plan,
    },
};

/// What becomes known of inputs, outputs and what an operator watches besides.
type Known = (TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>);

/// A nested graph, and which of the operator's inputs it reads: the condition is the first, the rest are what it takes from around it.
#[derive(Debug, Clone)]
struct Branch {
    body: InferenceModel,
    reads: Vec<usize>,
}

/// The branch for true stands first.
#[derive(Debug, Clone)]
struct If([Branch; 2]);

impl PartialEq for If {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for If {}

pub(super) fn conditional(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let mut names: Vec<String> = Vec::new();
    let mut branch = |attribute: &str| {
        let ParseResult { model: body, unresolved_inputs, .. } =
            context.parse_graph(node.get_attr::<&GraphProto>(attribute)?)?;
        ensure!(
            body.outputs.len() == node.output.len(),
            "{attribute} gives {} outputs of {}",
            body.outputs.len(),
            node.output.len()
        );
        ensure!(body.inputs.len() == unresolved_inputs.len(), "{attribute} has inputs of its own");
        let reads = unresolved_inputs.into_iter().map(|name| {
            let known = names.iter().position(|known| *known == name);
            1 + known.unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        });
        let reads = reads.collect();
        Ok::<_, tract_onnx::prelude::TractError>(Branch { body, reads })
    };
    let branches = [branch("then_branch")?, branch("else_branch")?];
    ensure!(node.output.iter().all(|name| !name.is_empty()), "an output of If has no name");
    Ok((Box::new(If(branches)), names))
}

/// The graphs of both branches, if this is such an operator.
pub(super) fn bodies(op: &mut dyn Op) -> Vec<&mut InferenceModel> {
    op.downcast_mut::<If>()
        .map_or_else(Vec::new, |branches| branches.0.iter_mut().map(|branch| &mut branch.body).collect())
}

impl Branch {
    /// Carries what is known between inside and outside until nothing new comes of it.
    fn agree(&mut self, inputs: &mut [InferenceFact], outputs: &mut [InferenceFact]) -> TractResult<()> {
        loop {
            let mut changed = false;
            for (inside, outside) in self.reads.iter().enumerate() {
                changed |= self.body.input_fact_mut(inside)?.unify_with_mut(&mut inputs[*outside])?;
            }
            for (at, output) in outputs.iter_mut().enumerate() {
                changed |= self.body.output_fact_mut(at)?.unify_with_mut(output)?;
            }
            changed |= self.body.analyse(false)?;
            if !changed {
                return Ok(());
            }
        }
    }

    /// Puts the nodes into `target`, where `inputs` are the operator's inputs; what the outputs are there.
    fn put_into(&self, name: &str, target: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut body = self.body.clone();
        for (inside, outside) in self.reads.iter().enumerate() {
            let known = InferenceFact::from(target.outlet_fact(inputs[*outside])?);
            body.set_input_fact(inside, known)?;
        }
        for node in body.nodes_mut() {
            node.name = format!("{name}.{}", node.name);
        }
        body.analyse(false)?;
        let body = body.incorporate()?;
        let outer = self.reads.iter().map(|outside| inputs[*outside]);
        let mut mapping: HashMap<OutletId, OutletId> = body.inputs.iter().copied().zip(outer).collect();
        for id in body.eval_order()? {
            let node = body.node(id);
            if InferenceModel::is_source(&node.op) {
                continue;
            }
            let values: Option<Vec<_>> = node.outputs.iter().map(|output| output.fact.value.concretize()).collect();
            let made = match values {
                Some(values) => {
                    let constants = values.into_iter().enumerate();
                    constants.map(|(at, value)| target.add_const(format!("{}.{at}", node.name), value)).collect()
                }
                None => node.op.to_typed(&body, node, target, &mapping),
            };
            let made: TVec<OutletId> =
                made.map_err(|error| error.context(format!("{} inside {name}", node.op.name())))?;
            mapping.extend(made.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
        }
        let made = body.outputs.iter().map(|output| mapping.get(output).copied());
        made.collect::<Option<_>>().ok_or_else(|| anyhow!("a branch of {name} gives what it does not make"))
    }
}

impl Branch {
    /// A plan of its own, and what it gives.
    fn compiled(
        &self,
        node: &InferenceNode,
        target: &TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<(Arc<Pooled>, TVec<TypedFact>)> {
        let mut branch = self.clone();
        let known = inputs.iter().map(|input| target.outlet_fact(*input).map(InferenceFact::from));
        let mut known: Vec<InferenceFact> = known.collect::<TractResult<_>>()?;
        let mut outputs: Vec<InferenceFact> =
            node.outputs.iter().map(|output| output.fact.clone().without_value()).collect();
        branch.agree(&mut known, &mut outputs)?;
        let body = settle::optimised(branch.body.into_typed()?)?;
        let facts = (0..body.outputs.len()).map(|at| body.output_fact(at).map(TypedFact::without_value));
        let facts = facts.collect::<TractResult<_>>()?;
        Ok((Arc::new(Pooled::new(body)?), facts))
    }
}

fn is_true(condition: &Tensor) -> TractResult<bool> {
    ensure!(condition.len() == 1, "the condition of If has {} values", condition.len());
    let values = condition.cast_to::<bool>()?;
    Ok(values.try_as_plain_ram()?.as_slice::<bool>()?[0])
}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    not_out_of_plan!();
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Known> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        inputs[0].datum_type.unify_with(&DatumType::Bool.into())?;
        if let Some(condition) = inputs[0].value.concretize() {
            self.0[usize::from(!is_true(&condition)?)].agree(&mut inputs, &mut outputs)?;
        } else {
            // Only what both branches say is so; a branch that cannot be said yet says nothing.
            let told = self.0.clone().map(|mut branch| {
                let mut told = outputs.clone();
                branch.agree(&mut inputs.clone(), &mut told).ok().map(|()| told)
            });
            if let [Some(one), Some(other)] = told {
                for ((one, other), output) in one.into_iter().zip(other).zip(&mut outputs) {
                    if one.datum_type == other.datum_type {
                        output.datum_type.unify_with(&one.datum_type)?;
                    }
                    if one.shape == other.shape {
                        output.shape.unify_with(&one.shape)?;
                    }
                }
            }
        }
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0[0].body.outputs.len())
    }

    fn to_typed(
        &self,
        _: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        if let Some(condition) = target.outlet_fact(inputs[0])?.konst.clone() {
            return self.0[usize::from(!is_true(&condition)?)].put_into(&node.name, target, &inputs);
        }
        let [yes, no] = [0, 1].map(|at| self.0[at].compiled(node, target, &inputs));
        let (yes, no) = (yes?, no?);
        ensure!(
            yes.1 == no.1,
            "the branches of {} give other types or shapes, and only a call tells which is taken",
            node.name
        );
        let facts = yes.1;
        target.wire_node(
            &node.name,
            Choice { plans: [yes.0, no.0], reads: [0, 1].map(|at| self.0[at].reads.clone()), facts },
            &inputs,
        )
    }

    as_op!();
}

/// The operator where only a call tells which branch is taken.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    plans: [Arc<Pooled>; 2],
    reads: [Vec<usize>; 2],
    facts: TVec<TypedFact>,
}

impl Choice {
    pub(super) fn models(&self) -> [&TypedModel; 2] {
        self.plans.each_ref().map(|plan| plan.model())
    }
}

impl PartialEq for Choice {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Choice {}

impl Op for Choice {
    fn name(&self) -> StaticName {
        "If".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Choice {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let taken = usize::from(!is_true(&inputs[0])?);
        let inputs = self.reads[taken].iter().map(|at| inputs[*at].clone()).collect();
        self.plans[taken].run(inputs, &Cell::default())
    }

    op_out_of_plan!();
}

impl TypedOp for Choice {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.clone())
    }

    as_op!();
}
