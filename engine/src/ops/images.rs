//! Operators that look between the pixels of images: `AffineGrid`, `RoiAlign`, `DeformConv`.
//!
//! Formulas: the operators' pages in the ONNX reference; where that is silent, onnxruntime's answers.

use super::kernel::{Built, FLOATS, Fact, Kernel, doubles, expect, narrowed, place, values, volume, wrap};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};

/// Where each pixel of an image comes from, by an affine map for each image, in coordinates from -1 to 1.
#[derive(Debug)]
pub(super) struct AffineGrid {
    /// Whether -1 and 1 are the middles of the outermost pixels rather than their borders.
    is_aligned: bool,
}

pub(super) fn affine_grid(node: &NodeProto) -> TractResult<AffineGrid> {
    Ok(AffineGrid { is_aligned: node.get_attr_opt("align_corners")?.unwrap_or(false) })
}

impl AffineGrid {
    #[expect(clippy::cast_precision_loss, reason = "sizes of images")]
    fn coordinate(&self, at: usize, size: usize) -> f64 {
        let (at, last, size) = (at as f64, size as f64 - 1.0, size as f64);
        match self.is_aligned {
            // The only pixel of its axis: onnxruntime's steps end at 1, wherever they begin.
            true if last <= 0.0 => 1.0,
            true => -1.0 + 2.0 * at / last,
            false => (2.0 * at + 1.0) / size - 1.0,
        }
    }
}

impl Kernel for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn known(&self) -> &[usize] {
        &[1]
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [maps, size] = inputs else { bail!("takes maps and a size") };
        expect(maps, &FLOATS)?;
        let size = size.sizes()?;
        let ([images, _, pixels @ ..], axes) = (&*size, size.len().saturating_sub(2)) else {
            bail!("has the size {size:?}")
        };
        ensure!(matches!(axes, 2 | 3), "has a size of {} dimensions, not 4 or 5", size.len());
        ensure!(maps.dims()? == [*images, axes, axes + 1], "takes maps of {axes} by {}", axes + 1);
        let shape = std::iter::once(*images).chain(pixels.iter().copied()).chain([axes]);
        Ok(vec![Fact::new(maps.datum, shape.map(TDim::from))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (maps, size) = (doubles(inputs[0])?, Fact::of(inputs[1]).sizes()?);
        let (images, pixels, axes) = (size[0], &size[2..], size.len() - 2);
        let mut grid = Vec::new();
        for map in maps.chunks_exact(axes * (axes + 1)).take(images) {
            for number in 0..pixels.iter().product() {
                // The last axis runs fastest and is called x.
                let mut rest: usize = number;
                let mut point: Vec<f64> = Vec::with_capacity(axes + 1);
                for size in pixels.iter().rev() {
                    point.push(self.coordinate(rest % size, *size));
                    rest /= size;
                }
                point.push(1.0);
                grid.extend(
                    map.chunks_exact(axes + 1).map(|row| row.iter().zip(&point).map(|(a, b)| a * b).sum::<f64>()),
                );
            }
        }
        let shape: Vec<usize> = std::iter::once(images).chain(pixels.iter().copied()).chain([axes]).collect();
        Ok(vec![narrowed(&grid, inputs[0].datum_type(), &shape)?])
    }
}

/// What is pooled from the points of one cell of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Average,
    Greatest,
}

/// Regions of images, each resampled to one size.
#[derive(Debug)]
pub(super) struct RoiAlign {
    pooling: Pooling,
    /// Height and width.
    size: [usize; 2],
    /// Points to a cell along each axis; 0: as many as it has pixels.
    samples: usize,
    scale: f64,
    /// Whether a region's borders lie half a pixel off.
    is_half: bool,
}

/// Most points that are looked at in a cell along an axis, and in a region.
const MAX_SAMPLES: usize = 1 << 10;
const MAX_POINTS: usize = 1 << 22;

