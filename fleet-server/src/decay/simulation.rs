//! Tests only: seeded fleets whose rows go through the whole detector, and what it says of them.
//!
//! Figures are printed (`--nocapture`); what is asserted leaves room for other seeds.

use std::sync::Arc;

use tern_protocol::report::v1::{Correction, Item};
use tern_stats::{
    cells::Edges,
    profile::{Bin, Confidence},
    window::Window,
};

use super::{
    detector::{Committed, Standard, Subject, Touched},
    keeping::{self, Policy},
};
use crate::forms::incident::{Cause, IncidentKind, Layer, Resolution, Severity};

pub(crate) mod fleet;
mod labels;
mod marks;
mod outage;
use fleet::*;

#[test]
fn a_clean_fleet_of_eight_has_no_incident_in_500_rounds() {
    let seeds = if std::env::var_os("TERN_FULL").is_some() { 12 } else { 2 };
    for seed in 1..=seeds {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(500, clean);
        println!("seed {seed}: {:?}, windows {}", fleet.opened(), fleet.detector.subjects[&fleet.model].windows());
        assert_eq!(fleet.opened(), [], "seed {seed}");
        assert_eq!(fleet.detector.subjects[&fleet.model].windows(), 4000);
    }
}

#[test]
fn two_of_eight_are_named_with_their_features_and_nobody_else() {
    let mut delays = Vec::new();
    for (seed, shift) in (10..20).zip([0.7, 1.0, 1.5, 3.0, 6.0].into_iter().cycle()) {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(15, clean);
        assert_eq!(fleet.opened(), [], "seed {seed}");
        fleet.rounds(20, shifted(&[2, 5], shift));
        let opened = fleet.opened();
        let open = fleet.open();
        println!("seed {seed}, shift {shift}: {opened:?} {}", open[0].1.summary);
        assert_eq!(open.len(), 1);
        let (kind, incident) = open[0];
        assert_eq!(
            (kind, incident.cause, incident.severity),
            (IncidentKind::DeviceFault, Cause::Device, Severity::Alarm)
        );
        assert_eq!(incident.devices, names(&[2, 5]));
        let mut features = incident.features.clone();
        features.sort();
        assert_eq!(features, ["contrast", "sharpness"]);
        assert_eq!(opened.len(), 1, "opened once");
        delays.push(opened[0].0 - 15);
    }
    println!("rounds from the shift to the incident: {delays:?}");
    assert!(delays.iter().all(|delay| *delay <= 5));
}

#[test]
fn when_all_follow_the_fault_gives_way_to_a_population_change_once() {
    for (seed, shift) in (30..40).zip([0.7, 1.0, 3.0, 6.0].into_iter().cycle()) {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(10, clean);
        fleet.rounds(12, shifted(&[0, 7], shift));
        assert_eq!(fleet.open().len(), 1, "seed {seed}");
        fleet.rounds(20, |device| Harm { shift: shift * (1.0 + device as f64 / 10.0), ..Harm::default() });
        let opened = fleet.opened();
        println!("seed {seed}, shift {shift}: {opened:?}");
        let kinds: Vec<_> = opened.iter().map(|(_, kind, _)| *kind).collect();
        assert_eq!(kinds, [IncidentKind::DeviceFault, IncidentKind::PopulationChange]);
        assert_eq!(fleet.ended(IncidentKind::DeviceFault), [Resolution::Superseded]);
        assert!(opened[1].0 - 22 <= 4);
        let open = fleet.open();
        assert_eq!((open.len(), open[0].0), (1, IncidentKind::PopulationChange));
        assert!(open[0].1.features.starts_with(&["contrast".to_owned()]));
        // Lenses cleaned: the incident ends, and nobody is blamed on the way.
        fleet.rounds(30, clean);
        assert_eq!(fleet.open().len(), 0, "seed {seed}: {:?}", fleet.open());
        assert_eq!(fleet.opened().len(), 2, "seed {seed}: {:?}", fleet.opened());
        assert_eq!(fleet.ended(IncidentKind::PopulationChange), [Resolution::Quiet]);
    }
}

#[test]
fn a_change_that_comes_to_all_at_once_accuses_nobody_on_the_way() {
    for (seed, shift) in (50..60).zip([0.7, 1.0, 3.0, 9.0].into_iter().cycle()) {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(10, clean);
        // It begins in the middle of a round.
        for device in 0..4 {
            let row = fleet.report(device, Harm { shift, ..Harm::default() });
            fleet.take(row);
        }
        fleet.rounds(15, |_| Harm { shift, ..Harm::default() });
        let opened = fleet.opened();
        println!("seed {seed}, shift {shift}: {opened:?}");
        assert_eq!(opened.len(), 1, "seed {seed}");
        assert_eq!(opened[0].1, IncidentKind::PopulationChange);
        assert!(opened[0].0 - 10 <= 4);
    }
}

