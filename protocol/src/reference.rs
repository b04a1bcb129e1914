//! The reference profile of a bundle: `tern_stats::profile::Profile` as JSON, held against the contract that it counts by.
//!
//! Its bytes are a blob that the manifest names with role `reference`, so whoever reads it has checked its digest. The
//! format's number is the profile's own. Agent, server and whoever fits a profile ask this one door.

use tern_stats::profile::{FeatureProfile, Kind, Profile, ProfileError};

use crate::{
    contract::{Contract, Part, Watched},
    report::v1::MAX_FEATURES,
};

/// Longest reference profile, in bytes.
pub const MAX_BYTES: usize = 2 << 20;
/// Most bytes that the sums of one window may take, in the worst case: with labels beside them they fit into a frame of
/// [`crate::frames`]. A window of 3,000 numbers in 32 cells each takes about 1.2 MB.
pub const MAX_WINDOW_BYTES: usize = 3 << 20;

/// Why bytes are no profile of a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Longer than [`MAX_BYTES`].
    #[error("reference profile of {0} bytes is over the limit")]
    TooLarge(usize),
    /// Not JSON of the right form.
    #[error("malformed reference profile: {0}")]
    Malformed(String),
    /// Its numbers make no sense.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// It counts other features than the contract says are watched.
    #[error("reference profile {side} are {found:?}, the contract watches {expected:?}: fit the profile again")]
    Features {
        /// `inputs` or `outputs`.
        side: &'static str,
        /// What the contract watches.
        expected: Vec<String>,
        /// What the profile holds.
        found: Vec<String>,
    },
    /// A number where the contract has a category, or the reverse.
    #[error("reference profile counts {0:?} in another way than the contract: fit the profile again")]
    Kind(String),
    /// It counts more than a report or a frame can hold.
    #[error("reference profile counts more than a window can hold: watch fewer features, or in fewer cells")]
    TooWide,
    /// Bins of confidence for a contract that names no confidence.
    #[error("reference profile has confidence bins, but the contract's prediction names no confidence")]
    Confidence,
}

/// The profile in `bytes`, which counts by `contract`.
///
/// # Errors
/// The first thing found wrong, in the order of [`ReferenceError`].
pub fn read(bytes: &[u8], contract: &Contract) -> Result<Profile, ReferenceError> {
    if bytes.len() > MAX_BYTES {
        return Err(ReferenceError::TooLarge(bytes.len()));
    }
    let profile: Profile = serde_json::from_slice(bytes).map_err(|e| ReferenceError::Malformed(e.to_string()))?;
    check(&profile, contract)?;
    Ok(profile)
}

/// Whether `profile` is sound and counts by `contract`.
///
/// # Errors
/// As [`read`].
pub fn check(profile: &Profile, contract: &Contract) -> Result<(), ReferenceError> {
    profile.check()?;
    check_side("inputs", &contract.watched_inputs(), &profile.features)?;
    // Recorded rows hold no outputs: a profile of them leaves all of them unwatched.
    if !profile.outputs.is_empty() {
        check_side("outputs", &contract.watched_outputs(), &profile.outputs)?;
    }
    if profile.features.len() > MAX_FEATURES
        || profile.outputs.len() > MAX_FEATURES
        || window_bytes(profile) > MAX_WINDOW_BYTES
    {
        return Err(ReferenceError::TooWide);
    }
    let is_confident = contract.prediction.as_ref().is_some_and(|p| p.confidence.is_some());
    if profile.confidence.is_some() && !is_confident { Err(ReferenceError::Confidence) } else { Ok(()) }
}

/// What the sums of a window take at most: a count has up to ten bytes, a sketch of unknown categories 1,064.
fn window_bytes(profile: &Profile) -> usize {
    let one = |feature: &FeatureProfile| match &feature.kind {
        Kind::Numeric(ruler) => 100 + 10 * ruler.edges.cells(),
        Kind::Categorical(dictionary) => 1200 + 10 * dictionary.names().len(),
    };
    profile.watched().map(one).fold(0, usize::saturating_add)
}

fn check_side(side: &'static str, watched: &[Watched], profiled: &[FeatureProfile]) -> Result<(), ReferenceError> {
    if !watched.iter().map(|w| &w.name).eq(profiled.iter().map(|p| &p.name)) {
        let expected = watched.iter().map(|w| w.name.clone()).collect();
        let found = profiled.iter().map(|p| p.name.clone()).collect();
        return Err(ReferenceError::Features { side, expected, found });
    }
    let fits = |(w, p): &(&Watched, &FeatureProfile)| {
        matches!(p.kind, Kind::Categorical(_)) == matches!(w.part, Part::Category(_) | Part::Label)
    };
    let odd = watched.iter().zip(profiled).find(|pair| !fits(pair));
    odd.map_or(Ok(()), |(watched, _)| Err(ReferenceError::Kind(watched.name.clone())))
}

