//! A loaded model: knows what it takes and gives, answers calls from any thread.
//!
//! Where dimensions are open, each choice of them gets its own plan with concrete shapes, compiled at the first call and kept
//! while it is among the most recently used. The same holds for values of small integer inputs where the graph cannot be compiled
//! without them. No state passes from one call to the next.

mod bounded;
mod form;
pub(crate) mod plans;
pub(crate) mod quick;
pub(crate) mod registers;
pub(crate) mod runner;
pub(crate) mod settle;
mod spread;

use crate::{
    check, convert, decode,
    error::{LoadError, RunError, brief},
    facts::{self, Facts},
    guard::guarded,
    limits::Limits,
    rewrite,
    spec::{self, TensorSpec},
    tensor::{Data, Tensor},
};
use plans::{Plan, Plans};
use std::{cell::Cell, fmt};
use tract_onnx::{
    pb::GraphProto,
    prelude::{IntoTValue, TVec, TractResult},
};

/// An ONNX model, ready to run; shared between threads by reference or `Arc`.
pub struct Model {
    facts: Facts,
    plans: Plans,
    batch_limit: usize,
    /// Graph inputs that have a value in the file.
    in_file: Vec<String>,
    untried: Option<LoadError>,
}

impl Model {
    /// Loads a model file and compiles a plan: the only one, or the one for a single row if the batch is open. Where more is open, or
    /// a plan may depend on values, a few sizes are tried; if none does, only calls tell: [`untried`](Self::untried).
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the file or what it asks too much of; nothing of it is kept then.
    pub fn load(bytes: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        guarded(|| Self::read(bytes, limits)).map_err(|what| LoadError::Panicked { what })?
    }

    fn read(bytes: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        let mut proto = decode::model(bytes, limits)?;
        rewrite::plain(&mut proto, bytes, limits)?;
        rewrite::all(&mut proto)?;
        let reader = plans::reader();
        let graph = check::graph(&proto, &reader, limits)?;
        let inputs = spec::inputs(graph, limits)?;
        let plans = Plans::new(&reader, &proto, inputs.clone(), limits)?;
        let (outputs, untried) = outputs(graph, &inputs, &plans)?;
        let in_file = spec::in_file(graph);
        let facts = facts::derive(&proto, graph, bytes.len(), inputs, outputs);
        Ok(Self { facts, plans, batch_limit: limits.batch, in_file, untried })
    }