pub(super) fn roi_align(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let pooling = match node.get_attr_opt::<&str>("mode")?.unwrap_or("avg") {
        "avg" => Pooling::Average,
        "max" => Pooling::Greatest,
        other => bail!("RoiAlign has no mode `{other}`"),
    };
    let before = if context.onnx_operator_set_version < 16 { "output_half_pixel" } else { "half_pixel" };
    let is_half = match node.get_attr_opt::<&str>("coordinate_transformation_mode")?.unwrap_or(before) {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => bail!("RoiAlign has no coordinate_transformation_mode `{other}`"),
    };
    let size = |name| -> TractResult<usize> {
        let size = node.get_attr_opt::<usize>(name)?.unwrap_or(1);
        ensure!((1..=1 << 10).contains(&size), "RoiAlign has the {name} {size}");
        Ok(size)
    };
    let samples = node.get_attr_opt::<usize>("sampling_ratio")?.unwrap_or(0);
    ensure!(samples <= MAX_SAMPLES, "RoiAlign has a sampling_ratio of {samples}");
    let scale = f64::from(node.get_attr_opt::<f32>("spatial_scale")?.unwrap_or(1.0));
    let size = [size("output_height")?, size("output_width")?];
    Ok((wrap(node, RoiAlign { pooling, size, samples, scale, is_half }), Vec::new()))
}

/// The four pixels round a point, with their weights.
type Corners = [(usize, f64); 4];

/// Those of a point; none where it lies outside of the image by a pixel or more.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the image")]
#[expect(clippy::cast_precision_loss, reason = "sizes of images")]
fn clamped(y: f64, x: f64, [height, width]: [usize; 2]) -> Option<Corners> {
    if !(y >= -1.0 && y <= height as f64 && x >= -1.0 && x <= width as f64) || height == 0 || width == 0 {
        return None;
    }
    let along = |at: f64, size: usize| {
        let at = at.max(0.0);
        let low = at as usize;
        if low + 1 >= size { (size - 1, size - 1, 0.0) } else { (low, low + 1, at - low as f64) }
    };
    let ((top, bottom, down), (left, right, over)) = (along(y, height), along(x, width));
    Some([
        (top * width + left, (1.0 - down) * (1.0 - over)),
        (top * width + right, (1.0 - down) * over),
        (bottom * width + left, down * (1.0 - over)),
        (bottom * width + right, down * over),
    ])
}