/// What labels say of a model that is wrong more often than its confidence and its publisher allow for.
const WRONG: [(IncidentKind, Severity); 2] =
    [(IncidentKind::ObjectiveBreached, Severity::Alarm), (IncidentKind::ModelBroken, Severity::Critical)];

/// Kinds and severities that were opened, in the order of kinds, and the round of the last.
fn wrong(fleet: &Fleet) -> (Vec<(IncidentKind, Severity)>, usize) {
    let opened = fleet.opened();
    let mut kinds: Vec<_> = opened.iter().map(|(_, kind, severity)| (*kind, *severity)).collect();
    kinds.sort();
    (kinds, opened.iter().map(|(round, _, _)| *round).max().unwrap_or(0))
}

#[test]
fn wrong_labels_say_that_the_model_is_broken_and_breaches_its_objective_and_nothing_else() {
    for seed in 70..74 {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(20, clean);
        fleet.rounds(10, |_| Harm { broken: 0.2, ..Harm::default() });
        let (kinds, last) = wrong(&fleet);
        for (kind, incident) in fleet.open() {
            println!("seed {seed}: {kind:?} {}", incident.summary);
        }
        assert_eq!(kinds, WRONG);
        assert!(last - 20 <= 3, "{:?}", fleet.opened());
        fleet.rounds(15, clean);
        assert_eq!(fleet.open().len(), 0);
        assert_eq!(fleet.ended(IncidentKind::ObjectiveBreached), [Resolution::Quiet]);
    }
}

#[test]
fn harder_inputs_that_the_confidence_knows_breach_the_objective_and_break_no_model() {
    for seed in 75..79 {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(20, clean);
        assert_eq!(fleet.opened(), []);
        fleet.rounds(20, |_| Harm { harder: 1.5, ..Harm::default() });
        let open = fleet.open();
        println!("seed {seed}: {:?} {}", fleet.opened(), open[0].1.summary);
        let kinds: Vec<_> = open.iter().map(|(kind, incident)| (*kind, incident.severity, incident.cause)).collect();
        assert_eq!(kinds, [(IncidentKind::ObjectiveBreached, Severity::Alarm, Cause::Model)]);
        let piece = &open[0].1.evidence[0];
        let (_, watch) = fleet.detector.subjects[&fleet.model].watching.as_ref().unwrap();
        let objective = fleet.detector.subjects[&fleet.model].figures().objective.unwrap();
        assert!(piece.layer == Layer::Slo && piece.device.is_none() && piece.share > piece.limit, "{piece:?}");
        assert!((piece.limit.unwrap() - objective).abs() < 1e-9 && watch.broken.is_none());
        assert!(fleet.opened()[0].0 - 20 <= 3);
    }
}

#[test]
fn a_profile_of_one_confidence_bin_or_none_is_held_to_its_objective_alone_and_one_without_an_objective_to_its_bin() {
    let (breached, broken) = (IncidentKind::ObjectiveBreached, IncidentKind::ModelBroken);
    for (objective, has_bin, kind) in
        [(Some(0.12), true, breached), (Some(0.12), false, breached), (None, true, broken)]
    {
        let mut fleet = Fleet::new(64, 8);
        let mut profile = (*fleet.profile).clone();
        let bins = &profile.confidence.as_ref().unwrap().bins;
        let all = bins.iter().fold((0, 0), |(n, errors), bin| (n + bin.n, errors + bin.errors));
        let bins = vec![Bin { n: all.0, errors: all.1 }];
        // Without a bin devices count labels in one all the same, and no rows by confidence.
        profile.confidence = has_bin.then(|| Confidence { edges: Edges::new(vec![]).unwrap(), bins });
        profile.estimate = None;
        profile.objective = objective;
        profile.check().unwrap();
        fleet.profile = Arc::new(profile);
        fleet.watch();
        fleet.rounds(20, clean);
        assert_eq!(fleet.opened(), []);
        fleet.rounds(10, |_| Harm { broken: 0.2, ..Harm::default() });
        assert_eq!(fleet.opened().iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>(), [kind]);
        let policy: Policy = Arc::new(|_, _, _| Vec::new());
        let bytes = |detector: &super::detector::Detector| {
            postcard::to_stdvec(detector.device(&fleet.model, &name(0)).unwrap()).unwrap()
        };
        assert!(bytes(&restarted(&fleet, &policy)) == bytes(&fleet.detector), "it is written down and read back");
    }
}