#[cfg(test)]
mod tests {
    use tern_stats::{
        cells::Edges,
        numeric::Accumulator,
        profile::{Baseline, Spec, fit},
        window::{Sums, Window},
    };

    use super::*;
    use crate::contract::{DataType, Derived, Feature, Prediction, TensorContract, Violation};

    fn contract() -> Contract {
        let tensor = |name: &str, datatype, derive| TensorContract {
            name: name.into(),
            datatype,
            shape: vec![-1],
            range: None,
            nan: Violation::Reject,
            features: vec![],
            derive,
        };
        Contract {
            inputs: vec![tensor("x", DataType::Fp32, vec![Derived::Mean])],
            outputs: vec![tensor("y", DataType::Fp32, vec![])],
            prediction: None,
        }
    }

    fn profile(name: &str) -> Profile {
        let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
        let spec = Spec::numeric(name, &values).unwrap();
        let Kind::Numeric(ruler) = &spec.kind else { panic!("numbers") };
        let mut sums = Accumulator::new(ruler.clone());
        let window = |chunk: &[f64]| {
            chunk.iter().for_each(|x| sums.update(Some(*x)));
            Window { rows: 10, features: vec![Sums::Numeric(sums.take())], ..Window::default() }
        };
        let windows: Vec<_> = values.chunks(10).map(window).collect();
        fit(&Baseline::new(&[spec], &windows)).unwrap()
    }

    #[test]
    fn a_profile_is_read_against_its_contract() {
        let bytes = serde_json::to_vec(&profile("mean(x)")).unwrap();
        assert_eq!(read(&bytes, &contract()).unwrap(), profile("mean(x)"));
        let other = read(&bytes, &Contract { inputs: contract().outputs, ..contract() });
        assert!(matches!(other, Err(ReferenceError::Features { side: "inputs", .. })));
        assert!(matches!(read(b"{}", &contract()), Err(ReferenceError::Malformed(_))));
        assert_eq!(read(&vec![b' '; MAX_BYTES + 1], &contract()), Err(ReferenceError::TooLarge(MAX_BYTES + 1)));
        let unsound = Profile { arl: 0.0, ..profile("mean(x)") };
        assert!(matches!(check(&unsound, &contract()), Err(ReferenceError::Profile(_))));
    }

    #[test]
    fn a_profile_that_no_window_could_hold_is_refused() {
        let (mut contract, mut wide) = (contract(), profile("mean(x)"));
        let column = |i: usize| Feature { name: format!("c{i}"), range: None, categories: vec![] };
        let columns = |n: usize| (0..n).map(column).collect::<Vec<_>>();
        contract.inputs[0] = TensorContract { derive: vec![], shape: vec![-1, 4096], ..contract.inputs[0].clone() };
        for (count, cells, is_held) in [(4096, 32, true), (4096, 100, false), (310, 1024, false), (4097, 2, false)] {
            contract.inputs[0].features = columns(count);
            let mut feature = wide.features[0].clone();
            let Kind::Numeric(ruler) = &mut feature.kind else { panic!("numbers") };
            ruler.edges = Edges::new((1..cells).map(f64::from).collect()).unwrap();
            feature.counts = vec![1; cells as usize];
            let named = |i| FeatureProfile { name: format!("x.c{i}"), ..feature.clone() };
            wide.features = (0..count).map(named).collect();
            let expected = if is_held { Ok(()) } else { Err(ReferenceError::TooWide) };
            assert_eq!(check(&wide, &contract), expected, "{count} of {cells}");
        }
    }

    #[test]
    fn numbers_do_not_stand_for_categories() {
        let mut contract = contract();
        let label = TensorContract { name: "label".into(), datatype: DataType::Int64, ..contract.outputs[0].clone() };
        contract.outputs.push(label);
        contract.prediction = Some(Prediction { label: "label".into(), confidence: None });
        let mut both = profile("mean(x)");
        both.outputs = profile("label").features;
        assert_eq!(check(&both, &contract), Err(ReferenceError::Kind("label".into())));
        assert_eq!(check(&profile("mean(x)"), &contract), Ok(()), "outputs may be left out");
    }
}
