//! One operator as this crate writes it, and its way into tract: shapes while tract infers, a node of its graph, a call.

use std::{borrow::Cow, fmt, sync::Arc};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, f16, tensor1},
    tract_hir::internal::{
        DatumType, DimLike, EvalContext, EvalOp, Expansion, InferenceOp, InferenceResult, Op, OutletId, ShapeFactoid,
        Solver, SpecialOps, StaticName, TDim, TValue, TVec, Tensor, TensorProxy, TractResult, TypedFact, TypedModel,
        TypedOp, anyhow, as_op, bail, dispatch_datum, ensure, expand, op_as_typed_op, op_out_of_plan,
    },
};

/// What is known of a tensor before it is there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    /// Its element type.
    pub(super) datum: DatumType,
    /// Its dimensions.
    pub(super) shape: TVec<TDim>,
    /// Its values, of inputs that the operator asks to know.
    pub(super) value: Option<Arc<Tensor>>,
}

impl Fact {
    /// tract has a type for sizes, which ONNX knows as whole numbers.
    pub(super) fn new(datum: DatumType, shape: impl IntoIterator<Item = TDim>) -> Self {
        let datum = if datum == DatumType::TDim { DatumType::I64 } else { datum };
        Self { datum, shape: shape.into_iter().collect(), value: None }
    }

    /// What is known of a tensor that is there.
    pub(super) fn of(tensor: &Tensor) -> Self {
        let dims = tensor.shape().iter().map(|dim| TDim::from(*dim));
        Self { value: Some(Arc::new(tensor.clone())), ..Self::new(tensor.datum_type(), dims) }
    }

    /// The whole numbers of an input that the operator asks to know.
    ///
    /// # Errors
    /// Where it is no constant.
    pub(super) fn ints(&self) -> TractResult<Vec<i64>> {
        let Some(value) = &self.value else { bail!("takes a shape, axis or size only as a constant of the file") };
        Ok(values::<i64>(&*value.cast_to::<i64>()?)?.to_vec())
    }

    /// The same for numbers of values, none of them negative.
    ///
    /// # Errors
    /// Where it is no constant, or one of them is negative.
    pub(super) fn sizes(&self) -> TractResult<Vec<usize>> {
        self.ints()?
            .into_iter()
            .map(|size| usize::try_from(size).map_err(|_| anyhow!("is given a size of {size}")))
            .collect()
    }

    /// The dimensions as numbers.
    ///
    /// # Errors
    /// Where one is open.
    pub(super) fn dims(&self) -> TractResult<Vec<usize>> {
        self.shape.iter().map(|dim| Ok(dim.to_usize()?)).collect()
    }

    /// Rows and columns, as onnxruntime's machine-learning operators count them: a vector is one row.
    ///
    /// # Errors
    /// Where it is neither a vector nor a matrix.
    pub(super) fn matrix(&self) -> TractResult<(TDim, TDim)> {
        match &*self.shape {
            [columns] => Ok((1.into(), columns.clone())),
            [rows, columns] => Ok((rows.clone(), columns.clone())),
            other => bail!("takes rows of values, got {} dimensions", other.len()),
        }
    }

    /// The same for a number of columns that is known.
    pub(super) fn columns(&self) -> TractResult<(TDim, usize)> {
        let (rows, columns) = self.matrix()?;
        Ok((rows, columns.to_usize()?))
    }
}

/// An operator with its attributes, which were checked when it was built.
pub(super) trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// Its name in ONNX.
    fn name(&self) -> &'static str;

    /// The inputs whose values say what shape comes out: they must be constants.
    fn known(&self) -> &[usize] {
        &[]
    }

    /// Whether the size of an output depends on values, so that it has a symbol of its own.
    fn is_open(&self) -> bool {
        false
    }

    /// What comes out, for what goes in.
    ///
    /// # Errors
    /// Where the operator does not take such inputs; the message says which it takes.
    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>>;

    /// The outputs that [`facts`](Self::facts) promised, in that order.
    ///
    /// # Errors
    /// Where a value that only now is known does not do.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>>;
}

/// What tract's reader gets of one node: the operator, and the values that it takes from around the graph it stands in.
pub(super) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Registers an operator under its name.
macro_rules! operator {
    ($register:expr, $name:literal, $build:path) => {
        $register.insert($name, |_, node| Ok(($crate::ops::kernel::wrap(node, $build(node)?), Vec::new())))
    };
}
pub(super) use operator;

/// The operator as tract's reader wants it.
pub(super) fn wrap(node: &NodeProto, kernel: impl Kernel) -> Box<dyn InferenceOp> {
    let wanted = (0..node.output.len()).filter(|at| !node.output[*at].is_empty()).collect();
    expand(Node { kernel: Arc::new(kernel), wanted, fixed: Arc::default() })
}

