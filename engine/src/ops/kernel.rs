//! One operator as this crate writes it, and its way into tract: shapes while tract infers, a node of its graph, a call.

use std::{borrow::Cow, fmt, sync::Arc};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, tensor1},
    tract_hir::internal::{
        DatumType, DimLike, EvalContext, EvalOp, Expansion, InferenceOp, InferenceResult, Op, OutletId, ShapeFactoid,
        Solver, SpecialOps, StaticName, TDim, TValue, TVec, Tensor, TensorProxy, TractResult, TypedFact, TypedModel,
        TypedOp, anyhow, as_op, bail, ensure, expand, op_as_typed_op, op_out_of_plan,
    },
};

/// What is known of a tensor before it is there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    /// Its element type.
    pub(super) datum: DatumType,
    /// Its dimensions.
    pub(super) shape: TVec<TDim>,
}

impl Fact {
    /// tract has a type for sizes, which ONNX knows as whole numbers.
    pub(super) fn new(datum: DatumType, shape: impl IntoIterator<Item = TDim>) -> Self {
        let datum = if datum == DatumType::TDim { DatumType::I64 } else { datum };
        Self { datum, shape: shape.into_iter().collect() }
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
    expand(Node { kernel: Arc::new(kernel), wanted })
}

#[derive(Clone)]
struct Node {
    kernel: Arc<dyn Kernel>,
    /// Which of its outputs the graph names.
    wanted: Arc<[usize]>,
}

impl Node {
    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let all = self.kernel.facts(inputs).map_err(|error| error.context(self.kernel.name()))?;
        let pick =
            |at: &usize| all.get(*at).cloned().ok_or_else(|| anyhow!("{} has no output {at}", self.kernel.name()));
        self.wanted.iter().map(pick).collect()
    }
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
                let facts = self.facts(&facts.collect::<Vec<_>>())?;
                for (fact, output) in facts.into_iter().zip(outputs) {
                    solver.equals(&output.datum_type, fact.datum)?;
                    solver.equals(&output.shape, ShapeFactoid::from(fact.shape))?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Node {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
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
        let facts = self.facts(&inputs.collect::<Vec<_>>())?;
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

/// The values at these places, in another shape. The caller has checked the places.
pub(super) fn picked(tensor: &Tensor, at: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    fn pick<T: Datum + Clone>(tensor: &Tensor, at: &[usize], shape: &[usize]) -> TractResult<Tensor> {
        let values = values::<T>(tensor)?;
        let picked: Vec<T> = at.iter().map(|at| values[*at].clone()).collect();
        tensor1(&picked).into_shape(shape)
    }
    match tensor.datum_type() {
        DatumType::String => pick::<String>(tensor, at, shape),
        DatumType::Bool => pick::<bool>(tensor, at, shape),
        DatumType::F32 => pick::<f32>(tensor, at, shape),
        DatumType::F64 => pick::<f64>(tensor, at, shape),
        DatumType::I16 => pick::<i16>(tensor, at, shape),
        DatumType::I32 => pick::<i32>(tensor, at, shape),
        DatumType::I64 => pick::<i64>(tensor, at, shape),
        other => bail!("does not take {other:?}"),
    }
}