#[test]
fn errors_of_devices_at_fault_say_nothing_about_the_model() {
    let mut fleet = Fleet::new(80, 8);
    fleet.rounds(10, clean);
    fleet.rounds(6, shifted(&[1, 4], 3.0));
    fleet.rounds(30, |device| match device {
        1 | 4 => Harm { shift: 3.0, broken: 0.6, ..Harm::default() },
        _ => Harm::default(),
    });
    assert_eq!(fleet.opened().iter().map(|o| o.1).collect::<Vec<_>>(), [IncidentKind::DeviceFault]);
}

#[test]
fn late_labels_count_where_their_device_is_now() {
    let mut fleet = Fleet::new(90, 8);
    fleet.rounds(10, clean);
    for _ in 0..8 {
        for device in 0..8 {
            let model = fleet.model.clone();
            let late = Correction { model: model.name, version: model.version, window: 1, bin: 30, n: 30, errors: 15 };
            let row = fleet.commit(device, Item::Correction(late));
            fleet.take(row);
        }
        fleet.round(clean);
    }
    assert_eq!(wrong(&fleet).0, WRONG);
}

#[test]
fn a_stuck_sensor_and_missing_values_are_found_with_and_without_a_cohort() {
    let stuck = |device| Harm { stuck: device == 3, ..Harm::default() };
    let missing = |device| Harm { missing: if device == 3 { 0.3 } else { 0.0 }, ..Harm::default() };
    for seed in 100..103 {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(10, clean);
        fleet.rounds(6, stuck);
        let open = fleet.open();
        assert_eq!((open.len(), open[0].0, &open[0].1.devices), (1, IncidentKind::DeviceFault, &names(&[3])));
        assert_eq!(open[0].1.features, ["mean"]);
        let mut few = Fleet::new(seed, 4);
        few.rounds(10, clean);
        few.rounds(6, missing);
        let open = few.open();
        assert_eq!((open.len(), open[0].0, &open[0].1.devices), (1, IncidentKind::DataQuality, &names(&[3])));
        assert_eq!(open[0].1.cause, Cause::Unattributed);
        let mut alone = Fleet::new(seed, 1);
        alone.rounds(10, clean);
        alone.rounds(2, |_| Harm { stuck: true, ..Harm::default() });
        assert_eq!(alone.opened().iter().map(|o| o.1).collect::<Vec<_>>(), [IncidentKind::DataQuality]);
    }
}

#[test]
fn values_that_most_devices_lack_are_the_supplys_fault() {
    for seed in 110..113 {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(10, clean);
        fleet.rounds(8, |_| Harm { missing: 0.3, ..Harm::default() });
        let open = fleet.open();
        assert_eq!((open.len(), open[0].0, open[0].1.cause), (1, IncidentKind::DataQuality, Cause::Pipeline));
        fleet.rounds(30, clean);
        assert_eq!((fleet.open().len(), fleet.opened().len()), (0, 1), "{:?}", fleet.opened());
    }
}

#[test]
fn inferences_that_fail_are_an_incident_of_their_own() {
    let mut fleet = Fleet::new(120, 8);
    fleet.rounds(5, clean);
    fleet.rounds(5, |device| Harm { failing: if device == 6 { 0.2 } else { 0.0 }, ..Harm::default() });
    let open = fleet.open();
    assert_eq!((open.len(), open[0].0, &open[0].1.devices), (1, IncidentKind::LatencyOrErrors, &names(&[6])));
    fleet.rounds(15, clean);
    assert_eq!(fleet.ended(IncidentKind::LatencyOrErrors), [Resolution::Quiet]);
}

#[test]
fn a_new_version_is_watched_afresh_and_the_old_ones_incidents_end() {
    let mut fleet = Fleet::new(130, 8);
    fleet.rounds(10, clean);
    fleet.rounds(8, |_| Harm { shift: 2.0, ..Harm::default() });
    assert_eq!(fleet.open().len(), 1);
    let old = std::mem::replace(&mut fleet.model, version("vision/digits@1.1.0"));
    fleet.watch();
    // A canary of two first: the old version is still there.
    for _ in 0..12 {
        for device in [0, 1] {
            let row = fleet.report(device, Harm::default());
            fleet.take(row);
        }
    }
    assert_eq!(fleet.detector.subjects[&old].devices.len(), 6);
    assert_eq!(fleet.open().len(), 1);
    fleet.rounds(10, clean);
    assert_eq!(fleet.ended(IncidentKind::PopulationChange), [Resolution::VersionGone]);
    assert_eq!((fleet.open().len(), fleet.opened().len()), (0, 1));
    assert!(fleet.detector.subjects[&old].devices.is_empty());
    // A straggler of the old version opens nothing and brings nobody back.
    let new = std::mem::replace(&mut fleet.model, old.clone());
    let row = fleet.report(3, Harm::default());
    fleet.take(row);
    fleet.model = new.clone();
    fleet.rounds(2, clean);
    assert!(fleet.detector.subjects[&old].devices.is_empty());
    assert_eq!(fleet.detector.subjects[&new].devices.len(), 8);
}

