//! Compiled plans, one per batch size: made on demand, the least recently used dropped first.
//!
//! The one place that drives tract's reader and optimiser.

use crate::{
    error::{LoadError, brief},
    guard::guarded,
    limits::Limits,
    model::quick,
    ops,
    spec::TensorSpec,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tract_onnx::{
    Onnx,
    pb::ModelProto,
    prelude::{
        DatumType, Framework, InferenceModel, InferenceModelExt, IntoRunnable, TractResult, TypedFact, TypedModel,
        TypedRunnableModel,
    },
};

/// tract's ONNX reader as this crate uses it: exporters' notes on inner shapes are ignored, for they contradict pinned
/// inputs.
pub(crate) fn reader() -> Onnx {
    let mut reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    ops::register(&mut reader);
    reader
}

/// A compiled plan with concrete shapes.
pub(crate) struct Plan {
    pub(crate) runnable: Arc<TypedRunnableModel>,
    pub(crate) outputs: Vec<OutputFact>,
}

/// What a plan says of one output.
pub(crate) struct OutputFact {
    pub(crate) datum: DatumType,
    pub(crate) dims: Vec<Option<usize>>,
}

/// The plans of one model.
pub(crate) struct Plans {
    /// Parsed but not analysed; weights are shared with no plan, so it is dropped where one plan is all there is.
    template: Mutex<Option<Arc<InferenceModel>>>,
    inputs: Vec<TensorSpec>,
    batched: bool,
    limits: Limits,
    /// Most recently used last.
    ready: Mutex<Vec<(usize, Arc<Plan>)>>,
    /// Held while compiling, so that two threads never make the same plan.
    compiling: Mutex<()>,
}

impl Plans {
    /// Parses the model; compiles nothing yet.
    pub(crate) fn new(
        reader: &Onnx,
        proto: &ModelProto,
        inputs: Vec<TensorSpec>,
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        let parsed = guarded(|| reader.model_for_proto_model(proto)).map_err(|what| LoadError::Panicked { what })?;
        let template = parsed.map_err(|error| not_compilable(None, &error))?;
        if template.inputs.len() != inputs.len() {
            return Err(LoadError::malformed("the engine sees another number of inputs than the graph declares"));
        }
        Ok(Self {
            template: Mutex::new(Some(Arc::new(template))),
            batched: inputs.iter().any(TensorSpec::is_batched),
            inputs,
            limits: limits.clone(),
            ready: Mutex::new(Vec::new()),
            compiling: Mutex::new(()),
        })
    }

    /// The plan for `batch` rows, compiled if there is none. Where the batch is fixed, callers pass 1.
    pub(crate) fn get(&self, batch: usize) -> Result<Arc<Plan>, LoadError> {
        if let Some(plan) = self.find(batch) {
            return Ok(plan);
        }
        let _one_at_a_time = lock(&self.compiling);
        if let Some(plan) = self.find(batch) {
            return Ok(plan);
        }
        let Some(template) = lock(&self.template).clone() else {
            return Err(LoadError::malformed("the batch size is fixed"));
        };
        let plan = Arc::new(self.compile(&template, batch)?);
        let mut ready = lock(&self.ready);
        ready.push((batch, Arc::clone(&plan)));
        let surplus = ready.len().saturating_sub(self.limits.plans.max(1));
        ready.drain(..surplus);
        if !self.batched {
            lock(&self.template).take();
        }
        Ok(plan)
    }

    #[cfg(test)]
    pub(crate) fn batches(&self) -> Vec<usize> {
        lock(&self.ready).iter().map(|(batch, _)| *batch).collect()
    }

    fn find(&self, batch: usize) -> Option<Arc<Plan>> {
        let mut ready = lock(&self.ready);
        let at = ready.iter().position(|(rows, _)| *rows == batch)?;
        ready[at..].rotate_left(1);
        ready.last().map(|(_, plan)| Arc::clone(plan))
    }

    fn compile(&self, template: &InferenceModel, batch: usize) -> Result<Plan, LoadError> {
        let rows = self.batched.then_some(batch);
        let optimised = guarded(|| self.optimise(template, batch)).map_err(|what| LoadError::Panicked { what })?;
        let optimised = optimised.map_err(|error| not_compilable(rows, &error))?;
        self.bounded(&optimised)?;
        let made = guarded(|| -> TractResult<Plan> {
            let facts = (0..optimised.outputs.len()).map(|output| optimised.output_fact(output).map(output_fact));
            let outputs = facts.collect::<TractResult<_>>()?;
            Ok(Plan { outputs, runnable: optimised.into_runnable()? })
        });
        made.map_err(|what| LoadError::Panicked { what })?.map_err(|error| not_compilable(rows, &error))
    }

    fn optimise(&self, template: &InferenceModel, batch: usize) -> TractResult<TypedModel> {
        let mut model = template.clone();
        for (index, spec) in self.inputs.iter().enumerate() {
            // Specs with other open dimensions were refused when they were made.
            if let Some(fact) = spec.fact(batch) {
                model.set_input_fact(index, fact)?;
            }
        }
        let mut model = model.into_optimized()?;
        quick::exchange(&mut model)?;
        Ok(model)
    }

    fn bounded(&self, model: &TypedModel) -> Result<(), LoadError> {
        for node in &model.nodes {
            for outlet in &node.outputs {
                let got = tensor_bytes(&outlet.fact);
                if got > self.limits.tensor_bytes {
                    let what = format!("tensor `{}`, in bytes,", brief(&node.name));
                    return Err(LoadError::TooLarge { what, got, limit: self.limits.tensor_bytes });
                }
            }
        }
        Ok(())
    }
}

/// Bytes of a tensor whose shape is known, else 0.
fn tensor_bytes(fact: &TypedFact) -> u64 {
    let dims = fact.shape.as_concrete().unwrap_or(&[0]);
    dims.iter().fold(fact.datum_type.size_of() as u64, |bytes, dim| bytes.saturating_mul(*dim as u64))
}

fn output_fact(fact: &TypedFact) -> OutputFact {
    let dims = fact.shape.iter().map(|dim| usize::try_from(dim.as_i64()?).ok()).collect();
    OutputFact { datum: fact.datum_type, dims }
}

fn not_compilable(batch: Option<usize>, error: &tract_onnx::prelude::TractError) -> LoadError {
    LoadError::NotCompilable { batch, detail: brief(&format!("{error:#}")) }
}

// Nothing is half-changed under these locks: a panic elsewhere must not take the model down.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
