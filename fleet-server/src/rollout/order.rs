//! The order in which a rollout reaches its devices.
//!
//! Within a device class the order is that of SHA-256 over rollout and device, so it stays as it is whoever comes and
//! goes, and differs from rollout to rollout: no device is always the canary. Across classes the next place goes to the
//! class of which the smallest part has been placed, the largest class first (Adams' divisor rule). Any prefix therefore
//! holds one device of every class before it holds two of one, as far as it reaches, and shorter prefixes lie in longer
//! ones: stages nest by construction.

use std::{cmp::Ordering, collections::BTreeMap};

use tern_protocol::{
    digest::{Digest, Hasher},
    ids::{DeviceClass, DeviceId},
};

use super::RolloutId;

struct Place<'a> {
    rank: u64,
    size: u64,
    class: &'a DeviceClass,
    device: &'a DeviceId,
}

impl Place<'_> {
    // rank / size of one against that of the other, without rounding.
    fn compare(&self, other: &Self) -> Ordering {
        let left = u128::from(self.rank) * u128::from(other.size);
        let right = u128::from(other.rank) * u128::from(self.size);
        left.cmp(&right).then(other.size.cmp(&self.size)).then_with(|| self.class.cmp(other.class))
    }
}

/// The devices in the order in which the rollout reaches them; each must be given once.
pub fn order<'a>(
    rollout: &RolloutId,
    devices: impl IntoIterator<Item = (&'a DeviceId, &'a DeviceClass)>,
) -> Vec<&'a DeviceId> {
    let mut classes: BTreeMap<&DeviceClass, Vec<(Digest, &DeviceId)>> = BTreeMap::new();
    for (device, class) in devices {
        classes.entry(class).or_default().push((key(rollout, device), device));
    }
    let mut places = Vec::with_capacity(classes.values().map(Vec::len).sum());
    for (class, mut members) in classes {
        members.sort_unstable();
        let size = members.len() as u64;
        places.extend((0..).zip(members).map(|(rank, (_, device))| Place { rank, size, class, device }));
    }
    places.sort_unstable_by(Place::compare);
    places.into_iter().map(|place| place.device).collect()
}

fn key(rollout: &RolloutId, device: &DeviceId) -> Digest {
    let mut hasher = Hasher::default();
    // Neither name may hold a zero byte, so no two pairs have one text.
    for part in ["tern-rollout-order", "\0", rollout.as_str(), "\0", device.as_str()] {
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn fleet(sizes: &[usize]) -> Vec<(DeviceId, DeviceClass)> {
        let device =
            |class: usize, n: usize| (format!("d{class}-{n}").parse().unwrap(), format!("c{class}").parse().unwrap());
        sizes.iter().enumerate().flat_map(|(class, &size)| (0..size).map(move |n| device(class, n))).collect()
    }

    fn placed(rollout: &str, fleet: &[(DeviceId, DeviceClass)]) -> Vec<DeviceId> {
        order(&rollout.parse().unwrap(), fleet.iter().map(|(d, c)| (d, c))).into_iter().cloned().collect()
    }

    #[test]
    fn the_order_is_the_published_one() {
        // Golden: an upgrade of the server must not reshuffle a rollout that is under way.
        let names: Vec<String> = placed("digits-1", &fleet(&[4, 2])).iter().map(ToString::to_string).collect();
        assert_eq!(names, GOLDEN);
    }

    const GOLDEN: [&str; 6] = ["d0-0", "d1-0", "d0-1", "d0-2", "d1-1", "d0-3"];

    #[test]
    fn another_rollout_has_another_canary() {
        let fleet = fleet(&[50]);
        let first: BTreeSet<_> = (0..40).map(|n| placed(&format!("r{n}"), &fleet)[0].clone()).collect();
        assert!(first.len() > 15, "{} first devices in 40 rollouts", first.len());
    }

    proptest! {
        #[test]
        fn prefixes_hold_every_class_and_no_class_runs_ahead(sizes in prop::collection::vec(1_usize..40, 1..6)) {
            let fleet = fleet(&sizes);
            let placed = placed("r", &fleet);
            prop_assert_eq!(placed.len(), fleet.len());
            for length in sizes.len()..=placed.len() {
                for (class, size) in sizes.iter().enumerate() {
                    let of = format!("d{class}-");
                    let held = placed[..length].iter().filter(|d| d.as_str().starts_with(&of)).count();
                    prop_assert!(held >= 1);
                    // Adams' rule never exceeds a class's exact share by a whole device.
                    let exact = (length * size) as f64 / placed.len() as f64;
                    prop_assert!((held as f64) < exact + 1.0, "{held} of {exact}");
                }
            }
        }

        #[test]
        fn who_stays_keeps_the_order_when_one_goes(sizes in prop::collection::vec(1_usize..20, 1..5), gone in 0_usize..90, cut in 0_usize..90) {
            let mut fleet = fleet(&sizes);
            let before = placed("r", &fleet);
            let (left, class) = fleet.remove(gone % fleet.len());
            let after = placed("r", &fleet);
            let peers = |all: &[DeviceId]| -> Vec<DeviceId> {
                let of = format!("d{}", class.as_str().trim_start_matches('c'));
                all.iter().filter(|d| d.as_str().starts_with(&format!("{of}-")) && **d != left).cloned().collect()
            };
            prop_assert_eq!(peers(&before), peers(&after));
            let cut = cut % before.len();
            let old: BTreeSet<_> = before[..cut].iter().filter(|d| **d != left).collect();
            let new: BTreeSet<_> = after[..cut.min(after.len())].iter().collect();
            prop_assert!(old.difference(&new).count() < sizes.len().max(2), "one device left, {} others moved", old.difference(&new).count());
        }
    }
}
