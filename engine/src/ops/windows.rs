//! Windows that slide over the last axes of a tensor: `LpPool`, `GlobalLpPool`, `MaxUnpool`, `Col2Im`.
//!
//! Formulas: the operators' pages in the ONNX reference.

use super::kernel::{
    Built, FLOATS, Fact, Kernel, doubles, expect, narrowed, one, picked_or_nothing, place, strides, values, volume,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, TVec, Tensor, TractResult, tensor0},
    tract_core::ops::{
        cnn::{PaddingSpec, PoolSpec},
        math,
        nn::DataFormat,
    },
    tract_hir::{
        internal::{
            Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TensorProxy, TypedModel, anyhow,
            bail, ensure, expand,
        },
        ops::cnn::HirSumPool,
    },
};

/// Longest stride, dilation and pad: sums and products of them and of sizes do not overflow.
const MAX_STEP: usize = 1 << 24;

/// What a window is, along each of the axes that it slides over.
#[derive(Debug)]
struct Window {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Before and after.
    pads: Vec<[usize; 2]>,
}

/// The same as a node has it, for a number of axes that may be known only later.
#[derive(Debug)]
struct Steps {
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
}

impl Steps {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let read = |name| node.get_attr_opt_vec::<usize>(name);
        Ok(Self { strides: read("strides")?, dilations: read("dilations")?, pads: read("pads")? })
    }

    /// For `rank` axes; what is not there is 1, pads 0.
    fn over(&self, rank: usize) -> TractResult<Window> {
        let steps = |name, steps: &Option<Vec<usize>>| -> TractResult<Vec<usize>> {
            let steps = steps.clone().unwrap_or_else(|| vec![1; rank]);
            let is_sound = |step: &usize| (1..=MAX_STEP).contains(step);
            ensure!(steps.len() == rank && steps.iter().all(is_sound), "{name} is {steps:?} over {rank} axes");
            Ok(steps)
        };
        let pads = self.pads.clone().unwrap_or_else(|| vec![0; 2 * rank]);
        ensure!(pads.len() == 2 * rank && pads.iter().all(|pad| *pad <= MAX_STEP), "pads is {pads:?} over {rank} axes");
        let pads = (0..rank).map(|axis| [pads[axis], pads[axis + rank]]).collect();
        Ok(Window { strides: steps("strides", &self.strides)?, dilations: steps("dilations", &self.dilations)?, pads })
    }
}

fn kernel_shape(node: &NodeProto) -> TractResult<Vec<usize>> {
    let shape = node.get_attr_vec::<usize>("kernel_shape")?;
    let is_sound = |size: &usize| (1..=MAX_STEP).contains(size);
    ensure!(!shape.is_empty() && shape.iter().all(is_sound), "kernel_shape is {shape:?}");
    Ok(shape)
}

/// The p-norm of each window: powers summed by tract's pooling, and the root of that.
#[derive(Debug, Clone)]
struct LpPool {
    p: i64,
    pool: HirSumPool,
}

pub(super) fn lp_pool(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let p = node.get_attr_opt::<i64>("p")?.unwrap_or(2);
    ensure!(p > 0, "LpPool takes norms from 1 on, got p = {p}");
    let kernel = kernel_shape(node)?;
    let window = Steps::read(node)?.over(kernel.len())?;
    let padding = match node.get_attr_opt::<&str>("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => PaddingSpec::ExplicitOnnxPool(
            window.pads.iter().map(|pad| pad[0]).collect(),
            window.pads.iter().map(|pad| pad[1]).collect(),
            node.get_attr_opt("ceil_mode")?.unwrap_or(false),
        ),
        "VALID" => PaddingSpec::Valid,
        "SAME_UPPER" => PaddingSpec::SameUpper,
        "SAME_LOWER" => PaddingSpec::SameLower,
        other => bail!("auto_pad `{other}` is not known"),
    };
    let (dilations, steps) = (Some(window.dilations.into()), Some(window.strides.into()));
    let spec = PoolSpec::new(DataFormat::NCHW, kernel.into(), padding, dilations, steps, 0, 0);
    Ok((expand(LpPool { p, pool: HirSumPool::new(spec, false, false) }), Vec::new()))
}

/// The p-norm of everything behind the first two axes.
#[derive(Debug)]
pub(super) struct GlobalLpPool(i32);

