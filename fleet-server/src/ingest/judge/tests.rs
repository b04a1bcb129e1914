//! One test for each way in which a row cannot be, and for what is strange but counts.

use tern_protocol::{
    contract::Contract,
    report::v1::{Categorical, ErrorCount, ErrorKind, Feedback, Numeric},
};
use tern_stats::{
    cells::Edges,
    numeric::Accumulator,
    profile::{Baseline, Bin, Confidence, Spec, fit},
    window::Window as StatsWindow,
};

use super::*;
use crate::{
    ingest::samples,
    profiles::{Known, Reference},
};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// One number, and two bins of confidence.
fn profile() -> Profile {
    let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
    let spec = Spec::numeric("mean(x)", &values).unwrap();
    let Kind::Numeric(ruler) = &spec.kind else { panic!("numbers") };
    let mut sums = Accumulator::new(ruler.clone());
    let window = |chunk: &[f64]| {
        chunk.iter().for_each(|x| sums.update(Some(*x)));
        StatsWindow { rows: 10, features: vec![Sums::Numeric(sums.take())], ..StatsWindow::default() }
    };
    let windows: Vec<_> = values.chunks(10).map(window).collect();
    let mut profile = fit(&Baseline::new(&[spec], &windows)).unwrap();
    let bins = vec![Bin { n: 10, errors: 1 }; 2];
    profile.confidence = Some(Confidence { edges: Edges::new(vec![0.8]).unwrap(), bins });
    profile
}

fn known(reference: Reference) -> Known {
    let contract = Contract { inputs: vec![], outputs: vec![], prediction: None };
    Known::new(contract, Digest::of(b"contract"), reference)
}

fn fitting() -> Known {
    known(Reference::Fits(Box::new(profile())))
}

fn numeric(cells: usize) -> Feature {
    Feature::Numeric(Numeric { cells: vec![0; cells], ..Numeric::default() })
}

/// A window that watches what the profile does.
fn window() -> Window {
    Window {
        features: vec![numeric(profile().features[0].kind.cells())],
        confidence: vec![3, 7],
        feedback: vec![Feedback::default(); 2],
        ..samples::window(1, 10)
    }
}

fn of(edit: impl FnOnce(&mut Window)) -> Option<Poison> {
    let mut window = window();
    edit(&mut window);
    judge(&Item::Window(Box::new(window)), Some(&fitting()), now()).err().map(|(poison, _)| poison)
}

#[test]
fn what_a_working_device_says_counts() {
    assert_eq!(of(|_| {}), None);
    assert_eq!(of(|w| (w.start_ms, w.end_ms) = (0, 60_000)), None, "a clock at 1970");
    assert_eq!(of(|w| (w.features, w.confidence, w.feedback) = (vec![], vec![], vec![])), None, "watches nothing");
    assert_eq!(of(|w| (w.features, w.confidence, w.feedback) = (vec![], vec![], vec![Feedback::default()])), None);
    assert_eq!(of(|w| w.contract = Digest::from_bytes(UNNAMED)), None, "could not read its manifest");
    assert_eq!(of(|w| (w.features, w.contract) = (vec![], Digest::of(b"other"))), None, "counts no feature");
    let blind = Item::Window(Box::new(samples::window(1, 10)));
    assert!(judge(&blind, Some(&known(Reference::Absent)), now()).is_ok());
    let watching = Item::Window(Box::new(window()));
    assert!(judge(&watching, Some(&known(Reference::Unfit(String::new()))), now()).is_ok());
}

#[test]
fn times_that_cannot_be() {
    let year = 365 * 24 * 3_600_000;
    assert_eq!(of(|w| w.start_ms = -1), Some(Poison::RowTime));
    assert_eq!(of(|w| w.end_ms = now().as_millisecond() + 2 * year), Some(Poison::RowTime));
    assert_eq!(of(|w| w.end_ms = w.start_ms + 2 * year), Some(Poison::RowTime));
    assert_eq!(of(|w| (w.start_ms, w.end_ms) = (i64::MIN, i64::MAX)), Some(Poison::RowTime));
}

#[test]
fn counts_that_cannot_be() {
    assert_eq!(of(|w| w.rows = ABSURD), Some(Poison::RowCount));
    assert_eq!(
        of(|w| w.errors = vec![ErrorCount { kind: ErrorKind::Engine, count: u64::MAX }]),
        Some(Poison::RowCount)
    );
    assert_eq!(of(|w| w.violations.flagged = ABSURD), Some(Poison::RowCount));
    assert_eq!(of(|w| w.feedback[1].n = ABSURD), Some(Poison::RowCount));
    assert_eq!(of(|w| w.confidence[0] = ABSURD), Some(Poison::RowCount));
    let one = |kind| ErrorCount { kind, count: 1 };
    assert_eq!(of(|w| w.errors = vec![one(ErrorKind::Engine); 17]), Some(Poison::RowCount));
    assert_eq!(
        of(|w| w.features = vec![Feature::Numeric(Numeric { missing: ABSURD, ..Numeric::default() })]),
        Some(Poison::RowCount)
    );
}

