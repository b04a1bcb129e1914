//! `GridSample` by cubics with borders that go on: onnxruntime looks beyond the border pixel by pixel, tract first moves the whole point
//! into the image. All other forms are tract's.

use super::kernel::{FLOATS, Fact, Kernel, doubles, expect, narrowed, wrap};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Tensor, TractResult},
    tract_hir::internal::{InferenceOp, bail, ensure},
};

#[derive(Debug)]
struct Cubic {
    /// Whether -1 and 1 are the middles of the outermost pixels rather than their borders.
    is_aligned: bool,
}

pub(super) fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let is_cubic = matches!(node.get_attr_opt::<&str>("mode")?, Some("bicubic" | "cubic"));
    if !is_cubic || node.get_attr_opt::<&str>("padding_mode")? != Some("border") {
        return super::stock("GridSample")?(context, node);
    }
    let is_aligned = node.get_attr_opt::<i64>("align_corners")?.unwrap_or(0) != 0;
    Ok((wrap(node, Cubic { is_aligned }), Vec::new()))
}

/// What each of four neighbours weighs, for a point so far behind the second (Keys 1981, with a = -0.75).
fn weights(behind: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |far: f64| ((A + 2.0) * far - (A + 3.0)) * far * far + 1.0;
    let outer = |far: f64| ((A * far - 5.0 * A) * far + 8.0 * A) * far - 4.0 * A;
    [outer(behind + 1.0), near(behind), near(1.0 - behind), outer(2.0 - behind)]
}

impl Cubic {
    /// The four pixels of an axis around a point, the last one again and again beyond the border, and what they weigh.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "sizes of images; a point far off is at the border"
    )]
    fn around(&self, at: f64, size: usize) -> [(usize, f64); 4] {
        let pixels = size as f64;
        let at = if self.is_aligned { (at + 1.0) / 2.0 * (pixels - 1.0) } else { ((at + 1.0) * pixels - 1.0) / 2.0 };
        let second = at.floor();
        let weights = weights(at - second);
        [0, 1, 2, 3].map(|number| {
            let pixel = (second as i64).saturating_add(number as i64 - 1);
            (usize::try_from(pixel).unwrap_or(0).min(size - 1), weights[number])
        })
    }
}

impl Kernel for Cubic {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [images, grid] = inputs else { bail!("takes images and a grid") };
        expect(images, &FLOATS)?;
        let ([count, channels, height, width], [grids, rows, columns, axes]) = (&*images.shape, &*grid.shape) else {
            bail!("takes images of two dimensions")
        };
        ensure!(count == grids && *axes == 2.into(), "takes a grid of two coordinates for each image");
        ensure!(*height != 0.into() && *width != 0.into(), "takes images of one pixel or more");
        Ok(vec![Fact::new(images.datum, [count, channels, rows, columns].map(Clone::clone))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (images, grid) = (doubles(inputs[0])?, doubles(inputs[1])?);
        let ([count, channels, height, width], [_, rows, columns, _]) = (inputs[0].shape(), inputs[1].shape()) else {
            bail!("takes images of two dimensions")
        };
        let mut sampled = Vec::new();
        for image in 0..*count {
            let points = &grid[image * rows * columns * 2..][..rows * columns * 2];
            let points: Vec<_> = points
                .chunks_exact(2)
                .map(|point| (self.around(point[0], *width), self.around(point[1], *height)))
                .collect();
            for channel in 0..*channels {
                let pixels = &images[(image * channels + channel) * height * width..][..height * width];
                sampled.extend(points.iter().map(|(across, down)| {
                    let line = |row: usize| {
                        across.iter().map(|(column, weight)| pixels[row * width + column] * weight).sum::<f64>()
                    };
                    down.iter().map(|(row, weight)| line(*row) * weight).sum::<f64>()
                }));
            }
        }
        Ok(vec![narrowed(&sampled, inputs[0].datum_type(), &[*count, *channels, *rows, *columns])?])
    }
}