impl RoiAlign {
    /// The points of each cell of a region, cell by cell in row-major order.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    #[expect(clippy::cast_precision_loss, reason = "sizes of images")]
    fn cells(&self, region: &[f64], image: [usize; 2]) -> TractResult<Vec<Vec<Corners>>> {
        let off = if self.is_half { 0.5 } else { 0.0 };
        let border = |at: usize| region[at] * self.scale - off;
        let span = |from: f64, to: f64| if self.is_half { to - from } else { (to - from).max(1.0) };
        let (left, top) = (border(0), border(1));
        let spans = [span(top, border(3)), span(left, border(2))];
        let steps = [spans[0] / self.size[0] as f64, spans[1] / self.size[1] as f64];
        let count = |step: f64| match self.samples {
            0 => step.ceil().clamp(0.0, MAX_POINTS as f64) as usize,
            samples => samples,
        };
        let (rows, columns) = (count(steps[0]), count(steps[1]));
        let points = volume(&[rows, columns, self.size[0], self.size[1]])?;
        ensure!(points <= MAX_POINTS, "looks at {points} points of a region, more than {MAX_POINTS}");
        let point = |start: f64, cell: usize, step: f64, at: usize, of: usize| {
            start + cell as f64 * step + (at as f64 + 0.5) * step / of as f64
        };
        let mut cells = Vec::with_capacity(self.size[0] * self.size[1]);
        for row in 0..self.size[0] {
            for column in 0..self.size[1] {
                let mut points = Vec::with_capacity(rows * columns);
                for (down, over) in (0..rows).flat_map(|down| (0..columns).map(move |over| (down, over))) {
                    let y = point(top, row, steps[0], down, rows);
                    let x = point(left, column, steps[1], over, columns);
                    // A point outside counts as one of nothing.
                    points.push(clamped(y, x, image).unwrap_or_default());
                }
                cells.push(points);
            }
        }
        Ok(cells)
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of points")]
    fn pool(&self, points: &[Corners], image: &[f64]) -> f64 {
        let parts = |point: &Corners| point.map(|(at, weight)| if weight == 0.0 { 0.0 } else { image[at] * weight });
        match self.pooling {
            Pooling::Average => points.iter().flat_map(parts).sum::<f64>() / points.len().max(1) as f64,
            // Of the four parts of each point, as onnxruntime has it, not of the points.
            Pooling::Greatest => points.iter().flat_map(parts).reduce(f64::max).unwrap_or(0.0),
        }
    }
}

impl Kernel for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [images, regions, of] = inputs else { bail!("takes images, regions and the images' numbers") };
        expect(images, &FLOATS)?;
        expect(of, &[DatumType::I64])?;
        ensure!(images.shape.len() == 4, "takes images of four dimensions, got {}", images.shape.len());
        ensure!(regions.datum == images.datum, "takes regions of the images' type");
        let [count, four] = &*regions.shape else { bail!("takes regions as rows of four") };
        ensure!(
            *four == TDim::from(4) && *of.shape == [count.clone()],
            "takes a row of four and an image for each region"
        );
        let shape = [count.clone(), images.shape[1].clone(), self.size[0].into(), self.size[1].into()];
        Ok(vec![Fact::new(images.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let [count, channels, height, width] = *inputs[0].shape() else { bail!("takes images of four dimensions") };
        let (images, regions) = (doubles(inputs[0])?, doubles(inputs[1])?);
        let area = height * width;
        let mut pooled = Vec::new();
        for (region, of) in regions.chunks_exact(4).zip(values::<i64>(inputs[2])?) {
            let of = usize::try_from(*of).ok().filter(|of| *of < count);
            let of = of.ok_or_else(|| anyhow!("a region names an image that is none of {count}"))?;
            let cells = self.cells(region, [height, width])?;
            for channel in 0..channels {
                let from = (of * channels + channel) * area;
                pooled.extend(cells.iter().map(|points| self.pool(points, &images[from..from + area])));
            }
        }
        let regions = inputs[1].shape()[0];
        Ok(vec![narrowed(&pooled, inputs[0].datum_type(), &[regions, channels, self.size[0], self.size[1]])?])
    }
}

/// A convolution of images whose windows are bent, point by point.
#[derive(Debug)]
pub(super) struct DeformConv {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    groups: usize,
    offset_groups: usize,
    bias: Option<usize>,
    mask: Option<usize>,
}

pub(super) fn deform_conv(node: &NodeProto) -> TractResult<DeformConv> {
    let numbers = |name, count: usize, default: usize| -> TractResult<Vec<usize>> {
        let numbers = node.get_attr_opt_vec::<usize>(name)?.unwrap_or_else(|| vec![default; count]);
        let is_sound = |number: &usize| (default..=1 << 20).contains(number);
        ensure!(numbers.len() == count && numbers.iter().all(is_sound), "DeformConv has {name} {numbers:?} for images");
        Ok(numbers)
    };
    let groups = |name| -> TractResult<usize> {
        let groups = node.get_attr_opt::<usize>(name)?.unwrap_or(1);
        ensure!(groups > 0, "DeformConv has no {name}");
        Ok(groups)
    };
    Ok(DeformConv {
        strides: numbers("strides", 2, 1)?,
        dilations: numbers("dilations", 2, 1)?,
        pads: numbers("pads", 4, 0)?,
        groups: groups("group")?,
        offset_groups: groups("offset_group")?,
        bias: place(node, 3),
        mask: place(node, 4),
    })
}

/// What stands at a point between pixels; nothing outside.
#[expect(clippy::cast_possible_truncation, reason = "within the image or a pixel off")]
#[expect(clippy::cast_precision_loss, reason = "sizes of images")]
fn between(image: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
    if !(y > -1.0 && y < height as f64 && x > -1.0 && x < width as f64) {
        return 0.0;
    }
    let (top, left) = (y.floor(), x.floor());
    let (down, over) = (y - top, x - left);
    let (top, left) = (top as i64, left as i64);
    let pixel = |row: i64, column: i64| {
        let (row, column) = (usize::try_from(row).ok()?, usize::try_from(column).ok()?);
        (row < height && column < width).then(|| image[row * width + column])
    };
    let part = |row, column, weight: f64| pixel(row, column).map_or(0.0, |pixel| pixel * weight);
    part(top, left, (1.0 - down) * (1.0 - over))
        + part(top, left + 1, (1.0 - down) * over)
        + part(top + 1, left, down * (1.0 - over))
        + part(top + 1, left + 1, down * over)
}

/// The sizes of one convolution.
#[derive(Debug)]
struct Sizes {
    images: usize,
    channels: usize,
    image: [usize; 2],
    made: usize,
    kernel: [usize; 2],
    out: [usize; 2],
}

impl DeformConv {
    fn sizes(&self, images: &[usize], weights: &[usize]) -> TractResult<Sizes> {
        let ([count, channels, height, width], [made, each, rows, columns]) = (images, weights) else {
            bail!("takes images and weights of four dimensions")
        };
        ensure!(
            made % self.groups == 0 && each.checked_mul(self.groups) == Some(*channels),
            "has {} groups for {images:?} and {weights:?}",
            self.groups
        );
        ensure!(channels % self.offset_groups == 0, "has {} offset groups for {channels} channels", self.offset_groups);
        let out = |axis: usize, size: usize, kernel: usize| {
            let padded = size.checked_add(self.pads[axis])?.checked_add(self.pads[axis + 2])?;
            let span = self.dilations[axis].checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
            Some(padded.checked_sub(span)? / self.strides[axis] + 1)
        };
        let out = [out(0, *height, *rows), out(1, *width, *columns)];
        let [Some(down), Some(over)] = out else { bail!("has no room for windows of {rows} by {columns}") };
        let (image, kernel) = ([*height, *width], [*rows, *columns]);
        Ok(Sizes { images: *count, channels: *channels, image, made: *made, kernel, out: [down, over] })
    }
}

impl Kernel for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [images, weights, offsets, ..] = inputs else { bail!("takes images, weights and offsets") };
        expect(images, &FLOATS)?;
        ensure!(inputs.iter().all(|input| input.datum == images.datum), "takes inputs of one type");
        let sizes = self.sizes(&images.dims()?, &weights.dims()?)?;
        let ([rows, columns], [down, over]) = (sizes.kernel, sizes.out);
        let points = volume(&[self.offset_groups, rows, columns])?;
        ensure!(
            offsets.dims()? == [sizes.images, volume(&[2, points])?, down, over],
            "takes two offsets for each point of a window"
        );
        if let Some(mask) = self.mask.and_then(|mask| inputs.get(mask)) {
            ensure!(mask.dims()? == [sizes.images, points, down, over], "takes a mask for each point of a window");
        }
        if let Some(bias) = self.bias.and_then(|bias| inputs.get(bias)) {
            ensure!(bias.dims()? == [sizes.made], "takes a bias for each of {} channels", sizes.made);
        }
        Ok(vec![Fact::new(images.datum, [sizes.images, sizes.made, down, over].map(TDim::from))])
    }