#[test]
fn devices_of_different_pace_share_rounds_and_one_that_dies_holds_nobody_up() {
    let mut fleet = Fleet::new(140, 9);
    let mut turn = 0;
    let mut go = |fleet: &mut Fleet, turns: usize, shift: f64| {
        for _ in 0..turns {
            turn += 1;
            for device in 0..9 {
                // Device 0 is twice as slow as most, device 1 twice as fast; device 8 dies.
                let reports = match device {
                    0 => turn % 2,
                    1 => 2,
                    8 if turn > 60 => 0,
                    _ => 1,
                };
                for _ in 0..reports {
                    let harm = Harm { shift: if device == 4 { shift } else { 0.0 }, ..Harm::default() };
                    let row = fleet.report(device, harm);
                    fleet.take(row);
                }
            }
        }
    };
    go(&mut fleet, 400, 0.0);
    assert_eq!(fleet.opened(), []);
    let before = fleet.detector.subjects[&fleet.model].figures().rounds;
    assert!(before >= 95, "{before} rounds");
    go(&mut fleet, 40, 1.5);
    let open = fleet.open();
    assert_eq!((open.len(), open[0].0, &open[0].1.devices), (1, IncidentKind::DeviceFault, &names(&[4])));
}

#[test]
fn one_device_that_sends_what_it_kept_of_days_silences_nobody() {
    let mut fleet = Fleet::new(142, 9);
    fleet.rounds(10, clean);
    fleet.rounds(12, |_| Harm { shift: 1.5, ..Harm::default() });
    assert_eq!(fleet.open().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [IncidentKind::PopulationChange]);
    let before = fleet.detector.subjects[&fleet.model].figures().rounds;
    let now = fleet.commit(0, Item::Event(event())).received;
    for _ in 0..60 * ROWS / REPORT {
        let row = fleet.report(8, Harm::default());
        fleet.take(Committed { received: now, ..row });
    }
    let subject = &fleet.detector.subjects[&fleet.model];
    assert!(subject.figures().rounds <= before + 1, "a flood ends no rounds");
    assert_eq!(subject.watching.as_ref().unwrap().1.active().count(), 9);
    fleet.rounds(6, |_| Harm { shift: 1.5, ..Harm::default() });
    assert_eq!((fleet.opened().len(), fleet.ended(IncidentKind::PopulationChange)), (1, vec![]));
}

#[test]
fn one_device_whose_labels_are_all_errors_breaks_no_model() {
    let mut fleet = Fleet::new(143, 8);
    fleet.rounds(5, clean);
    fleet.rounds(40, |device| Harm { broken: if device == 2 { 1.0 } else { 0.0 }, ..Harm::default() });
    assert_eq!(fleet.opened(), []);
    let model = fleet.model.clone();
    for n in [1_000_000, (1 << 48) - 1] {
        let late =
            Correction { model: model.name.clone(), version: model.version.clone(), window: 7, bin: 0, n, errors: n };
        let row = fleet.commit(2, Item::Correction(late));
        fleet.take(row);
        fleet.rounds(3, clean);
    }
    assert_eq!(fleet.opened(), []);
}

#[test]
fn a_device_that_was_silent_for_a_month_is_forgotten_in_the_records_too() {
    let mut fleet = Fleet::new(144, 3);
    fleet.rounds(3, clean);
    let mut touched = Touched::default();
    for device in [0, 1, 0, 1, 0, 1, 0, 1] {
        let row = fleet.report(device, Harm::default());
        let received = row.received + 31 * 86_400_000;
        fleet.detector.take(Committed { received, ..row }, &mut touched);
    }
    let gone = (fleet.model.clone(), name(2));
    assert!(fleet.detector.device(&gone.0, &gone.1).is_none());
    assert!(touched.devices.contains(&gone), "its row is deleted");
    assert!(!fleet.detector.subjects[&gone.0].devices.contains(&gone.1));
}

