//! Numbers derived from one row of an input: what makes an image or a signal watchable like a column.
//!
//! A row is the input without its batch axis, its values in row-major order. Nothing is allocated. A NaN in a row makes its
//! numbers NaN, which is counted as such.

/// The mean of the values; none of no values.
pub fn mean(row: &[f32]) -> Option<f64> {
    if row.is_empty() { None } else { Some(row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64) }
}

/// The standard deviation of the values, over all of them; none of no values.
pub fn contrast(row: &[f32]) -> Option<f64> {
    let mean = mean(row)?;
    let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / row.len() as f64;
    Some(square.sqrt())
}

/// The mean absolute difference between neighbours on the last two axes of `shape`, the row's own axes; on the last one
/// where there is only one. None where there are no neighbours, or the values are not as many as the shape says.
pub fn sharpness(row: &[f32], shape: &[usize]) -> Option<f64> {
    let width = *shape.last()?;
    let height = if shape.len() > 1 { shape[shape.len() - 2] } else { 1 };
    let plane = width.checked_mul(height)?;
    if plane == 0 || shape.iter().product::<usize>() != row.len() {
        return None;
    }
    let (mut sum, mut count) = (0.0, 0_u64);
    for image in row.chunks_exact(plane) {
        let across = image.chunks_exact(width).flat_map(|line| line.windows(2).map(|pair| (pair[0], pair[1])));
        let down = image.iter().zip(&image[width..]).map(|(a, b)| (*a, *b));
        for (a, b) in across.chain(down) {
            sum += (f64::from(a) - f64::from(b)).abs();
            count += 1;
        }
    }
    if count == 0 { None } else { Some(sum / count as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_mean_a_contrast_and_a_sharpness() {
        let image = [0.0, 4.0, 0.0, 4.0];
        assert_eq!((mean(&image), contrast(&image)), (Some(2.0), Some(2.0)));
        // Two differences of 4 across, two of 0 down.
        assert_eq!(sharpness(&image, &[2, 2]), Some(2.0));
        assert_eq!(sharpness(&image, &[4]), Some(4.0));
        assert_eq!(sharpness(&[1.0, 1.0, 5.0, 5.0], &[2, 1, 2]), Some(0.0), "channels are no neighbours");
    }

    #[test]
    fn what_has_no_such_number_gives_none_and_nan_gives_nan() {
        assert_eq!((mean(&[]), contrast(&[]), sharpness(&[], &[0])), (None, None, None));
        assert_eq!((sharpness(&[1.0], &[1]), sharpness(&[1.0; 4], &[3])), (None, None));
        assert_eq!(sharpness(&[1.0; 4], &[]), None);
        let nan = [1.0, f32::NAN];
        assert!(mean(&nan).unwrap().is_nan() && contrast(&nan).unwrap().is_nan());
        assert!(sharpness(&nan, &[2]).unwrap().is_nan());
    }
}