    #[expect(clippy::cast_precision_loss, reason = "places in images")]
    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let sizes = self.sizes(inputs[0].shape(), inputs[1].shape())?;
        let ([rows, columns], [down, over]) = (sizes.kernel, sizes.out);
        let (images, weights, offsets) = (doubles(inputs[0])?, doubles(inputs[1])?, doubles(inputs[2])?);
        let optional = |at: Option<usize>| at.map(|at| doubles(inputs[at])).transpose();
        let (bias, mask) = (optional(self.bias)?, optional(self.mask)?);
        let (area, windows, points) = (sizes.image[0] * sizes.image[1], down * over, rows * columns);
        let (of_group, made_of_group) = (sizes.channels / self.groups, sizes.made / self.groups);
        let of_offset = sizes.channels / self.offset_groups;
        ensure!(sizes.images > 0 && !weights.is_empty(), "takes one image and one channel or more");
        let mut made = vec![0.0; sizes.images * sizes.made * windows];
        // What each point of a window sees of each channel is looked up once, for all that is made of it.
        let mut seen = vec![0.0; of_group * points];
        for (image, group, window) in (0..sizes.images).flat_map(|image| {
            (0..self.groups).flat_map(move |group| (0..windows).map(move |window| (image, group, window)))
        }) {
            let corner = |axis: usize, at: usize| (at * self.strides[axis]) as f64 - self.pads[axis] as f64;
            let (top, left) = (corner(0, window / over), corner(1, window % over));
            for (number, seen) in seen.iter_mut().enumerate() {
                let (channel, point) = (group * of_group + number / points, number % points);
                let at = (image * self.offset_groups + channel / of_offset) * points + point;
                let offset = |which: usize| offsets[(2 * at + which) * windows + window];
                let y = top + (point / columns * self.dilations[0]) as f64 + offset(0);
                let x = left + (point % columns * self.dilations[1]) as f64 + offset(1);
                let from = (image * sizes.channels + channel) * area;
                let weight = mask.as_ref().map_or(1.0, |mask| mask[at * windows + window]);
                *seen = between(&images[from..from + area], sizes.image, y, x) * weight;
            }
            for channel in group * made_of_group..(group + 1) * made_of_group {
                let row = &weights[channel * seen.len()..(channel + 1) * seen.len()];
                let sum: f64 = row.iter().zip(&seen).map(|(weight, seen)| weight * seen).sum();
                made[(image * sizes.made + channel) * windows + window] =
                    sum + bias.as_ref().map_or(0.0, |bias| bias[channel]);
            }
        }
        Ok(vec![narrowed(&made, inputs[0].datum_type(), &[sizes.images, sizes.made, down, over])?])
    }
}