#[test]
fn a_faulty_device_that_falls_silent_stays_accused_and_comes_back_to_the_same_incident() {
    let mut fleet = Fleet::new(145, 9);
    fleet.rounds(10, clean);
    fleet.rounds(6, shifted(&[3], 3.0));
    assert_eq!(fleet.open()[0].1.devices, names(&[3]));
    for _ in 0..80 {
        for device in (0..9).filter(|device| *device != 3) {
            let row = fleet.report(device, Harm::default());
            fleet.take(row);
        }
    }
    assert_eq!(fleet.open()[0].1.devices, names(&[3]));
    fleet.rounds(3, shifted(&[3], 3.0));
    assert_eq!(fleet.opened().len(), 1);
    fleet.rounds(15, clean);
    assert_eq!(fleet.ended(IncidentKind::DeviceFault), [Resolution::Quiet]);
}

#[test]
fn small_fleets_without_a_cohort_are_quiet_too_and_see_what_comes_to_all() {
    for (seed, devices) in [(181, 1), (182, 2), (183, 3), (184, 5)] {
        let mut fleet = Fleet::new(seed, devices);
        fleet.rounds(200, clean);
        assert_eq!(fleet.opened(), [], "{devices} devices");
        fleet.rounds(10, |_| Harm { shift: 1.5, ..Harm::default() });
        let opened = fleet.opened();
        println!("{devices} devices: {opened:?}");
        let expected = if devices == 1 { IncidentKind::DeviceFault } else { IncidentKind::PopulationChange };
        assert_eq!(opened.iter().map(|o| o.1).collect::<Vec<_>>(), [expected]);
        assert_eq!(opened[0].2, if devices == 1 { Severity::Notice } else { Severity::Alarm });
    }
}

#[test]
fn foreign_and_damaged_windows_are_left_out_and_counted() {
    let mut fleet = Fleet::new(150, 8);
    let odd = Window { rows: 10, features: vec![], ..Window::default() };
    let item = wire(odd, 1, &fleet.model.clone(), 0);
    let row = fleet.commit(0, item);
    fleet.take(row);
    fleet.rounds(5, clean);
    let subject = &fleet.detector.subjects[&fleet.model];
    assert_eq!((subject.figures().unfit, subject.windows()), (1, 40));
    let unwatched = Subject::new(Standard::Absent);
    assert_eq!((unwatched.status, unwatched.windows()), ("no-profile", 0));
}

#[test]
fn restarts_at_any_row_change_nothing() {
    let policy: Policy = Arc::new(|_, _, _| Vec::new());
    let play = |restart_every: i64| {
        let mut fleet = Fleet::new(160, 8);
        let phases: [(usize, Harm, &[usize]); 4] = [
            (60, Harm::default(), &[]),
            (8, Harm { shift: 2.0, ..Harm::default() }, &[2, 5]),
            (8, Harm { shift: 2.0, broken: 0.3, ..Harm::default() }, &[0, 1, 2, 3, 4, 5, 6, 7]),
            (14, Harm::default(), &[]),
        ];
        for (rounds, harm, on) in phases {
            for report in 0..rounds * 4 {
                for device in 0..8 {
                    let harm = if on.contains(&device) { harm } else { Harm::default() };
                    let row = fleet.report(device, harm);
                    fleet.take(row);
                    if restart_every > 0 && fleet.id % restart_every == 0 {
                        fleet.detector = restarted(&fleet, &policy);
                    }
                }
                fleet.rounds = report / 4;
            }
        }
        fleet.log
    };
    let (whole, cut) = (play(0), play(7));
    assert!(whole.len() > 5);
    assert_eq!(whole, cut);
}

#[test]
fn a_hundred_devices_take_far_less_than_a_second_a_round() {
    let mut fleet = Fleet::new(170, 100);
    // As large as their states grow: with windows kept that are not learned from yet.
    fleet.rounds(45, clean);
    let rows: Vec<Committed> =
        (0..4).flat_map(|_| (0..100).collect::<Vec<_>>()).map(|device| fleet.report(device, Harm::default())).collect();
    let start = crate::clock::Moment::now();
    let mut touched = Touched::default();
    rows.into_iter().for_each(|row| fleet.detector.take(row, &mut touched));
    let policy: Policy = Arc::new(|_, _, _| Vec::new());
    let step = keeping::advance(&fleet.detector, 0, touched, &policy);
    let bytes: usize = step.devices.iter().filter_map(|d| d.state.as_ref()).map(|(_, bytes)| bytes.len()).sum();
    let elapsed = start.elapsed();
    println!("100 devices x 3 features: {elapsed:?} a round, {bytes} bytes written");
    assert_eq!(step.devices.len(), 100);
    assert!(bytes < 100 * 3 * 4500, "{bytes} bytes");
    assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
}
