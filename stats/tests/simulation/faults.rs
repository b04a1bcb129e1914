//! Something is wrong: is it found, where, and after how many windows.

use crate::world::{CATEGORY, Device, Row, Source, Watch, profile};

const ROWS: usize = 200;
const WINDOWS: usize = 30;
const SEEDS: u64 = 20;

/// Share of seeds in which the damaged feature alarms within 30 windows, and the median delay of those.
fn found(name: &str, feature: usize, phi: f64, mut damage: impl FnMut(&mut Row, &mut Source)) -> (f64, usize) {
    let mut delays = Vec::new();
    for seed in 0..SEEDS {
        let mut source = Source::new(1000 + seed, phi);
        let (profile, specs) = profile(&mut source, 50, ROWS);
        let (mut device, mut watch) = (Device::new(&specs), Watch::new(&profile, 1));
        for _ in 0..10 {
            watch.observe(&device.window((0..ROWS).map(|_| source.row())));
        }
        let delay = (1..=WINDOWS).find(|_| {
            let rows: Vec<Row> = (0..ROWS)
                .map(|_| {
                    let mut row = source.row();
                    damage(&mut row, &mut source);
                    row
                })
                .collect();
            watch.observe(&device.window(rows.into_iter()))[feature].is_alarm()
        });
        delays.extend(delay);
    }
    delays.sort_unstable();
    let share = delays.len() as f64 / SEEDS as f64;
    let median = delays.get(delays.len() / 2).copied().unwrap_or(WINDOWS);
    println!("{name}: found {share:.2}, median {median} windows, worst {:?}", delays.last());
    (share, median)
}

/// Adds to, or stretches, the normal feature (standard deviation 1).
fn number(change: impl Fn(f64) -> f64) -> impl FnMut(&mut Row, &mut Source) {
    move |row, _| row.numbers[0] = row.numbers[0].map(&change)
}

#[test]
fn a_stuck_sensor_is_found_at_once() {
    assert_eq!(found("stuck", 0, 0.0, number(|_| 0.3)), (1.0, 1));
    assert_eq!(found("stuck, AR .9", 0, 0.9, number(|_| 0.3)), (1.0, 1));
}

#[test]
fn doubled_noise_is_found_in_three_windows() {
    let (share, median) = found("noise x2", 0, 0.0, number(|x| 2.0 * x));
    assert!(share == 1.0 && median <= 3);
    let louder = |row: &mut Row, source: &mut Source| {
        let noise = 3f64.sqrt() * source.rng.normal();
        row.numbers[0] = row.numbers[0].map(|x| x + noise);
    };
    let (share, median) = found("noise x2, AR .9", 0, 0.9, louder);
    assert!(share == 1.0 && median <= 3);
}

#[test]
fn another_unit_is_found_in_three_windows() {
    let fahrenheit = number(|x| 1.8 * x + 32.0);
    let (share, median) = found("x1.8+32", 0, 0.0, fahrenheit);
    assert!(share == 1.0 && median <= 3);
}

#[test]
fn a_bias_of_one_deviation_is_found_in_four_windows() {
    for feature in 0..3 {
        let name = ["bias 1 normal", "bias 1 lognormal", "bias 1 t3"][feature];
        let sd = [1.0, 0.6, 1.7][feature];
        let (share, median) =
            found(name, feature, 0.0, |row, _| row.numbers[feature] = row.numbers[feature].map(|x| x + sd));
        assert!(share == 1.0 && median <= 4);
    }
    let (share, _) = found("bias 1, AR .9", 0, 0.9, number(|x| x + 1.0));
    assert!(share >= 0.9);
}

#[test]
fn missing_values_are_found_at_once() {
    let missing = |row: &mut Row, source: &mut Source| {
        if source.rng.uniform() < 0.2 {
            row.numbers[0] = None;
        }
    };
    assert_eq!(found("missing 20 %", 0, 0.0, missing), (1.0, 1));
    let nan = |row: &mut Row, source: &mut Source| {
        if source.rng.uniform() < 0.2 {
            row.numbers[0] = Some(f64::NAN);
        }
    };
    assert_eq!(found("NaN 20 %", 0, 0.0, nan), (1.0, 1));
}

#[test]
fn categories_that_shift_or_were_never_seen_are_found() {
    let shift = |row: &mut Row, source: &mut Source| {
        // Category d from 10 % to 20 %.
        if row.category != Some("d") && source.rng.uniform() < 1.0 / 9.0 {
            row.category = Some("d");
        }
    };
    let (share, median) = found("category +10 pp", CATEGORY, 0.0, shift);
    assert!(share >= 0.95 && median <= 8);
    let unknown = |row: &mut Row, source: &mut Source| {
        if source.rng.uniform() < 0.2 {
            row.category = Some("zebra");
        }
    };
    assert_eq!(found("unknown 20 %", CATEGORY, 0.0, unknown), (1.0, 1));
}

#[test]
fn one_and_a_half_times_the_promised_bias_is_found_in_ten_windows() {
    let mut source = Source::new(5, 0.0);
    let mde = profile(&mut source, 50, ROWS).0.features[0].mde.unwrap();
    println!("mde {mde:.2}");
    assert!((0.1..0.5).contains(&mde));
    let (share, median) = found("1.5 x mde", 0, 0.0, number(|x| x + 1.5 * mde));
    assert!(share >= 0.8 && median <= 10);
}
