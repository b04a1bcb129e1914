//! One target in a process of its own: a panic in any thread ends it, memory beyond the bound ends it, and what it was
//! at when it ended stands in a file.

use std::{fs, os::unix::fs::FileExt, path::Path, process};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    corpus::Corpus,
    target::{Kind, Verdict},
};

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Inputs offered.
    pub(crate) executions: u64,
    /// Those that were accepted.
    pub(crate) accepted: u64,
    /// Memory that was taken beyond what was there at the start, in KiB.
    pub(crate) peak_kib: u64,
}

impl Figures {
    /// As one line.
    pub(crate) fn line(self) -> String {
        format!("fuzzed {} {} {}", self.executions, self.accepted, self.peak_kib)
    }

    /// From such a line among others.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words = text.lines().find_map(|line| line.strip_prefix("fuzzed "))?;
        let mut numbers = words.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { executions: next()?, accepted: next()?, peak_kib: next()? })
    }
}

/// Offers the inputs from number `from` to below `to`, and writes the number of each into `mark` before it is offered.
pub(crate) fn run(kind: Kind, seed: u64, (from, to): (u64, u64), mark: &Path) {
    end_at_any_panic();
    let corpus = Corpus::read(kind, seed);
    let mark = fs::File::create(mark).expect("a file for the mark");
    let mut target = (kind.make)();
    bound_memory(kind.memory_mib);
    let before = status("VmRSS");
    let mut figures = Figures::default();
    for number in from..to {
        mark.write_all_at(&(number + 1).to_le_bytes(), 0).expect("the mark can be written");
        let verdict = target.offer(&corpus.input(number));
        let expected = corpus.expected(number).unwrap_or(verdict);
        assert_eq!(verdict, expected, "{} of the corpus, before anything was broken", corpus.name(number));
        figures.executions += 1;
        figures.accepted += u64::from(verdict == Verdict::Accepted);
    }
    figures.peak_kib = status("VmHWM").saturating_sub(before);
    assert!(figures.peak_kib <= kind.memory_mib << 10, "{} KiB were taken at the peak", figures.peak_kib);
    println!("{}", figures.line());
}

fn end_at_any_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::exit(101);
    }));
}

fn bound_memory(mib: u64) {
    let most = (status("VmSize") << 10) + (mib << 20);
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).expect("a limit of memory");
}

/// A figure of this process, in KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure of that name");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}
