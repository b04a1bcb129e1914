//! Sums that no honest device sends: nothing panics, and no state is poisoned for the windows after.

use tern_stats::{
    categorical::Categorical,
    numeric::Numeric,
    window::{Sums, Window},
};

use crate::{
    rng::Rng,
    world::{Device, Source, Watch, profile},
};

fn count(rng: &mut Rng) -> u64 {
    let counts = [0, 1, 7, 200, u64::MAX / 2, u64::MAX];
    counts[(rng.uniform() * counts.len() as f64) as usize]
}

fn sum(rng: &mut Rng) -> f64 {
    let sums = [0.0, -0.0, 1.5, -1e3, 1e300, -f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY];
    sums[(rng.uniform() * sums.len() as f64) as usize]
}

fn wild(rng: &mut Rng, like: &Sums) -> Sums {
    match like {
        Sums::Numeric(like) => Sums::Numeric(Numeric {
            cells: like.cells.iter().map(|_| count(rng)).collect(),
            n: count(rng),
            missing: count(rng),
            nan: count(rng),
            out: count(rng),
            s1: sum(rng),
            s2: sum(rng),
            sd_sum: sum(rng),
            nd: count(rng),
            flat: count(rng),
        }),
        Sums::Categorical(like) => Sums::Categorical(Categorical {
            counts: like.counts.iter().map(|_| count(rng)).collect(),
            other: count(rng),
            missing: count(rng),
            ..Categorical::default()
        }),
    }
}

#[test]
fn wild_sums_neither_panic_nor_poison() {
    let mut source = Source::new(1, 0.0);
    let (profile, specs) = profile(&mut source, 50, 50);
    let mut device = Device::new(&specs);
    let honest = device.window((0..50).map(|_| source.row()));
    let mut rng = Rng::new(2);
    let mut watch = Watch::new(&profile, 1);
    for _ in 0..20_000 {
        let features: Vec<Sums> = honest.features.iter().map(|like| wild(&mut rng, like)).collect();
        let mut window = Window { rows: count(&mut rng), features, ..Window::default() };
        for said in watch.observe(&window) {
            assert!(said.step.evidence.is_finite());
            assert!(said.readings.iter().flatten().all(|reading| reading.value.is_finite()));
        }
        assert!(watch.is_sound());
        window.merge(&Window { outputs: Vec::new(), ..window.clone() }).unwrap();
    }
    let later = (0..30).map(|_| watch.observe(&device.window((0..50).map(|_| source.row()))));
    let quiet = later.skip(3).filter(|said| said.iter().all(|said| !said.is_alarm())).count();
    assert!(quiet >= 24, "{quiet} quiet windows of 27 after the flood");
}
