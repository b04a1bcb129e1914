//! What counting costs beside whylogs: the same values, in blocks that alternate, each side's own processor time.
//!
//!     TERN_PYTHON=venv/bin/python cargo bench --workspace --bench whylogs
//!
//! The environment is that of `requirements.txt`. whylogs runs with its telemetry switched off; `unshare -rn` before the command keeps
//! it from the network as well. It is given a data frame, which it reads by column in numpy and C++; Tern reads row by row, as a device
//! does. Compared are:
//!
//! - whylogs: of each column counts, types, mean and variance, a KLL sketch of k 1,024 and a HyperLogLog of 2^12 registers: its defaults;
//! - like for like: mean and variance and the same two sketches, in Rust;
//! - cells: what a device keeps (`tern_stats::numeric`): 32 cells, sums of powers and of neighbours' differences, values out of range.
//!   No quantile between the cells' edges and no number of different values can be read from them.
//!
//! Ratios are medians over rounds of one block each. Bytes are those of the first window: as whylogs writes a profile, as the sketches
//! write themselves, and of cells a whole report as it travels.
#![expect(clippy::disallowed_methods, reason = "a benchmark keeps nothing")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use datasketches::{
    hll::{HllSketch, HllType},
    kll::{KllFloat, KllSketch},
};
use rustix::time::{ClockId, clock_gettime};
use tern_protocol::{
    digest::Digest,
    report::{
        Codec, encode,
        v1::{Clock, Item, Report, Row, Stream, System, Violations, Window},
    },
};
use tern_stats::{
    profile::Spec,
    recorder::{Recorder, Value},
};

/// Rounds for each figure.
const ROUNDS: usize = 11;
/// Rows of a window.
const WINDOW: usize = 1_000;
/// Features, and rows of a block.
const SHAPES: [(usize, usize); 2] = [(10, 50_000), (100, 10_000)];

/// Values by row.
struct Table {
    features: usize,
    values: Vec<f64>,
}

impl Table {
    /// Three kinds of columns in turn: normal, lognormal, and whole numbers below 1,000, independent and by a fixed seed.
    fn new(features: usize, rows: usize) -> Self {
        let mut state = 0_u64;
        let mut uniform = || (splitmix(&mut state) >> 11) as f64 / (1_u64 << 53) as f64;
        let mut value = |at: usize| {
            let (u, v) = (uniform().max(1e-300), uniform());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            match at % features % 3 {
                0 => normal,
                1 => normal.exp(),
                _ => (v * 1_000.0).floor(),
            }
        };
        Self { features, values: (0..features * rows).map(&mut value).collect() }
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.features)
    }

    fn column(&self, at: usize) -> Vec<f64> {
        self.rows().map(|row| row[at]).collect()
    }
}

/// The next number of the generator SplitMix64 (Steele, Lea and Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Nanoseconds that this thread has run.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("time runs forward")
}

/// whylogs in a process of its own.
struct Whylogs {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Whylogs {
    fn start(table: &Table, file: &Path) -> Self {
        let bytes: Vec<u8> = table.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(file, bytes).expect("room for the table");
        let python = std::env::var("TERN_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("decay-benchmark/whylogs_side.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(file)
            .arg(table.features.to_string())
            .env("WHYLOGS_NO_ANALYTICS", "True")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python with whylogs: name it in TERN_PYTHON");
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, to, from: BufReader::new(from) }
    }

    /// What a block of windows of so many rows takes, in nanoseconds, and the bytes of the first one.
    fn run(&mut self, window: usize) -> Figures {
        writeln!(self.to, "{window}").expect("whylogs listens");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("whylogs answers");
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [nanoseconds, bytes] = numbers[..] else { panic!("whylogs said {line:?}") };
        (nanoseconds, usize::try_from(bytes).expect("bytes fit"))
    }
}

impl Drop for Whylogs {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What whylogs keeps of a column.
struct Sketches {
    n: u64,
    mean: f64,
    m2: f64,
    quantiles: KllSketch<KllFloat<f64>>,
    different: HllSketch,
}

impl Sketches {
    fn new() -> Self {
        let quantiles = KllSketch::new(1_024).expect("a k within its limits");
        let different = HllSketch::new(12, HllType::Hll4).expect("registers within their limits");
        Self { n: 0, mean: 0.0, m2: 0.0, quantiles, different }
    }

