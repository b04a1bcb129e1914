//! The engine beside pip's onnxruntime: processor time of one thread, in blocks that alternate, for every model below the folders that
//! `TERN_ZOO` names, at one row and at 64; where not every input has rows, at those of a case.
//!
//!     TERN_ZOO=zoo TERN_PYTHON=venv/bin/python cargo bench --workspace --bench onnxruntime
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
use tern_engine::{Limits, Model, Tensor, TensorSpec, tensor_from_pb};

/// Pairs of blocks for each figure.
const PAIRS: usize = 21;
/// Pairs where a call takes longer than [`LONG`].
const FEW_PAIRS: usize = 5;
/// How long a block takes at the least, in nanoseconds.
const BLOCK: u64 = 3_000_000;
/// A call that is worth few repetitions, in nanoseconds.
const LONG: u64 = 50_000_000;

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

/// `rows` rows of a tensor, from the beginning again where it has fewer.
fn rows_of(tensor: &Tensor, rows: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let own = shape.first().copied().unwrap_or(1).max(1);
    let width = tensor.data().len() / own;
    shape[0] = rows;
    macro_rules! cycled {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(tern_engine::Data::$variant(values) => values.iter().cycle().take(rows * width).cloned().collect::<Vec<_>>().into()),*
            }
        };
    }
    let data: tern_engine::Data = cycled!(Bool, U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, Bytes);
    Tensor::new(shape, data).expect("whole rows")
}

fn calls(model: &Model, feed: &[Tensor], calls: u64) -> u64 {
    let begun = thread_time();
    for _ in 0..calls {
        std::hint::black_box(model.run(std::hint::black_box(feed)).expect("an answer"));
    }
    thread_time() - begun
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
fn compare(other: &mut Other, folder: &Path, rows: Option<usize>) -> Option<String> {
    let model = Model::load(&fs::read(folder.join("model.onnx")).ok()?, &Limits::default()).ok()?;
    let files = inputs(folder);
    let feed = files.iter().map(|file| tensor_from_pb(&fs::read(file).ok()?).ok()).collect::<Option<Vec<_>>>()?;
    let feed: Vec<Tensor> = match rows {
        Some(rows) => feed.iter().map(|tensor| rows_of(tensor, rows)).collect(),
        None => feed,
    };
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let model_file = folder.join("model.onnx");
    other.ask(&format!("model\t{}\t{}\t{}", rows.unwrap_or(0), model_file.display(), files.join("\t")))?;
    // Plans are made, both sides are warm, and as many calls as make a block are counted.
    calls(&model, &feed, 1);
    let warm = if calls(&model, &feed, 1) > LONG { 1 } else { 20 };
    let (ours, theirs) = (calls(&model, &feed, warm) / warm, other.run(warm)? / warm);
    let (mine, yours) = (BLOCK / ours.max(1) + 1, BLOCK / theirs.max(1) + 1);
    let count = if ours.max(theirs) > LONG { FEW_PAIRS } else { PAIRS };
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let theirs = other.run(yours)? as f64 / yours as f64;
        pairs.push((calls(&model, &feed, mine) as f64 / mine as f64, theirs));
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
            let line = compare(&mut other, folder, rows);
            println!("{}", line.unwrap_or_else(|| format!("{}: no figure", folder.display())));
        }
    }
}