pub(super) fn global_lp_pool(node: &NodeProto) -> TractResult<GlobalLpPool> {
    let p = node.get_attr_opt::<i32>("p")?.unwrap_or(2);
    ensure!(p > 0, "GlobalLpPool takes norms from 1 on, got p = {p}");
    Ok(GlobalLpPool(p))
}

impl Kernel for GlobalLpPool {
    fn name(&self) -> &'static str {
        "GlobalLpPool"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &FLOATS)?;
        ensure!(input.shape.len() > 2, "takes three dimensions or more, got {}", input.shape.len());
        let kept = input.shape.iter().take(2).cloned();
        Ok(vec![Fact::new(input.datum, kept.chain(vec![1.into(); input.shape.len() - 2]))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut shape = inputs[0].shape().to_vec();
        let each = volume(&shape[2..])?;
        let values = doubles(inputs[0])?;
        let norm = |values: &[f64]| {
            let sum: f64 = values.iter().map(|value| value.abs().powi(self.0)).sum();
            sum.powf(1.0 / f64::from(self.0))
        };
        let norms: Vec<f64> = match each {
            0 => vec![0.0; volume(&shape[..2])?],
            _ => values.chunks_exact(each).map(norm).collect(),
        };
        shape[2..].fill(1);
        Ok(vec![narrowed(&norms, inputs[0].datum_type(), &shape)?])
    }
}

impl Expansion for LpPool {
    fn name(&self) -> StaticName {
        "LpPool".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.pool.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let axes = self.pool.pool_spec.kernel_shape.len();
        ensure!(FLOATS.contains(&fact.datum_type), "LpPool takes {FLOATS:?}, got {:?}", fact.datum_type);
        ensure!(fact.rank() == axes + 2, "LpPool slides over {axes} axes, got {} dimensions", fact.rank());
        #[expect(clippy::cast_precision_loss, reason = "a norm's number is small")]
        let p = self.p as f64;
        let mut exponent = |name: &str, value: f64| -> TractResult<OutletId> {
            let value = tensor0(value).cast_to_dt(fact.datum_type)?.into_owned();
            model.add_const(format!("{prefix}.{name}"), value.broadcast_into_rank(fact.rank())?)
        };
        let (power, root) = (exponent("p", p)?, exponent("root", p.recip())?);
        let wire = model.wire_node(format!("{prefix}.abs"), math::abs(), &inputs[..1])?[0];
        let wire = model.wire_node(format!("{prefix}.power"), math::pow(), &[wire, power])?;
        let wire = self.pool.wire(&format!("{prefix}.sum"), model, &wire)?[0];
        model.wire_node(prefix, math::pow(), &[wire, root])
    }
}

/// Puts the greatest values of windows back where they came from, and nothing elsewhere.
#[derive(Debug)]
pub(super) struct MaxUnpool {
    kernel: Vec<usize>,
    window: Window,
    /// The input that says what shape comes out.
    shape: Vec<usize>,
}

pub(super) fn max_unpool(node: &NodeProto) -> TractResult<MaxUnpool> {
    let kernel = kernel_shape(node)?;
    let window = Steps::read(node)?.over(kernel.len())?;
    Ok(MaxUnpool { kernel, window, shape: place(node, 2).into_iter().collect() })
}

impl MaxUnpool {
    /// The shape that was pooled, if windows covered all of it.
    fn pooled(&self, dims: &[usize]) -> TractResult<Vec<usize>> {
        ensure!(dims.len() == self.kernel.len() + 2, "slides over {} axes, got {dims:?}", self.kernel.len());
        let mut shape = dims[..2].to_vec();
        for (axis, dim) in dims[2..].iter().enumerate() {
            let (stride, [before, after]) = (self.window.strides[axis], self.window.pads[axis]);
            let covered =
                dim.checked_sub(1).and_then(|steps| steps.checked_mul(stride)?.checked_add(self.kernel[axis]));
            let inside = covered.and_then(|covered| covered.checked_sub(before)?.checked_sub(after));
            shape.push(inside.ok_or_else(|| anyhow!("cannot undo windows over {dims:?}"))?);
        }
        Ok(shape)
    }
}

