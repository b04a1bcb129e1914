//! The engine beside pip's onnxruntime: processor time of one thread, in blocks that alternate, for every model below the folders that
//! `TERN_ZOO` names, at one row and at 64; where not every input has rows, at those of a case.
//!
//!     TERN_ZOO=zoo TERN_PYTHON=venv/bin/python cargo bench --workspace --bench onnxruntime
//!
//! Each call gets other rows, as on a device: over the same few again and again, a processor foretells each turn of a tree that is
//! walked by jumps. Their values are drawn column by column from those of the case.
//!
//! onnxruntime is called from Python with bound inputs and outputs; what a call costs there is in its figure and shows in the row of
//! the smallest model. The ratio is the median over the pairs of blocks: below 1 the engine is faster.

use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use tern_engine::{Limits, Model, Tensor, TensorSpec, tensor_from_pb, tensor_to_pb};

/// Pairs of blocks for each figure.
const PAIRS: usize = 21;
/// Pairs where a call takes longer than [`LONG`].
const FEW_PAIRS: usize = 5;
/// How long a block takes at the least, in nanoseconds.
const BLOCK: u64 = 3_000_000;
/// A call that is worth few repetitions, in nanoseconds.
const LONG: u64 = 50_000_000;
/// Calls before their rows are the first ones again, fewer where these are large. With more of them what Python holds for each no
/// longer stays near.
const CALLS: usize = 64;
/// Values of an input over all of those calls, at the most.
const VALUES: usize = 4_000_000;

/// Nanoseconds that this thread has run.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("time runs forward")
}

struct Other {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Other {
    fn start() -> Self {
        let python = std::env::var("TERN_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/other_side.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python with onnx and onnxruntime: name it in TERN_PYTHON");
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, to, from: BufReader::new(from) }
    }

    fn ask(&mut self, question: &str) -> Option<u64> {
        writeln!(self.to, "{question}").ok()?;
        let mut line = String::new();
        self.from.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }

    fn run(&mut self, calls: u64) -> Option<u64> {
        self.ask(&format!("calls\t{calls}"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    if folder.join("model.onnx").is_file() {
        return found.push(folder.to_path_buf());
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().for_each(|folder| models(folder, found));
}

/// The input files of the second case, which has more rows; of the first where there is one.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let of = |set: usize| -> Vec<PathBuf> {
        let file = |at: usize| folder.join(format!("test_data_set_{set}/input_{at}.pb"));
        (0..).map(file).take_while(|file| file.is_file()).collect()
    };
    Some(of(1)).filter(|files| !files.is_empty()).unwrap_or_else(|| of(0))
}

/// `rows` rows, each value that of its column in some row of the tensor.
fn drawn(tensor: &Tensor, rows: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let own = shape.first().copied().unwrap_or(1).max(1);
    let width = tensor.data().len() / own;
    shape[0] = rows;
    // A linear congruential generator with the constants of Knuth's MMIX: the same draws in every run.
    let mut state = 1u64;
    let mut row = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % own
    };
    macro_rules! drawn {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(tern_engine::Data::$variant(values) => {
                    (0..rows * width).map(|at| values[row() * width + at % width].clone()).collect::<Vec<_>>().into()
                })*
            }
        };
    }
    let data: tern_engine::Data = drawn!(Bool, U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, Bytes);
    Tensor::new(shape, data).expect("whole rows")
}

/// A tensor's rows in parts of `rows`.
fn parts(tensor: &Tensor, rows: usize) -> Vec<Tensor> {
    let mut shape = tensor.shape().to_vec();
    let size = tensor.data().len() / shape[0] * rows;
    shape[0] = rows;
    macro_rules! parts {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(tern_engine::Data::$variant(values) => values
                    .chunks(size)
                    .map(|part| Tensor::new(shape.clone(), tern_engine::Data::from(part.to_vec())).expect("whole rows"))
                    .collect(),)*
            }
        };
    }
    parts!(Bool, U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, Bytes)
}

/// What the calls are given, one after the other, and then the first again.
struct Feeds {
    feeds: Vec<Vec<Tensor>>,
    next: usize,
}

impl Feeds {
    fn next(&mut self) -> &[Tensor] {
        self.next = (self.next + 1) % self.feeds.len();
        &self.feeds[self.next]
    }
}

