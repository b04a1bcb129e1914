//! Starts each target in a process, watches that it gets on, and says of what ended badly which input did it.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use tern_agent::clock::Moment;

use crate::{
    child::Figures,
    corpus::{self, Corpus},
    target::Kind,
};

/// Processor time that one input may take, in ticks of a hundredth of a second.
const MOST_TICKS: u64 = 1000;
/// Time that one input may take where nobody computes.
const MOST_WAITING: Duration = Duration::from_secs(60);
/// Processes at once.
const AT_ONCE: usize = 2;

/// Which inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// Where random numbers begin.
    pub(crate) seed: u64,
    /// Whether this is the long run.
    pub(crate) is_full: bool,
    /// The only input to offer.
    pub(crate) only: Option<u64>,
}

/// What became of a target.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    /// Its figures, or what to tell of the input that ended it.
    pub(crate) result: Result<Figures, String>,
}

/// Runs every target and returns what became of each, in order.
pub(crate) fn run(kinds: &[Kind], order: Order) -> Vec<Outcome> {
    let waiting = Mutex::new(kinds.iter().copied().enumerate().collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((place, kind)) = waiting.lock().expect("no thread panicked").pop_front() else { return };
                    let begun = Moment::now();
                    let result = one(kind, order);
                    let outcome = Outcome { name: kind.name, took: begun.elapsed(), result };
                    println!("{}", line(&outcome));
                    done.lock().expect("no thread panicked").push((place, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panicked");
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "{:<22} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "target", "executions", "accepted", "refused", "peak KiB", "seconds"
    )
}

fn line(outcome: &Outcome) -> String {
    let Ok(Figures { executions, accepted, peak_kib }) = outcome.result else {
        return format!("{:<22} FAILED", outcome.name);
    };
    let (refused, seconds) = (executions - accepted, outcome.took.as_secs_f64());
    format!("{:<22} {executions:>10} {accepted:>10} {refused:>10} {peak_kib:>10} {seconds:>8.1}", outcome.name)
}

fn one(kind: Kind, order: Order) -> Result<Figures, String> {
    let scratch = tempfile::tempdir().map_err(|e| format!("no scratch folder: {e}"))?;
    let corpus = Corpus::read(kind, order.seed);
    let inputs = order.only.map_or((0, corpus.kept() + kind.pace.inputs(order.is_full)), |only| (only, only + 1));
    let mark = scratch.path().join("mark");
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    let file = |path: &Path| fs::File::create(path).map_err(|e| format!("{}: {e}", path.display()));
    let child = Command::new(std::env::current_exe().map_err(|e| e.to_string())?)
        .env("TERN_FUZZ_CHILD", format!("{} {} {} {}", kind.name, order.seed, inputs.0, inputs.1))
        .env("TERN_FUZZ_MARK", &mark)
        // What a thread's arena only reserves would count as taken.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(file(&out)?)
        .stderr(file(&err)?)
        .spawn()
        .map_err(|e| e.to_string())?;
    let ended = watch(child, &mark);
    let (out, err) = (fs::read(&out).unwrap_or_default(), fs::read(&err).unwrap_or_default());
    let figures = Figures::parse(&String::from_utf8_lossy(&out));
    match (ended, figures) {
        (Ended::By(status), Some(figures)) if status.success() => Ok(figures),
        (ended, _) => Err(tell(&corpus, order.seed, marked(&mark), &ended, &String::from_utf8_lossy(&err))),
    }
}

#[derive(Debug)]
enum Ended {
    By(ExitStatus),
    Hung,
    Lost,
}

/// Waits for the end of `child`, or for an input that takes too long.
fn watch(mut child: Child, mark: &Path) -> Ended {
    let path = PathBuf::from(format!("/proc/{}/stat", child.id()));
    let (mut number, mut since, mut ticks) = (marked(mark), Moment::now(), 0);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ended::By(status),
            Ok(None) => {}
            Err(_) => return Ended::Lost,
        }
        let (now, used) = (marked(mark), used_ticks(&path));
        if now != number {
            (number, since, ticks) = (now, Moment::now(), used);
        } else if used.saturating_sub(ticks) > MOST_TICKS || since.elapsed() > MOST_WAITING {
            // Fails only where it has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Ended::Hung;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the input that is being offered; none before the first.
fn marked(mark: &Path) -> Option<u64> {
    let bytes = fs::read(mark).ok()?;
    u64::from_le_bytes(bytes.try_into().ok()?).checked_sub(1)
}

/// Processor time that the process has used.
fn used_ticks(stat: &Path) -> u64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let behind_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // Fields 14 and 15, of which the first behind the name is the third.
    behind_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn tell(corpus: &Corpus, seed: u64, number: Option<u64>, ended: &Ended, words: &str) -> String {
    let Some(number) = number else { return format!("it ended before its first input: {ended:?}\n{words}") };
    let input = corpus.input(number);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = folder.join(format!("fuzz-{}-{seed}-{number}", corpus.target()));
    corpus::put(&kept, &input);
    let hex: String = input.iter().take(2000).map(|byte| format!("{byte:02x}")).collect();
    let cut = if input.len() > 2000 { " (the first 2000 bytes)" } else { "" };
    format!(
        "{} ended it: {ended:?}\n{words}\nagain: TERN_FUZZ_SEED={seed} TERN_FUZZ_ONLY={number} cargo test --release -p \
         system-tests --test fuzzing -- {}\nits {} bytes lie in {}; once repaired, keep them in \
         tests/fuzz/regressions/{}/\nhex{cut}: {hex}",
        corpus.name(number),
        corpus.target(),
        input.len(),
        kept.display(),
        corpus.target(),
    )
}