impl Kernel for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn known(&self) -> &[usize] {
        &self.shape
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [pooled, at, ..] = inputs else { bail!("takes values and their places") };
        expect(at, &[DatumType::I64])?;
        ensure!(pooled.shape == at.shape, "takes a place for each value");
        let shape = match inputs.get(2) {
            Some(shape) => shape.sizes()?,
            None => self.pooled(&pooled.dims()?)?,
        };
        Ok(vec![Fact::new(pooled.datum, shape.into_iter().map(Into::into))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shape = match inputs.get(2) {
            Some(shape) => Fact::of(shape).sizes()?,
            None => self.pooled(inputs[0].shape())?,
        };
        let mut from = vec![None; volume(&shape)?];
        for (value, at) in values::<i64>(inputs[1])?.iter().enumerate() {
            let place = usize::try_from(*at).ok().and_then(|at| from.get_mut(at));
            *place.ok_or_else(|| anyhow!("place {at} is outside of the output"))? = Some(value);
        }
        Ok(vec![picked_or_nothing(inputs[0], &from, &shape)?])
    }
}

/// Adds columns, each of them a window of an image, up to that image.
#[derive(Debug)]
pub(super) struct Col2Im {
    steps: Steps,
}

pub(super) fn col2im(node: &NodeProto) -> TractResult<Col2Im> {
    Ok(Col2Im { steps: Steps::read(node)? })
}

/// The places of a block, or of windows, by their number in row-major order.
fn places(counts: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let steps = strides(counts);
    let counts = counts.to_vec();
    (0..counts.iter().product::<usize>())
        .map(move |at| steps.iter().zip(&counts).map(|(step, count)| at / step % count).collect())
}

/// What columns are made of.
struct Columns {
    image: Vec<usize>,
    block: Vec<usize>,
    /// The windows along each axis.
    counts: Vec<usize>,
    window: Window,
}

impl Col2Im {
    fn sizes(&self, image: Vec<usize>, block: Vec<usize>) -> TractResult<Columns> {
        ensure!(!image.is_empty() && image.len() == block.len(), "has an image of {image:?} and blocks of {block:?}");
        ensure!(image.iter().chain(&block).all(|size| (1..=MAX_STEP).contains(size)), "has no size of 0");
        let window = self.steps.over(image.len())?;
        let mut counts = Vec::new();
        for axis in 0..image.len() {
            let padded = image[axis] + window.pads[axis][0] + window.pads[axis][1];
            let span = window.dilations[axis] * (block[axis] - 1) + 1;
            let room = padded.checked_sub(span).ok_or_else(|| anyhow!("has no room for a block on axis {axis}"))?;
            counts.push(room / window.strides[axis] + 1);
        }
        Ok(Columns { image, block, counts, window })
    }
}

impl Kernel for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn known(&self) -> &[usize] {
        &[1, 2]
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [columns, image, block] = inputs else { bail!("takes columns, an image's shape and a block's") };
        expect(columns, &FLOATS)?;
        let Columns { image, block, counts, .. } = self.sizes(image.sizes()?, block.sizes()?)?;
        let [samples, rows, windows] = *columns.dims()? else { bail!("takes columns of three dimensions") };
        ensure!(volume(&counts)? == windows, "has {windows} columns for {counts:?} blocks");
        let area = volume(&block)?;
        ensure!(rows % area == 0, "has {rows} rows for blocks of {block:?}");
        let channels = rows / area;
        let shape = [samples, channels].into_iter().chain(image);
        Ok(vec![Fact::new(columns.datum, shape.map(Into::into))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let sizes = |at: usize| Fact::of(inputs[at]).sizes();
        let Columns { image, block, counts, window } = self.sizes(sizes(1)?, sizes(2)?)?;
        let columns = doubles(inputs[0])?;
        let [samples, rows, windows] = *inputs[0].shape() else { bail!("takes columns of three dimensions") };
        ensure!(!columns.is_empty(), "takes one column or more");
        let (area, pixels) = (volume(&block)?, volume(&image)?);
        let images = samples * rows / area;
        let mut summed = vec![0.0; images * pixels];
        let steps = strides(&image);
        for (inside, offset) in places(&block).enumerate() {
            for (number, corner) in places(&counts).enumerate() {
                let along = (0..image.len()).map(|axis| {
                    let padded = corner[axis] * window.strides[axis] + offset[axis] * window.dilations[axis];
                    let at = padded.checked_sub(window.pads[axis][0])?;
                    (at < image[axis]).then_some(at * steps[axis])
                });
                let Some(pixel) = along.sum::<Option<usize>>() else { continue };
                for one in 0..images {
                    summed[one * pixels + pixel] += columns[(one * area + inside) * windows + number];
                }
            }
        }
        let shape: Vec<usize> = [samples, rows / area].into_iter().chain(image).collect();
        Ok(vec![narrowed(&summed, inputs[0].datum_type(), &shape)?])
    }
}
