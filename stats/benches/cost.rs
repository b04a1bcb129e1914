//! What counting and detection cost: nanoseconds a value on the device, a feature-window on the server and a merge; bytes of a
//! state and of a profile; and one round of windows of 100,000 states.
//!
//!     cargo bench --workspace --bench cost
//!
//! Each time is the processor time of one thread: the least of 25 blocks, then their median; other work on the machine only adds to
//! it. The bytes are exact.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};
use tern_stats::{
    calendar::{Calendar, DAY},
    numeric::{Accumulator, Numeric, Ruler},
    profile::{Baseline, Kind, Profile, Spec, Times, Unit, fit},
    recorder::{Recorder, Value},
    scores::Reader,
    step::State,
    window::{Sums, Window},
};

const BLOCKS: usize = 25;
const HOURS: usize = 24;
const DAYS: usize = 730;
const STATES: usize = 100_000;

/// Nanoseconds of processor time.
#[derive(Clone, Copy)]
struct Cost {
    least: f64,
    median: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.least < 100.0 { 1 } else { 0 };
        write!(f, "{:.digits$} ns (median {:.digits$})", self.least, self.median)
    }
}

/// Nanoseconds that this thread has run.
fn thread_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What one of `count` costs.
fn time(count: usize, mut block: impl FnMut()) -> Cost {
    let mut times: Vec<f64> = (0..BLOCKS)
        .map(|_| {
            let begun = thread_time();
            block();
            (thread_time() - begun) as f64 / count as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    Cost { least: times[0], median: times[BLOCKS / 2] }
}

/// Values that follow a day and a year and are otherwise spread by multiples of the golden ratio.
fn value(hour: usize) -> f64 {
    let turn = std::f64::consts::TAU * hour as f64;
    let noise = (hour as f64 * 0.618_033_988_749_895).fract() + ((hour / HOURS) as f64 * 0.754_877_666_246_693).fract();
    (turn / 24.0).sin() + 3.0 * (turn / 8_766.0).sin() + noise
}

fn profile() -> (Profile, Vec<Window>) {
    let values: Vec<f64> = (0..DAYS * HOURS).map(value).collect();
    let specs = [Spec::numeric("x", &values).expect("finite values")];
    let mut recorder = Recorder::new(&specs, &[], None);
    let windows: Vec<Window> = values
        .chunks(HOURS)
        .map(|day| {
            for x in day {
                recorder.feature(0, Value::Number(Some(*x)));
                recorder.end_row(None);
            }
            recorder.take()
        })
        .collect();
    let middles: Vec<f64> = (0..DAYS).map(|day| (day as f64 + 0.5) * DAY).collect();
    let times = Times { unit: Unit::Day, utc_offset: 0, step: Some(3_600.0), longest_step: None, middles: &middles };
    let baseline = Baseline { times: Some(times), ..Baseline::new(&specs, &windows) };
    (fit(&baseline).expect("a profile"), windows)
}

fn counting(ruler: &Ruler) {
    let values: Vec<Option<f64>> = (0..100_000).map(|i| Some(value(i * 7_919 % 17_520))).collect();
    let mut sums = Accumulator::new(ruler.clone());
    let each = time(values.len(), || values.iter().for_each(|x| sums.update(black_box(*x))));
    println!("device: {each} a value, {} cells", ruler.edges.cells());
    let full = sums.take();
    let mut all = Numeric::empty(full.cells.len());
    let merge = time(10_000, || (0..10_000).for_each(|_| all.merge(black_box(&full)).expect("one shape")));
    println!("merge: {merge} a feature");
}

fn detection(profile: &Profile, windows: &[Window]) {
    let feature = &profile.features[0];
    let (reader, calendar) = (Reader::new(feature), profile.calendar.unwrap_or(Calendar::plain(0)));
    let rows: Vec<_> = (0..DAYS).map(|day| calendar.row((day as f64 + 0.5) * DAY)).collect();
    let mut readings = Vec::new();
    let mut step = |state: &mut State, day: usize| {
        let sums: &Sums = &windows[day].features[0];
        reader.read(sums, &mut readings).expect("one shape");
        let outcome = state.observe(&feature.scores, &readings, rows[day].as_slice(), 1e12).expect("one shape");
        black_box(outcome.evidence);
    };
    let mut state = feature.detector();
    let each = time(DAYS, || (0..DAYS).for_each(|day| step(&mut state, day)));
    let written = serde_json::to_vec(&state).expect("JSON").len();
    println!(
        "server: {each} a feature-window of {} scores; a state written down is {written} bytes",
        feature.scores.len()
    );
    let before = resident();
    let mut states = vec![feature.detector(); STATES];
    let mut day = 0;
    let round = time(1, || {
        states.iter_mut().for_each(|state| step(state, day));
        day += 1;
    });
    let memory = resident().saturating_sub(before);
    println!("{STATES} feature states: {:.1} MB, {:.0} ms a round of windows", memory as f64 / 1e6, round.least / 1e6);
}

/// Bytes of memory that this process holds, where the system tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

fn main() {
    let (profile, windows) = profile();
    let feature = &profile.features[0];
    let Kind::Numeric(ruler) = &feature.kind else { unreachable!("the feature is a number") };
    counting(ruler);
    detection(&profile, &windows);
    let bytes = serde_json::to_vec(feature).expect("JSON").len();
    println!("profile: {bytes} bytes a feature with season and week of {} columns", feature.scores[0].beta.len());
}