    /// What the model takes, in the order that [`run`](Self::run) wants.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.facts.inputs
    }

    /// What the model gives, in the order that [`run`](Self::run) answers.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.facts.outputs
    }

    /// What the file says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether callers choose the number of rows.
    pub fn is_batched(&self) -> bool {
        self.inputs().iter().any(TensorSpec::is_batched)
    }

    /// Why no plan could be made before the first call: what the file leaves open is nothing that the sizes tried would fit. None
    /// where a plan was made.
    pub fn untried(&self) -> Option<&LoadError> {
        self.untried.as_ref()
    }

    /// Compiles the plan for `batch` rows now, so that the first call does not pay for it. Without effect where more than the batch
    /// is open, or where the batch is fixed.
    ///
    /// # Errors
    /// [`RunError::BatchSize`] or [`RunError::NotCompilable`].
    pub fn prepare(&self, batch: usize) -> Result<(), RunError> {
        let shapes: Option<_> = self.inputs().iter().map(|spec| spec.pinned(batch)).collect();
        let Some(shapes) = shapes.filter(|_| self.is_batched()) else { return Ok(()) };
        self.admit_rows(batch)?;
        let form = || format!("{batch} rows");
        let made = self.plans.of_shapes(shapes);
        made.map(|_| ()).map_err(|cause| RunError::NotCompilable { form: form(), cause: Box::new(cause) })
    }

    /// Orders named tensors as [`run`](Self::run) wants them.
    ///
    /// # Errors
    /// [`RunError::InputInFile`], [`RunError::UnknownInput`], [`RunError::DuplicateInput`] or [`RunError::WrongInputCount`].
    pub fn arrange(&self, named: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<Tensor>, RunError> {
        let mut slots: Vec<Option<Tensor>> = self.inputs().iter().map(|_| None).collect();
        for (name, tensor) in named {
            let Some(slot) = self.inputs().iter().position(|input| input.name == name) else {
                if self.in_file.contains(&name) {
                    return Err(RunError::InputInFile { tensor: name });
                }
                let known = self.inputs().iter().map(|input| input.name.clone()).collect();
                return Err(RunError::UnknownInput { tensor: brief(&name), known });
            };
            if slots[slot].replace(tensor).is_some() {
                return Err(RunError::DuplicateInput { tensor: name });
            }
        }
        let (expected, got) = (slots.len(), slots.iter().flatten().count());
        slots.into_iter().collect::<Option<_>>().ok_or(RunError::WrongInputCount { expected, got })
    }

    /// The outputs for `inputs`, both in declared order. Compiles a plan first if there is none for such a call.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable after every one of them.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let rows = self.rows(inputs)?;
        let is_empty = |(spec, input): (&TensorSpec, &Tensor)| spec.is_batched() && input.shape().first() == Some(&0);
        if rows.is_none_or(|rows| rows <= self.batch_limit)
            && self.inputs().iter().zip(inputs).any(is_empty)
            && let Some(nothing) = self.nothing(inputs)
        {
            return Ok(nothing);
        }
        // Some outputs have values all the same, such as sums; where no plan gives them, the call is refused for its rows.
        if rows == Some(0)
            && let Ok(answer) = self.computed(inputs)
        {
            return Ok(answer);
        }
        rows.map_or(Ok(()), |rows| self.admit_rows(rows))?;
        self.computed(inputs)
    }

    fn computed(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let plan = self.plans.of_call(inputs).map_err(|cause| {
            let form = form::Form::of_call(inputs, false).text(self.inputs());
            RunError::NotCompilable { form: form.unwrap_or_else(|| "this call".into()), cause: Box::new(cause) }
        })?;
        let at = Cell::new(usize::MAX);
        let computed = guarded(|| compute(&plan, inputs, &at)).map_err(|what| panicked(&plan, at.get(), &what))?;
        computed.map_err(|error| RunError::Failed { detail: brief(&format!("{error:#}")) })
    }

    /// Rows of the call; none where they are fixed. Inputs whose open first dimensions the file gives the same name, or none, have as
    /// many as each other.
    fn rows(&self, inputs: &[Tensor]) -> Result<Option<usize>, RunError> {
        let (expected, got) = (self.inputs().len(), inputs.len());
        if got != expected {
            return Err(match self.in_file.first() {
                Some(tensor) if got == expected + self.in_file.len() => {
                    RunError::InputInFile { tensor: tensor.clone() }
                }
                _ => RunError::WrongInputCount { expected, got },
            });
        }
        let mut rows: Vec<(Option<&str>, usize)> = Vec::new();
        for (spec, tensor) in self.inputs().iter().zip(inputs) {
            spec.admit(tensor)?;
            let mut later = spec.dims.iter().zip(tensor.shape()).skip(1);
            if later.any(|(dim, got)| dim.is_none() && *got == 0) {
                return Err(RunError::Empty { tensor: spec.name.clone(), got: tensor.shape().to_vec() });
            }
            let (true, Some(&got)) = (spec.is_batched(), tensor.shape().first()) else { continue };
            match rows.iter().find(|(name, _)| *name == spec.rows_name()) {
                Some((_, expected)) if got != *expected => {
                    return Err(RunError::UnequalBatch { tensor: spec.name.clone(), expected: *expected, got });
                }
                Some(_) => {}
                None => rows.push((spec.rows_name(), got)),
            }
        }
        // Of several the one that is out of bounds tells.
        let most = rows.iter().map(|(_, rows)| *rows).max();
        Ok(most.filter(|most| *most > self.batch_limit).or(rows.first().map(|(_, rows)| *rows)))
    }

    /// The outputs for a call in which an input has no rows, where none of them then has a value. What shapes they have is told by plans
    /// for two and for three rows instead.
    fn nothing(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let dims = |rows: usize| -> Option<Vec<Vec<usize>>> {
            let shape = |(spec, input): (&TensorSpec, &Tensor)| {
                let mut shape = input.shape().to_vec();
                let first = shape.first_mut().filter(|first| spec.is_batched() && **first == 0);
                first.into_iter().for_each(|first| *first = rows);
                shape
            };
            let plan = self.plans.of_shapes(self.inputs().iter().zip(inputs).map(shape).collect()).ok()?;
            plan.outputs.iter().map(|output| output.dims.iter().copied().collect()).collect()
        };
        let empty = |((spec, two), three): ((&TensorSpec, Vec<usize>), Vec<usize>)| {
            let none = |(two, three): (&usize, &usize)| (3 * two).checked_sub(2 * three);
            let shape: Vec<usize> = two.iter().zip(&three).map(none).collect::<Option<_>>()?;
            let is_empty = two.len() == three.len() && shape.contains(&0);
            Tensor::new(is_empty.then_some(shape)?, Data::none(spec.dtype)).ok()
        };
        self.outputs().iter().zip(dims(2)?).zip(dims(3)?).map(empty).collect()
    }

    fn admit_rows(&self, rows: usize) -> Result<(), RunError> {
        if rows == 0 || rows > self.batch_limit {
            return Err(RunError::BatchSize { got: rows, limit: self.batch_limit });
        }
        Ok(())
    }
}