fn calls(model: &Model, feeds: &mut Feeds, calls: u64) -> u64 {
    let begun = thread_time();
    for _ in 0..calls {
        std::hint::black_box(model.run(std::hint::black_box(feeds.next())).expect("an answer"));
    }
    thread_time() - begun
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
#[expect(clippy::disallowed_methods, reason = "scratch files")]
fn compare(other: &mut Other, folder: &Path, rows: Option<usize>, scratch: &Path) -> Option<String> {
    let model = Model::load(&fs::read(folder.join("model.onnx")).ok()?, &Limits::default()).ok()?;
    let mut files = inputs(folder);
    let feed = files.iter().map(|file| tensor_from_pb(&fs::read(file).ok()?).ok()).collect::<Option<Vec<_>>>()?;
    let mut feeds = vec![feed];
    if let Some(rows) = rows {
        let widest = feeds[0].iter().map(|tensor| tensor.data().len() / tensor.shape()[0].max(1)).max()?;
        let count = CALLS.min(VALUES / (widest * rows).max(1)).max(1);
        let long: Vec<Tensor> = feeds[0].iter().map(|tensor| drawn(tensor, count * rows)).collect();
        for (at, tensor) in long.iter().enumerate() {
            files[at] = scratch.join(format!("input_{at}.pb"));
            fs::write(&files[at], tensor_to_pb(tensor, "")).ok()?;
        }
        let parts: Vec<Vec<Tensor>> = long.iter().map(|tensor| parts(tensor, rows)).collect();
        feeds = (0..count).map(|at| parts.iter().map(|parts| parts[at].clone()).collect()).collect();
    }
    // So many rows of large inputs may be more than the limits take.
    model.run(feeds.first()?).ok()?;
    let mut feeds = Feeds { feeds, next: 0 };
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let model_file = folder.join("model.onnx");
    other.ask(&format!("model\t{}\t{}\t{}", rows.unwrap_or(0), model_file.display(), files.join("\t")))?;
    // Plans are made, both sides are warm, and as many calls as make a block are counted.
    calls(&model, &mut feeds, 1);
    let warm = if calls(&model, &mut feeds, 1) > LONG { 1 } else { 20 };
    let (ours, theirs) = (calls(&model, &mut feeds, warm) / warm, other.run(warm)? / warm);
    let (mine, yours) = (BLOCK / ours.max(1) + 1, BLOCK / theirs.max(1) + 1);
    let count = if ours.max(theirs) > LONG { FEW_PAIRS } else { PAIRS };
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let theirs = other.run(yours)? as f64 / yours as f64;
        pairs.push((calls(&model, &mut feeds, mine) as f64 / mine as f64, theirs));
    }
    let ratio = median(pairs.iter().map(|(ours, theirs)| ours / theirs).collect());
    let ours = median(pairs.iter().map(|(ours, _)| *ours).collect()) / 1000.0;
    let theirs = median(pairs.iter().map(|(_, theirs)| *theirs).collect()) / 1000.0;
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let rows = rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
    Some(format!("{name:<40} {rows:>5} {theirs:>12.1} {ours:>12.1} {ratio:>8.2}"))
}

fn main() {
    let mut folders = Vec::new();
    let zoos = std::env::var("TERN_ZOO").unwrap_or_default();
    zoos.split(':').filter(|zoo| !zoo.is_empty()).for_each(|zoo| models(Path::new(zoo), &mut folders));
    if folders.is_empty() {
        return println!("name folders of models in TERN_ZOO; tests/zoo/make.py makes one");
    }
    let mut other = Other::start();
    let scratch = tempfile::tempdir().expect("a folder of its own");
    println!("{:<40} {:>5} {:>12} {:>12} {:>8}", "model", "rows", "onnxruntime", "engine, us", "ratio");
    for folder in &folders {
        let fixed = Model::load(&fs::read(folder.join("model.onnx")).expect("a model"), &Limits::default());
        let choices = match &fixed {
            // Where some input has no rows, the sizes of the case belong together.
            Ok(model) if model.inputs().iter().all(TensorSpec::is_batched) => vec![Some(1), Some(64)],
            Ok(_) => vec![None],
            Err(error) => {
                println!("{}: {error}", folder.display());
                continue;
            }
        };
        for rows in choices {
            let line = compare(&mut other, folder, rows, scratch.path());
            println!("{}", line.unwrap_or_else(|| format!("{}: no figure", folder.display())));
        }
    }
}
