//! What a fouled lens does to a digit: blur, a smudge, and fog that takes the contrast; the same pixels as
//! `quickstart/fouling.py` makes, where the retrained version learned them.
//!
//! Whole numbers only, so no engine, compiler or CPU rounds otherwise:
//!
//! 1. blur: each pixel becomes the sum over its 3x3 neighbours, weighed (1, 4, 1) both ways, edges repeated; scale 36;
//! 2. smudge: a square of 2x2 pixels, its place drawn by seed and number, is ink all over (16);
//! 3. fog: 3 + 9/16 of what is there, rounded half up to whole grey values.

use crate::{cameras::Digit, draws};

/// Pixels along either side of an image.
pub const SIDE: usize = 8;
/// The brightest grey value.
const INK: i32 = 16;
const CENTRE: i32 = 4;
const SCALE: i32 = (CENTRE + 2) * (CENTRE + 2);
const SMUDGE: usize = 2;
const FOG: i32 = 3;
/// Sixteenths that the fog lets through.
const GAIN: i32 = 9;
/// Places of the smudge along either side.
const PLACES: usize = SIDE - SMUDGE + 1;

type Image = [[i32; SIDE]; SIDE];

/// `digit` as a fouled lens shows it; `seed` and the image's `number` say where the smudge lies.
pub fn fouled(digit: &Digit, seed: u64, number: u64) -> Digit {
    let mut image = Image::default();
    for (pixel, value) in image.as_flattened_mut().iter_mut().zip(&digit.pixels) {
        *pixel = *value as i32;
    }
    let mut seen = blurred(&image);
    let spot = draws::place(seed, number, PLACES * PLACES);
    for line in &mut seen[spot / PLACES..][..SMUDGE] {
        line[spot % PLACES..][..SMUDGE].fill(INK * SCALE);
    }
    let foggy = |value: &i32| ((FOG * SCALE * 16 + value * GAIN + SCALE * 8) / (SCALE * 16)) as f32;
    Digit { label: digit.label, pixels: seen.as_flattened().iter().map(foggy).collect() }
}

fn blurred(image: &Image) -> Image {
    let weigh = |before: i32, here: i32, after: i32| before + CENTRE * here + after;
    let around = |at: usize| (at.saturating_sub(1), (at + 1).min(SIDE - 1));
    let mut rows = Image::default();
    let mut both = Image::default();
    for (row, line) in rows.iter_mut().enumerate() {
        let (above, below) = around(row);
        for (column, pixel) in line.iter_mut().enumerate() {
            *pixel = weigh(image[above][column], image[row][column], image[below][column]);
        }
    }
    for (line, blurred) in both.iter_mut().zip(&rows) {
        for (column, pixel) in line.iter_mut().enumerate() {
            let (left, right) = around(column);
            *pixel = weigh(blurred[left], blurred[column], blurred[right]);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cameras::read_digits;

    /// The seed under which `train.py` writes `fouled.csv`.
    const SEED: u64 = 7;

    #[test]
    fn rust_and_python_foul_alike() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("quickstart/data");
        let played = read_digits(&folder.join("played.csv")).unwrap();
        let expected = read_digits(&folder.join("fouled.csv")).unwrap();
        assert_eq!(expected.len(), 32);
        for (number, (digit, expected)) in (0..).zip(played.iter().zip(&expected)) {
            assert_eq!(&fouled(digit, SEED, number), expected, "image {number}");
        }
    }

    #[test]
    fn a_fouled_image_has_less_contrast_and_stays_within_the_contract() {
        let digit = Digit { label: 1, pixels: (0..64).map(|i| if i % 8 < 4 { 0.0 } else { 16.0 }).collect() };
        let fouled = fouled(&digit, 1, 1);
        assert!(fouled.pixels.iter().all(|pixel| (3.0..=12.0).contains(pixel) && pixel.fract() == 0.0));
        assert_eq!(fouled.label, 1);
    }
}