/// What the model gives, by a plan that is made for it; or by the file's word, and why no plan could be made.
fn outputs(
    graph: &GraphProto,
    inputs: &[TensorSpec],
    plans: &Plans,
) -> Result<(Vec<TensorSpec>, Option<LoadError>), LoadError> {
    let (mut failed, mut plan) = (None, None);
    for shapes in form::typical(inputs) {
        match plans.of_shapes(shapes) {
            Ok(made) => {
                plan = Some(made);
                break;
            }
            // Others may fit; what is wrong with the file does not go away.
            Err(error) => {
                let is_of_shapes = matches!(error, LoadError::NotCompilable { .. });
                failed.get_or_insert(error);
                if !is_of_shapes {
                    break;
                }
            }
        }
    }
    let is_loose = !inputs.iter().all(TensorSpec::is_open_in_rows_only);
    if is_loose {
        plans.forget();
    }
    let Some(plan) = plan else {
        let failed = failed.unwrap_or_else(|| LoadError::malformed("nothing was tried"));
        let may_do = is_loose || plans.may_be_values() || inputs.iter().any(|input| input.dims == [None]);
        let told: Option<Vec<_>> = graph.output.iter().map(spec::declared_output).collect();
        return match (told, &failed) {
            (Some(told), LoadError::NotCompilable { .. }) if may_do => Ok((told, Some(failed))),
            _ => Err(failed),
        };
    };
    if plan.outputs.len() != graph.output.len() {
        return Err(LoadError::malformed("the plan has another number of outputs than the graph"));
    }
    let batched = inputs.iter().any(TensorSpec::is_batched);
    let told = graph.output.iter().zip(&plan.outputs).map(|(info, fact)| {
        let dtype = convert::dtype(fact.datum).ok_or_else(|| LoadError::UnsupportedType {
            tensor: brief(&info.name),
            dtype: format!("{:?}", fact.datum).to_uppercase(),
        })?;
        Ok(match is_loose {
            true => spec::loose_output(info, dtype, &fact.dims),
            false => spec::output(info, dtype, &fact.dims, batched),
        })
    });
    Ok((told.collect::<Result<_, LoadError>>()?, None))
}

impl fmt::Debug for Model {
    // The plans would print every weight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What a panic of one of tract's operators means: a few take it that indices and divisors do.
fn panicked(plan: &Plan, at: usize, what: &str) -> RunError {
    let Some((operator, kind)) = plan.runner.operator(at) else { return RunError::Panicked { what: what.into() } };
    let picks = ["Gather", "Scatter", "OneHot", "Slice"].iter().any(|picking| kind.contains(picking));
    let why = if picks && (what.contains("out of bounds") || what.contains("out of range")) {
        "an index lies beyond what it picks from"
    } else if what.starts_with("attempt to") && what.contains("zero") {
        "it divides by zero"
    } else if what.starts_with("failed to allocate") {
        "there is too little memory for what it makes"
    } else {
        return RunError::Panicked { what: format!("operator `{operator}` ({kind}): {what}") };
    };
    RunError::Values { operator, kind, why }
}

fn compute(plan: &Plan, inputs: &[Tensor], at: &Cell<usize>) -> TractResult<Vec<Tensor>> {
    let inputs = plan.takes.iter().map(|at| Ok(convert::to_tract(&inputs[*at])?.into_tvalue()));
    let outputs = plan.runner.run(inputs.collect::<TractResult<TVec<_>>>()?, at)?;
    outputs.iter().map(|tensor| convert::from_tract(tensor)).collect()
}

#[cfg(test)]
mod tests;