/// An operator of one output, for another that takes its place in some forms.
pub(super) fn expansion(kernel: impl Kernel) -> Box<dyn Expansion> {
    Box::new(Node { kernel: Arc::new(kernel), wanted: [0].into(), fixed: Arc::default() })
}

/// The place of an input among those that are there, as tract counts them: it passes over inputs without a name.
pub(super) fn place(node: &NodeProto, input: usize) -> Option<usize> {
    let named = |name: &&String| !name.is_empty();
    node.input.get(input).filter(named)?;
    Some(node.input[..input].iter().filter(named).count())
}

/// Most bytes of one output: more is a mistake, or worse.
const MAX_BYTES: u64 = 512 << 20;

#[derive(Clone)]
pub(super) struct Node {
    kernel: Arc<dyn Kernel>,
    /// Which of its outputs the graph names.
    wanted: Arc<[usize]>,
    /// The values of the inputs that the kernel asks to know, by their place.
    fixed: Arc<[(usize, Arc<Tensor>)]>,
}

impl Node {
    fn facts(&self, mut inputs: Vec<Fact>, known: &[(usize, Arc<Tensor>)]) -> TractResult<Vec<Fact>> {
        for (at, value) in known {
            if let Some(input) = inputs.get_mut(*at) {
                input.value = Some(Arc::clone(value));
            }
        }
        let name = self.kernel.name();
        let all = self.kernel.facts(&inputs).map_err(|error| error.context(name))?;
        for fact in &all {
            let dims = fact.shape.iter().filter_map(|dim| u64::try_from(dim.to_i64().ok()?).ok());
            // On its way a value may be a number of 64 bits.
            let bytes = dims.fold(fact.datum.size_of().max(8) as u64, u64::saturating_mul);
            ensure!(bytes <= MAX_BYTES, "{name} gives {bytes} bytes, more than {MAX_BYTES}");
        }
        let pick = |at: &usize| all.get(*at).cloned().ok_or_else(|| anyhow!("{name} has no output {at}"));
        self.wanted.iter().map(pick).collect()
    }
}

fn settle(solver: &mut Solver<'_>, facts: Vec<Fact>, outputs: &[TensorProxy]) -> InferenceResult {
    for (fact, output) in facts.into_iter().zip(outputs) {
        solver.equals(&output.datum_type, fact.datum)?;
        solver.equals(&output.shape, ShapeFactoid::from(fact.shape))?;
    }
    Ok(())
}

impl fmt::Debug for Node {
    // Forests would print every node.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kernel.name())
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.wanted == other.wanted
    }
}

impl Eq for Node {}

impl Expansion for Node {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, datums: Vec<DatumType>| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes: Vec<TVec<TDim>>| {
                let facts = datums.iter().zip(shapes).map(|(datum, shape)| Fact::new(*datum, shape));
                let facts: Vec<_> = facts.collect();
                let known: Vec<usize> = self.kernel.known().iter().copied().filter(|at| *at < inputs.len()).collect();
                if known.is_empty() {
                    return settle(solver, self.facts(facts, &[])?, outputs);
                }
                let values = known.iter().map(|at| &inputs[*at].value).collect::<Vec<_>>();
                solver.given_all(values, move |solver, values: Vec<Arc<Tensor>>| {
                    let known: Vec<_> = known.iter().copied().zip(values).collect();
                    settle(solver, self.facts(facts.clone(), &known)?, outputs)
                })
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut fixed = Vec::new();
        for at in self.kernel.known() {
            if let Some(outlet) = inputs.get(*at)
                && let Some(value) = &model.outlet_fact(*outlet)?.konst
            {
                fixed.push((*at, Arc::clone(value)));
            }
        }
        model.wire_node(prefix, Self { fixed: fixed.into(), ..self.clone() }, inputs)
    }
}

impl Op for Node {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.kernel.is_open()
    }

    op_as_typed_op!();
}

impl EvalOp for Node {
    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let ints = inputs.iter().map(|input| match input.datum_type() {
            DatumType::TDim => input.cast_to::<i64>(),
            _ => Ok(Cow::Borrowed(&**input)),
        });
        let inputs = ints.collect::<TractResult<TVec<Cow<'_, Tensor>>>>()?;
        let inputs: TVec<&Tensor> = inputs.iter().map(|input| &**input).collect();
        let mut made: Vec<Option<Tensor>> = self.kernel.run(&inputs)?.into_iter().map(Some).collect();
        let take = |at: &usize| made.get_mut(*at).and_then(Option::take).map(TValue::from);
        self.wanted
            .iter()
            .map(take)
            .collect::<Option<_>>()
            .ok_or_else(|| anyhow!("{} gave too few outputs", self.kernel.name()))
    }

    op_out_of_plan!();
}

impl TypedOp for Node {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let inputs = inputs.iter().map(|fact| Fact::new(fact.datum_type, fact.shape.to_tvec()));
        let facts = self.facts(inputs.collect(), &self.fixed)?;
        Ok(facts.into_iter().map(|fact| TypedFact::dt_shape(fact.datum, &*fact.shape)).collect())
    }
}