    fn update(&mut self, x: f64) {
        self.n += 1;
        let before = x - self.mean;
        self.mean += before / self.n as f64;
        self.m2 += before * (x - self.mean);
        if let Ok(x) = KllFloat::<f64>::new(x) {
            self.quantiles.update(x);
        }
        self.different.update(x.to_bits());
    }

    fn bytes(&self) -> usize {
        size_of_val(&(self.n, self.mean, self.m2)) + self.quantiles.serialize().len() + self.different.serialize().len()
    }
}

/// What a block of windows takes, in nanoseconds, and the bytes of the first window.
fn like_for_like(table: &Table, window: usize) -> Figures {
    let begun = thread_time();
    let windows: Vec<Vec<Sketches>> = table
        .values
        .chunks(window * table.features)
        .map(|rows| {
            let mut columns: Vec<Sketches> = (0..table.features).map(|_| Sketches::new()).collect();
            for row in rows.chunks(table.features) {
                columns.iter_mut().zip(row).for_each(|(column, x)| column.update(*x));
            }
            columns
        })
        .collect();
    let taken = thread_time() - begun;
    (taken, windows[0].iter().map(Sketches::bytes).sum())
}

fn cells(table: &Table, specs: &[Spec], window: usize) -> Figures {
    let mut recorder = Recorder::new(specs, &[], None);
    let begun = thread_time();
    let windows: Vec<_> = table
        .values
        .chunks(window * table.features)
        .map(|rows| {
            for row in rows.chunks(table.features) {
                row.iter().enumerate().for_each(|(at, x)| recorder.feature(at, Value::Number(Some(*x))));
                recorder.end_row(None);
            }
            recorder.take()
        })
        .collect();
    let taken = thread_time() - begun;
    (taken, report(&windows[0]).len())
}

/// A report of one window as it travels.
fn report(window: &tern_stats::window::Window) -> Vec<u8> {
    let window = Window {
        number: 7,
        model: "demo/meter".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        contract: Digest::of(b"contract"),
        boot: 3,
        start_ms: 1_780_000_000_000,
        end_ms: 1_780_003_600_000,
        clock: Clock::Trusted,
        inferences: window.rows,
        rows: window.rows,
        errors: Vec::new(),
        violations: Violations::default(),
        latency: Vec::new(),
        features: window.features.iter().cloned().map(Into::into).collect(),
        outputs: Vec::new(),
        confidence: Vec::new(),
        feedback: Vec::new(),
        system: System::default(),
    };
    let rows = vec![Row { sequence: 7, item: Item::Window(Box::new(window)) }];
    encode(&Report { stream: Stream([1; 16]), rows }, Codec::Zstd).expect("a report")
}

/// Nanoseconds of a block, and bytes of its first window.
type Figures = (u64, usize);

/// Prints one side's medians, and its ratios to whylogs, the first of each round.
fn line(what: &str, rows: usize, rounds: &[[Figures; 3]], side: usize) {
    let over = |each: &dyn Fn(&[Figures; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(each).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let speed = over(&|round| rows as f64 / round[side].0 as f64 * 1e9);
    let faster = over(&|round| round[0].0 as f64 / round[side].0 as f64);
    let (theirs, bytes) = (rounds[0][0].1, rounds[0][side].1);
    let smaller = theirs as f64 / bytes as f64;
    println!("  {what:14}{speed:>10.0} rows/s {faster:>6.1} x {bytes:>9} bytes {smaller:>6.1} x");
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    for (features, rows) in SHAPES {
        let table = Table::new(features, rows);
        let spec = |at: usize| Spec::numeric(&format!("x{at}"), &table.column(at)).expect("finite values");
        let specs: Vec<Spec> = (0..features).map(spec).collect();
        let mut whylogs = Whylogs::start(&table, &folder.path().join("table.f64"));
        for window in [rows, WINDOW] {
            let round = |_| [whylogs.run(window), like_for_like(&table, window), cells(&table, &specs, window)];
            let rounds: Vec<_> = (0..ROUNDS).map(round).collect();
            println!("{features} features, {rows} rows in windows of {window}");
            line("whylogs", rows, &rounds, 0);
            line("like for like", rows, &rounds, 1);
            line("cells", rows, &rounds, 2);
        }
    }
}
