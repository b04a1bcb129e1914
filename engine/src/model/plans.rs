//! Compiled plans, one per form of a call: made on demand, the least recently used dropped first.
//!
//! The one place that drives tract's reader and optimiser.

use super::{
    bounded::{self, Beyond},
    form::{Form, may_be_value},
};
use crate::{
    convert,
    error::{LoadError, brief},
    guard::guarded,
    limits::Limits,
    model::{registers, runner::Runner, settle},
    ops,
    spec::TensorSpec,
    tensor::Tensor,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tract_onnx::{
    Onnx,
    pb::ModelProto,
    prelude::{
        DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoArcTensor, TractResult, TypedFact,
        TypedModel,
    },
    tract_hir::ops::konst::Const,
};

/// tract's ONNX reader as this crate uses it: exporters' notes on inner shapes are ignored, for they contradict pinned
/// inputs.
pub(crate) fn reader() -> Onnx {
    registers::without_tiles();
    let mut reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    ops::register(&mut reader);
    reader
}

/// A compiled plan with concrete shapes.
pub(crate) struct Plan {
    pub(crate) runner: Runner,
    pub(crate) outputs: Vec<OutputFact>,
    /// Which of the inputs it takes; the values of the others are in it.
    pub(crate) takes: Vec<usize>,
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
    limits: Limits,
    /// Whether plans are made for values too, because without them none could be made.
    by_value: AtomicBool,
    /// Most recently used last.
    ready: Mutex<Vec<(Form, Arc<Plan>)>>,
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
        let mut template = parsed.map_err(|error| not_compilable(None, &error))?;
        bounded::bound(&mut template, limits.tensor_bytes);
        if template.inputs.len() != inputs.len() {
            return Err(LoadError::malformed("the engine sees another number of inputs than the graph declares"));
        }
        Ok(Self {
            template: Mutex::new(Some(Arc::new(template))),
            inputs,
            limits: limits.clone(),
            by_value: AtomicBool::new(false),
            ready: Mutex::new(Vec::new()),
            compiling: Mutex::new(()),
        })
    }

    /// The plan for a call, compiled if there is none.
    pub(crate) fn of_call(&self, inputs: &[Tensor]) -> Result<Arc<Plan>, LoadError> {
        let fits = |form: &Form| form.fits(inputs);
        if let Some(plan) = self.find(fits) {
            return Ok(plan);
        }
        let _one_at_a_time = lock(&self.compiling);
        if let Some(plan) = self.find(fits) {
            return Ok(plan);
        }
        let form = Form::of_call(inputs, self.by_value.load(Relaxed));
        match self.make(form) {
            Err(LoadError::NotCompilable { .. }) if !self.by_value.load(Relaxed) && self.may_be_values() => {
                let plan = self.make(Form::of_call(inputs, true))?;
                self.by_value.store(true, Relaxed);
                Ok(plan)
            }
            made => made,
        }
    }

    /// The plan for inputs of these shapes, whatever their values, compiled if there is none.
    pub(crate) fn of_shapes(&self, shapes: Vec<Vec<usize>>) -> Result<Arc<Plan>, LoadError> {
        let wanted = Form::of_shapes(shapes);
        let _one_at_a_time = lock(&self.compiling);
        match self.find(|form| *form == wanted) {
            Some(plan) => Ok(plan),
            None => self.make(wanted),
        }
    }

    /// Whether some input is small enough for plans to be made for its values.
    pub(crate) fn may_be_values(&self) -> bool {
        self.inputs.iter().any(may_be_value)
    }

    /// Forgets every plan, where those so far were none that a call would want.
    pub(crate) fn forget(&self) {
        lock(&self.ready).clear();
    }

    #[cfg(test)]
    pub(crate) fn forms(&self) -> Vec<Form> {
        lock(&self.ready).iter().map(|(form, _)| form.clone()).collect()
    }

    fn find(&self, fits: impl Fn(&Form) -> bool) -> Option<Arc<Plan>> {
        let mut ready = lock(&self.ready);
        let at = ready.iter().position(|(form, _)| fits(form))?;
        ready[at..].rotate_left(1);
        ready.last().map(|(_, plan)| Arc::clone(plan))
    }

    fn make(&self, form: Form) -> Result<Arc<Plan>, LoadError> {
        let Some(template) = lock(&self.template).clone() else {
            return Err(LoadError::malformed("the shapes are fixed"));
        };
        let plan = Arc::new(self.compile(&template, &form)?);
        if !form.has_values() && self.inputs.iter().all(|input| !input.dims.contains(&None)) {
            lock(&self.template).take();
        }
        let mut ready = lock(&self.ready);
        ready.push((form, Arc::clone(&plan)));
        let surplus = ready.len().saturating_sub(self.limits.plans.max(1));
        ready.drain(..surplus);
        Ok(plan)
    }

    fn compile(&self, template: &InferenceModel, form: &Form) -> Result<Plan, LoadError> {
        let failed = |error| not_compilable(form.text(&self.inputs), &error);
        let told = || form.text(&self.inputs).map(|form| brief(&form));
        let typed = bounded::guarded(told(), || self.typed(template, form))?.map_err(failed)?;
        // Before anything else of it is computed.
        self.bounded(&typed)?;
        let optimised = guarded(|| settle::optimised(typed));
        let optimised = optimised.map_err(|what| LoadError::Panicked { what })?.map_err(failed)?;
        self.bounded(&optimised)?;
        let takes = form.values.iter().enumerate().filter(|(_, value)| value.is_none()).map(|(at, _)| at).collect();
        let made = guarded(|| -> TractResult<Plan> {
            let facts = (0..optimised.outputs.len()).map(|output| optimised.output_fact(output).map(output_fact));
            let outputs = facts.collect::<TractResult<_>>()?;
            Ok(Plan { outputs, runner: Runner::new(optimised)?, takes })
        });
        made.map_err(|what| LoadError::Panicked { what })?.map_err(failed)
    }

    fn typed(&self, template: &InferenceModel, form: &Form) -> TractResult<TypedModel> {
        let mut model = template.clone();
        let sources = model.inputs.clone();
        let mut open = Vec::with_capacity(sources.len());
        for (at, spec) in self.inputs.iter().enumerate() {
            let Some(value) = &form.values[at] else {
                open.push(sources[at]);
                model.set_input_fact(at, InferenceFact::dt_shape(convert::datum(spec.dtype), &*form.shapes[at]))?;
                continue;
            };
            let value = convert::to_tract(value)?.into_arc_tensor();
            model.set_outlet_fact(sources[at], TypedFact::try_from(value.clone())?.into())?;
            model.node_mut(sources[at].node).op = Box::new(Const::new(value)?);
        }
        model.set_input_outlets(&open)?;
        model.into_typed()
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
            ops::inner_models(&*node.op).into_iter().try_for_each(|model| self.bounded(model))?;
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

fn not_compilable(form: Option<String>, error: &tract_onnx::prelude::TractError) -> LoadError {
    if let Some(beyond) = error.root_cause().downcast_ref::<Beyond>() {
        return beyond.into();
    }
    LoadError::NotCompilable { form: form.map(|form| brief(&form)), detail: brief(&format!("{error:#}")) }
}

// Nothing is half-changed under these locks: a panic elsewhere must not take the model down.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
