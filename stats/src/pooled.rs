//! Cohort means against the reference: what happens to all devices at once.
//!
//! The mean of the devices' scores goes into STEP with each feature's own profile. The claim of STEP carries over
//! whatever the dependence between devices: exp is convex, so the exponential moment of a mean of innovations is at
//! most the mean of theirs. Common weather does not average out, so more devices do not make it sharper than that.

use crate::{
    scores::Reading,
    shape::{ShapeMismatch, same},
};

/// Fewest devices whose mean is more than one device's score again.
pub const MIN_DEVICES: usize = 2;

/// Writes into `out`, for each score, the mean over `devices`; `None` where fewer than [`MIN_DEVICES`] have it.
///
/// # Errors
/// Where the devices do not have the same number of scores.
pub fn means(devices: &[&[Option<Reading>]], out: &mut Vec<Option<Reading>>) -> Result<(), ShapeMismatch> {
    out.clear();
    let scores = devices.first().map_or(0, |device| device.len());
    devices.iter().try_for_each(|device| same("readings", scores, device.len()))?;
    out.extend((0..scores).map(|score| mean(devices.iter().filter_map(|device| device[score]))));
    Ok(())
}

fn mean(readings: impl Iterator<Item = Reading>) -> Option<Reading> {
    let (count, value, rows) =
        readings.fold((0, 0.0, 0.0), |(count, value, rows), r| (count + 1, value + r.value, rows + r.rows));
    let n = f64::from(count);
    (count as usize >= MIN_DEVICES).then(|| Reading { value: value / n, rows: rows / n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_leave_out_devices_without_a_score() {
        let reading = |value| Some(Reading { value, rows: value * 10.0 });
        let devices = [[reading(1.0), reading(5.0)], [reading(3.0), None], [None, None]];
        let slices: Vec<_> = devices.iter().map(|d| &d[..]).collect();
        let mut out = Vec::new();
        means(&slices, &mut out).unwrap();
        assert_eq!(out, [Some(Reading { value: 2.0, rows: 20.0 }), None]);
        assert!(means(&[&devices[0], &devices[1][..1]], &mut out).is_err());
        means(&[], &mut out).unwrap();
        assert!(out.is_empty());
    }
}
