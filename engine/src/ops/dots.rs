//! Sums of products, by the widest steps that the processor has.

use crate::model::registers::{self, Steps};

/// What each row of `x` comes to by each of `rows`, both of so many columns; the sums of one row of `x` after the other.
pub(super) fn dots(x: &[f32], rows: &[f32], columns: usize) -> Vec<f32> {
    if columns == 0 {
        return Vec::new();
    }
    let mut sums = vec![0.0; x.len() / columns * (rows.len() / columns)];
    registers::by_steps(Products { x, rows, columns, sums: &mut sums });
    sums
}

/// What two rows of the same length come to.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    /// Below, asking for the steps takes longer than they save.
    const LONG: usize = 64;
    if a.len() < LONG {
        return a.iter().zip(b).map(|(a, b)| a * b).sum();
    }
    let mut sums = [0.0];
    registers::by_steps(Products { x: a, rows: b, columns: a.len(), sums: &mut sums });
    sums[0]
}

/// Eight sums side by side, which the compiler makes one instruction.
#[inline(always)]
fn sum<const ONCE: bool>(a: &[f32], b: &[f32]) -> f32 {
    let step = |a: f32, b: f32, sum: f32| if ONCE { a.mul_add(b, sum) } else { a * b + sum };
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] = step(a[lane], b[lane], sums[lane]);
        }
    }
    let mut total = 0.0;
    for (a, b) in rest_a.iter().zip(rest_b) {
        total = step(*a, *b, total);
    }
    for lane in sums {
        total += lane;
    }
    total
}

struct Products<'v> {
    x: &'v [f32],
    rows: &'v [f32],
    columns: usize,
    sums: &'v mut [f32],
}

impl Steps for Products<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        let mut sums = self.sums.iter_mut();
        for x in self.x.chunks_exact(self.columns) {
            for (row, sum) in self.rows.chunks_exact(self.columns).zip(&mut sums) {
                *sum = self::sum::<ONCE>(x, row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_comes_to_the_sum_of_its_products() {
        for columns in [1u8, 3, 8, 11, 20] {
            let values = |from: u8, rows: u8| (from..from + rows * columns).map(f32::from).collect::<Vec<_>>();
            let (x, rows) = (values(1, 2), values(3, 4));
            let width = usize::from(columns);
            let expected = x
                .chunks(width)
                .flat_map(|x| rows.chunks(width).map(move |row| x.iter().zip(row).map(|(a, b)| a * b).sum::<f32>()));
            assert_eq!(dots(&x, &rows, width), expected.collect::<Vec<_>>(), "{columns} columns");
        }
        assert!(dots(&[], &[], 0).is_empty());
        assert_eq!((dot(&[], &[]), dot(&[2.0, 3.0], &[5.0, 7.0]), dot(&[2.0; 100], &[3.0; 100])), (0.0, 31.0, 600.0));
    }
}
