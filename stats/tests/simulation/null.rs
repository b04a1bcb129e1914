//! Nothing is wrong: how often is something said.

use crate::world::{Device, Source, Watch, profile};

/// Alarm windows and windows over `seeds` devices, each with its own baseline of `baseline` windows and `live` windows.
fn alarms(phi: f64, seeds: u64, baseline: usize, rows: usize, live: usize) -> (usize, usize) {
    let mut alarms = 0;
    for seed in 0..seeds {
        let mut source = Source::new(seed, phi);
        let (profile, specs) = profile(&mut source, baseline, rows);
        let (mut device, mut watch) = (Device::new(&specs), Watch::new(&profile, 1));
        for window in 0..live {
            let said = watch.observe(&device.window((0..rows).map(|_| source.row())));
            if let Some(feature) = said.iter().position(|said| said.is_alarm()) {
                alarms += 1;
                println!(
                    "  seed {seed} window {window} feature {feature}: {:?} {:?}",
                    said[feature].step.alarm, said[feature].hard
                );
            }
        }
    }
    let windows = seeds as usize * live;
    println!("phi {phi}, B {baseline}, W {rows}: {alarms} alarm windows in {windows}");
    (alarms, windows)
}

#[test]
fn independent_rows_are_quiet() {
    let (alarms, windows) = alarms(0.0, 40, 50, 200, 100);
    assert!(alarms as f64 <= 0.003 * windows as f64);
}

#[test]
fn dependent_rows_are_quiet() {
    let (alarms, windows) = alarms(0.9, 40, 50, 200, 100);
    assert!(alarms as f64 <= 0.003 * windows as f64);
}

#[test]
fn a_longer_baseline_and_small_windows_are_quiet() {
    let (alarms, windows) = alarms(0.5, 25, 150, 24, 400);
    assert!(alarms as f64 <= 0.003 * windows as f64);
}

#[test]
fn the_same_seed_gives_the_same_evidence() {
    let run = || {
        let mut source = Source::new(7, 0.5);
        let (profile, specs) = profile(&mut source, 60, 50);
        let (mut device, mut watch) = (Device::new(&specs), Watch::new(&profile, 1));
        let mut evidence = Vec::new();
        for _ in 0..20 {
            let said = watch.observe(&device.window((0..50).map(|_| source.row())));
            evidence.extend(said.iter().map(|said| said.step.evidence.to_bits()));
        }
        evidence
    };
    assert_eq!(run(), run());
}
