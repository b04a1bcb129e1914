//! Sums of products, by the widest steps that the processor has.

use crate::model::registers::{self, Steps};
use tract_onnx::{prelude::TractResult, tract_hir::internal::ensure};

/// Sums side by side: two or four steps of a processor.
pub(super) const LANES: usize = 16;

/// Rows that others are multiplied with, laid out so that the sums of [`LANES`] of them go side by side.
#[derive(Debug)]
pub(super) struct Table {
    /// For so many rows after the other, column by column a value of each; zeros fill the last ones up.
    blocks: Vec<[f32; LANES]>,
    rows: usize,
    columns: usize,
}

impl Table {
    /// Of values row by row.
    ///
    /// # Errors
    /// Where rows are so long that filling up to [`LANES`] of them would take more than the values do by far.
    pub(super) fn new(values: &[f32], columns: usize) -> TractResult<Self> {
        const MOST: usize = 1 << 20;
        ensure!(columns <= MOST, "weighs {columns} values at once, more than {MOST}");
        let mut blocks = Vec::with_capacity(values.len().div_ceil(LANES));
        for rows in values.chunks((LANES * columns).max(1)) {
            let value = |column: usize, lane: usize| rows.get(lane * columns + column).copied().unwrap_or(0.0);
            blocks.extend((0..columns).map(|column| std::array::from_fn(|lane| value(column, lane))));
        }
        Ok(Self { blocks, rows: values.len().checked_div(columns).unwrap_or(0), columns })
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// For [`LANES`] rows after the other, column by column a value of each.
    pub(super) fn blocks(&self) -> std::slice::ChunksExact<'_, [f32; LANES]> {
        self.blocks.chunks_exact(self.columns.max(1))
    }

    /// What each row of `x` comes to by each row, the sums of one row of `x` after the other. `sums` has a place for each; where there are
    /// no columns they stay as they are.
    pub(super) fn times(&self, x: &[f32], sums: &mut [f32]) {
        registers::by_steps(Times { table: self, x, sums });
    }
}

struct Times<'v> {
    table: &'v Table,
    x: &'v [f32],
    sums: &'v mut [f32],
}

impl Steps for Times<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        /// So many blocks at once: no sum waits for the one before.
        const GROUP: usize = 4;
        let Self { table, x, sums } = self;
        let (columns, rows) = (table.columns, table.rows);
        if columns == 0 || rows == 0 {
            return;
        }
        for (number, group) in table.blocks.chunks(GROUP * columns).enumerate() {
            let first = number * GROUP * LANES;
            for (x, sums) in x.chunks_exact(columns).zip(sums.chunks_exact_mut(rows)) {
                let sums = &mut sums[first..];
                if group.len() == GROUP * columns {
                    let (a, b) = group.split_at(2 * columns);
                    let ((a, b), (c, d)) = (a.split_at(columns), b.split_at(columns));
                    give(sums, &products::<ONCE, GROUP>(x, [a, b, c, d]));
                } else {
                    for (block, sums) in group.chunks_exact(columns).zip(sums.chunks_mut(LANES)) {
                        give(sums, &products::<ONCE, 1>(x, [block]));
                    }
                }
            }
        }
    }
}

/// As many as there are places.
#[inline(always)]
fn give(places: &mut [f32], sums: &[[f32; LANES]]) {
    for (place, sum) in places.iter_mut().zip(sums.as_flattened()) {
        *place = *sum;
    }
}

#[inline(always)]
fn products<const ONCE: bool, const BLOCKS: usize>(
    x: &[f32],
    blocks: [&[[f32; LANES]]; BLOCKS],
) -> [[f32; LANES]; BLOCKS] {
    let mut sums = [[0.0; LANES]; BLOCKS];
    for (column, x) in x.iter().enumerate() {
        for (sums, block) in sums.iter_mut().zip(&blocks) {
            let values = &block[column];
            for lane in 0..LANES {
                sums[lane] = if ONCE { x.mul_add(values[lane], sums[lane]) } else { x * values[lane] + sums[lane] };
            }
        }
    }
    sums
}

/// What two rows of the same length come to.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    /// Below, asking for the steps takes longer than they save.
    const LONG: usize = 64;
    if a.len() < LONG {
        return a.iter().zip(b).map(|(a, b)| a * b).sum();
    }
    let mut sum = 0.0;
    registers::by_steps(Dot { a, b, sum: &mut sum });
    sum
}

struct Dot<'v> {
    a: &'v [f32],
    b: &'v [f32],
    sum: &'v mut f32,
}

impl Steps for Dot<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        let step = |a: f32, b: f32, sum: f32| if ONCE { a.mul_add(b, sum) } else { a * b + sum };
        let ((a, rest_a), (b, rest_b)) = (self.a.as_chunks::<LANES>(), self.b.as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                sums[lane] = step(a[lane], b[lane], sums[lane]);
            }
        }
        let mut total = 0.0;
        for (a, b) in rest_a.iter().zip(rest_b) {
            total = step(*a, *b, total);
        }
        for sum in sums {
            total += sum;
        }
        *self.sum = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_comes_to_the_sum_of_its_products() {
        for (columns, rows) in [(1u8, 1u8), (3, 16), (2, 17), (1, 64), (2, 70), (1, 130)] {
            let values = |count: u8| {
                (0..usize::from(count) * usize::from(columns)).map(|at| f32::from(u8::try_from(at % 7).unwrap()))
            };
            let (x, rows): (Vec<f32>, Vec<f32>) = (values(3).collect(), values(rows).collect());
            let width = usize::from(columns);
            let expected: Vec<f32> = x
                .chunks(width)
                .flat_map(|x| rows.chunks(width).map(move |row| x.iter().zip(row).map(|(a, b)| a * b).sum::<f32>()))
                .collect();
            let mut sums = vec![-1.0; expected.len()];
            Table::new(&rows, width).unwrap().times(&x, &mut sums);
            assert_eq!(sums, expected, "{columns} columns");
        }
        Table::new(&[], 0).unwrap().times(&[], &mut []);
        assert!(Table::new(&[], 2 << 20).is_err());
        assert_eq!((dot(&[], &[]), dot(&[2.0, 3.0], &[5.0, 7.0]), dot(&[2.0; 100], &[3.0; 100])), (0.0, 31.0, 600.0));
    }
}