#[test]
fn sums_that_their_counts_cannot_have() {
    let cells = profile().features[0].kind.cells();
    let of = |edit: &dyn Fn(&mut Numeric)| {
        let mut sums = Numeric { cells: vec![0; cells], n: 10, nd: 9, ..Numeric::default() };
        sums.cells[0] = 10;
        edit(&mut sums);
        of(|w| w.features = vec![Feature::Numeric(sums)])
    };
    assert_eq!(of(&|s| (s.s1, s.s2, s.sd_sum) = (-80.0, 640.000_000_1, 54.0)), None, "clipped all, and rounded");
    assert_eq!(of(&|s| s.s1 = 81.0), Some(Poison::RowCount));
    assert_eq!(of(&|s| s.s1 = -1e308), Some(Poison::RowCount));
    assert_eq!(of(&|s| s.s2 = 1e308), Some(Poison::RowCount));
    assert_eq!(of(&|s| s.s2 = -1.0), Some(Poison::RowCount));
    assert_eq!(of(&|s| s.sd_sum = 55.0), Some(Poison::RowCount));
}

#[test]
fn bins_are_bounded_where_no_profile_names_them() {
    for reference in [Reference::Absent, Reference::Unfit(String::new())] {
        let known = known(reference);
        let of = |bins: usize, labels: usize| {
            let (confidence, feedback) = (vec![0; bins], vec![Feedback::default(); labels]);
            let window = Window { confidence, feedback, ..samples::window(1, 10) };
            judge(&Item::Window(Box::new(window)), Some(&known), now()).err().map(|(poison, _)| poison)
        };
        assert_eq!(of(MAX_CELLS, MAX_CELLS), None);
        assert_eq!((of(MAX_CELLS + 1, 0), of(0, MAX_CELLS + 1)), (Some(Poison::RowShape), Some(Poison::RowShape)));
    }
}

#[test]
fn shapes_of_another_profile() {
    let cells = profile().features[0].kind.cells();
    assert_eq!(of(|w| w.contract = Digest::of(b"other")), Some(Poison::RowShape));
    assert_eq!(of(|w| w.features.push(numeric(cells))), Some(Poison::RowShape));
    assert_eq!(of(|w| w.features = vec![numeric(cells + 1)]), Some(Poison::RowShape));
    assert_eq!(of(|w| w.features = vec![Feature::Categorical(Categorical::default())]), Some(Poison::RowShape));
    assert_eq!(of(|w| w.outputs = vec![numeric(cells)]), Some(Poison::RowShape));
    assert_eq!(of(|w| w.confidence = vec![10]), Some(Poison::RowShape));
    assert_eq!(of(|w| w.feedback = vec![Feedback::default(); 3]), Some(Poison::RowShape));
}

#[test]
fn sketches_that_are_none_and_versions_that_nobody_published() {
    assert_eq!(of(|w| w.latency = vec![9; 40]), Some(Poison::RowSketch));
    let broken = Feature::Categorical(Categorical { unseen: vec![1, 2, 3], ..Categorical::default() });
    let unseen = Item::Window(Box::new(Window { features: vec![broken], ..samples::window(1, 1) }));
    let of = |reference| judge(&unseen, Some(&known(reference)), now()).map_err(|(poison, _)| poison);
    assert_eq!(of(Reference::Unfit(String::new())), Err(Poison::RowSketch));
    assert_eq!(of(Reference::Absent), Err(Poison::RowShape), "nothing to watch by");
    let judged = judge(&Item::Window(Box::new(window())), None, now()).map_err(|(poison, _)| poison);
    assert_eq!(judged, Err(Poison::RowVersion));
}

#[test]
fn late_labels_are_of_a_bin() {
    let of = |bin, n, reference| {
        let window = samples::window(1, 1);
        let late = Correction { model: window.model, version: window.version, window: 1, bin, n, errors: 0 };
        judge(&Item::Correction(late), Some(&known(reference)), now()).err().map(|(poison, _)| poison)
    };
    let fits = || Reference::Fits(Box::new(profile()));
    assert_eq!(of(1, 2, fits()), None);
    assert_eq!(of(2, 2, fits()), Some(Poison::RowShape));
    assert_eq!(of(0, ABSURD, fits()), Some(Poison::RowCount));
    assert_eq!(of(u32::MAX, 2, Reference::Absent), None);
}