/// The only input's fact.
pub(super) fn one(inputs: &[Fact]) -> TractResult<&Fact> {
    let [input] = inputs else { bail!("takes one input, got {}", inputs.len()) };
    Ok(input)
}

/// Refuses an element type that is not among those that onnxruntime takes.
pub(super) fn expect(fact: &Fact, known: &[DatumType]) -> TractResult<()> {
    ensure!(known.contains(&fact.datum), "takes {known:?}, got {:?}", fact.datum);
    Ok(())
}

/// The element types of numbers that machine-learning operators take.
pub(super) const NUMBERS: [DatumType; 4] = [DatumType::F32, DatumType::F64, DatumType::I64, DatumType::I32];

/// The values in row-major order.
pub(super) fn values<T: tract_onnx::prelude::Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// The values as 32-bit floats, as most machine-learning operators compute whatever they get.
pub(super) fn floats(tensor: &Tensor) -> TractResult<Cow<'_, [f32]>> {
    if tensor.datum_type() == DatumType::F32 {
        return Ok(Cow::Borrowed(values(tensor)?));
    }
    Ok(Cow::Owned(values::<f32>(&*tensor.cast_to::<f32>()?)?.to_vec()))
}

/// Rows and columns of a tensor; a vector is one row.
pub(super) fn matrix(tensor: &Tensor) -> TractResult<(usize, usize)> {
    match *tensor.shape() {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => bail!("takes rows of values, got shape {:?}", tensor.shape()),
    }
}

/// The types of floats that core operators take.
pub(super) const FLOATS: [DatumType; 3] = [DatumType::F16, DatumType::F32, DatumType::F64];

/// The values as 64-bit floats, in which rare operators compute whatever they get.
pub(super) fn doubles(tensor: &Tensor) -> TractResult<Vec<f64>> {
    Ok(values::<f64>(&*tensor.cast_to::<f64>()?)?.to_vec())
}

/// Such values as a tensor of another type.
pub(super) fn narrowed(computed: &[f64], datum: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    Ok(Tensor::from_shape(shape, computed)?.cast_to_dt(datum)?.into_owned())
}

/// An axis counted from the front.
///
/// # Errors
/// Where a tensor of `rank` dimensions has none such.
pub(super) fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let count = i64::try_from(rank)?;
    ensure!((-count..count).contains(&axis), "has no axis {axis} in {rank} dimensions");
    Ok(usize::try_from(axis.rem_euclid(count))?)
}

/// How far apart two neighbours along each axis lie in row-major order.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for at in (1..shape.len()).rev() {
        // Too large only where another dimension is 0, and there is no value to step over.
        strides[at - 1] = strides[at].saturating_mul(shape[at]);
    }
    strides
}

/// How many values a tensor of this shape has.
///
/// # Errors
/// Where no machine counts so far.
pub(super) fn volume(shape: &[usize]) -> TractResult<usize> {
    if shape.contains(&0) {
        return Ok(0);
    }
    let all = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    all.ok_or_else(|| anyhow!("has the shape {shape:?}"))
}

/// The places of a tensor of this shape, with where each is along every axis.
pub(super) fn walk(shape: &[usize], mut each: impl FnMut(usize, &[usize])) {
    let mut along = vec![0; shape.len()];
    let count = if shape.contains(&0) { 0 } else { shape.iter().fold(1, |all: usize, size| all.saturating_mul(*size)) };
    for at in 0..count {
        each(at, &along);
        for axis in (0..shape.len()).rev() {
            along[axis] += 1;
            if along[axis] < shape[axis] {
                break;
            }
            along[axis] = 0;
        }
    }
}

/// The values at these places, in another shape. The caller has checked the places.
pub(super) fn picked(tensor: &Tensor, at: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    fn pick<T: Datum>(tensor: &Tensor, at: &[usize], shape: &[usize]) -> TractResult<Tensor> {
        let values = values::<T>(tensor)?;
        let picked: Vec<T> = at.iter().map(|at| values[*at].clone()).collect();
        tensor1(&picked).into_shape(shape)
    }
    dispatch_datum!(pick(tensor.datum_type())(tensor, at, shape))
}

/// The same with nothing at some places.
pub(super) fn picked_or_nothing(tensor: &Tensor, at: &[Option<usize>], shape: &[usize]) -> TractResult<Tensor> {
    fn pick<T: Datum>(tensor: &Tensor, at: &[Option<usize>], shape: &[usize]) -> TractResult<Tensor> {
        let values = values::<T>(tensor)?;
        let picked: Vec<T> = at.iter().map(|at| at.map_or_else(T::default, |at| values[at].clone())).collect();
        tensor1(&picked).into_shape(shape)
    }
    dispatch_datum!(pick(tensor.datum_type())(tensor, at, shape))
}
