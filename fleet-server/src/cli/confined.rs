//! Runs strangers' models in a process of their own: this program, started again by a hidden command.
//!
//! A model is hostile input. The child gets its work and the files through a pipe, has no environment and no key in its
//! memory, and is confined as a device confines its probe, by the same code: no files, no sockets, no programs, and bounds
//! on memory, processor time and time. What it says is its own word, read up to a bound; it may end anywhere in it.
//! What the work is, [`Work`] lists; nothing else can be asked of the child.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tern_engine::sandbox::{self, Confinement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{cases, check, draft, inspect};
use crate::wording::size;

/// Two versions may be tried, one after the other, where a probe has one; the second one's file lies beside the first.
pub(super) const VERSIONS: u64 = 2;
/// Most processor time of a child, in seconds, where nothing else is asked for.
pub(super) const CPU_SECONDS: u64 = sandbox::TRIAL_CPU_SECONDS * VERSIONS;
/// Most time on the wall, likewise.
pub(super) const WALL: Duration = sandbox::TRIAL_WALL.saturating_mul(VERSIONS as u32);
/// Most address space of a child: a probe's and the longest file.
const MEMORY_BYTES: u64 = sandbox::TRIAL_MEMORY_BYTES + (256 << 20);
/// Stdio and some air.
const DESCRIPTORS: u64 = 16;
/// Most that is read of what a child says, in bytes: the answers of a bundle's golden vectors in base64, and some air.
const MAX_SAID: u64 = 96 << 20;
/// What to do about a model that takes too long.
const TOO_SLOW: &str =
    "make the model smaller, and compute ahead what is constant in it: devices give a version no more time";
/// The hidden command that the child runs.
const COMMAND: &str = "run-confined";

/// How this program starts itself again: one file may be several programs, told apart by words before the command.
#[derive(Debug, Clone)]
pub(super) struct Itself {
    executable: PathBuf,
    prefix: Vec<OsString>,
}

impl Itself {
    /// This process, whose own arguments are the last `own` of its command line.
    pub(super) fn of_process(own: usize) -> Option<Self> {
        let all: Vec<_> = std::env::args_os().collect();
        let prefix = all.len().checked_sub(own)?;
        Some(Self { executable: std::env::current_exe().ok()?, prefix: all.get(1..prefix)?.to_vec() })
    }

    /// Another program in its place.
    #[cfg(test)]
    pub(super) fn other(executable: &str, prefix: &[&str]) -> Self {
        Self { executable: executable.into(), prefix: prefix.iter().map(OsString::from).collect() }
    }
}

/// What a child is to do, without the files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Say what a file says about itself.
    Facts,
    /// Check a version that somebody proposes.
    Version(check::Header),
    /// Run a model's test cases.
    Cases(cases::Header),
    /// Run a model and measure it.
    Trial(draft::Header),
}

impl Work {
    fn carry_out(self, files: Vec<Vec<u8>>, inside: Inside, to: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Facts => inspect::carry_out(&files, to),
            Self::Version(header) => check::carry_out(header, files, inside, to),
            Self::Cases(header) => cases::carry_out(header, files, inside, to),
            Self::Trial(header) => draft::carry_out(header, files, inside, to),
        }
    }
}

/// What a child knows of itself.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// What the kernel lacks of the sandbox.
    pub lacking: Vec<String>,
    /// Its memory.
    pub memory: Memory,
}

/// This process's memory as the kernel tells it, through a file that was opened before the sandbox closed.
#[derive(Debug, Default)]
pub(super) struct Memory(Option<File>);

impl Memory {
    fn open() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    /// 0 where the kernel does not say.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.line("VmRSS:")
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        self.line("VmHWM:")
    }

    fn line(&self, name: &str) -> u64 {
        let mut bytes = [0; 8192];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]);
        let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        kilobytes.map_or(0, |kilobytes: u64| kilobytes.saturating_mul(1024))
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    work: Work,
    files: Vec<usize>,
}

/// Work for a child and what it needs to be done.
pub(super) struct Order {
    pub work: Work,
    pub files: Vec<Vec<u8>>,
    /// Most processor time, in seconds.
    pub cpu_seconds: u64,
    /// Most time on the wall.
    pub wall: Duration,
}

/// What a child said until it ended, and how it ended.
pub(super) struct Said {
    pub bytes: Vec<u8>,
    pub end: anyhow::Result<()>,
}

/// Has a child do the work; only where there is none to be had, and only in tests, this process does.
pub(super) async fn run(order: &Order, itself: Option<&Itself>) -> Said {
    let Some(itself) = itself else { return unconfined(order) };
    let mut bytes = Vec::new();
    let end = match tokio::time::timeout(order.wall, in_child(order, itself, &mut bytes)).await {
        Ok(end) => end,
        Err(_) => Err(anyhow::anyhow!("it took longer than {} s: {TOO_SLOW}", order.wall.as_secs())),
    };
    Said { bytes, end }
}

#[cfg(test)]
fn unconfined(order: &Order) -> Said {
    let mut bytes = Vec::new();
    let work = serde_json::to_vec(&order.work).and_then(|work| serde_json::from_slice::<Work>(&work));
    let end = work.map_err(anyhow::Error::from);
    let end = end.and_then(|work| work.carry_out(order.files.clone(), Inside::default(), &mut bytes));
    Said { bytes, end }
}

#[cfg(not(test))]
fn unconfined(_: &Order) -> Said {
    let why = "this program cannot find its own file to start itself again, so the model was not run";
    Said { bytes: Vec::new(), end: Err(anyhow::anyhow!(why)) }
}

async fn in_child(order: &Order, itself: &Itself, said: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut child = tokio::process::Command::new(&itself.executable)
        .args(&itself.prefix)
        .args([COMMAND, "--cpu-seconds", &order.cpu_seconds.to_string()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start the process that runs the model")?;
    let mut input = child.stdin.take().context("its input")?;
    let output = child.stdout.take().context("its output")?;
    // One that dies early leaves the rest unread: its end says more than the broken pipe.
    let send = async {
        let sent = send(order, &mut input).await;
        drop(input);
        sent
    };
    let mut output = output.take(MAX_SAID);
    let (_, read) = tokio::join!(send, output.read_to_end(said));
    read.context("read what it says")?;
    ensure!((said.len() as u64) < MAX_SAID, "it said more than the {} that are read of it", size(MAX_SAID));
    let status = child.wait().await.context("wait for its end")?;
    ensure!(
        status.success(),
        "the process that ran the model ended with {status}{}",
        likely_cause(status.signal(), order)
    );
    Ok(())
}

/// Why a process that is confined most likely got a signal, with what to do about it.
fn likely_cause(signal: Option<i32>, order: &Order) -> String {
    match signal.and_then(Signal::from_named_raw) {
        Some(Signal::ABORT) => {
            format!(": most likely it asked for more than the {} that it may have", size(MEMORY_BYTES))
        }
        Some(Signal::XCPU) => {
            format!(": it took more than the {} s of processor time that it may have: {TOO_SLOW}", order.cpu_seconds)
        }
        Some(Signal::SYS) => ": it asked the kernel for something that it may not have".into(),
        _ => String::new(),
    }
}

async fn send(order: &Order, to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        work: &'a Work,
        files: Vec<usize>,
    }
    let envelope = Borrowed { work: &order.work, files: order.files.iter().map(Vec::len).collect() };
    let envelope = serde_json::to_vec(&envelope)?;
    to.write_all(&(envelope.len() as u64).to_be_bytes()).await?;
    to.write_all(&envelope).await?;
    for bytes in &order.files {
        to.write_all(bytes).await?;
    }
    to.flush().await
}

/// The child: confines itself, reads its work from standard input and tells of it on standard output. It must have no
/// other thread yet.
pub(super) fn child(cpu_seconds: u64) -> u8 {
    let memory = Memory::open();
    let lacking = sandbox::enter(&Confinement {
        descriptors: DESCRIPTORS,
        memory_bytes: Some(MEMORY_BYTES),
        cpu_seconds: Some(cpu_seconds),
    });
    let told = receive(&mut io::stdin().lock())
        .and_then(|(work, files)| work.carry_out(files, Inside { lacking, memory }, &mut io::stdout().lock()));
    u8::from(told.is_err())
}

fn receive(from: &mut impl Read) -> anyhow::Result<(Work, Vec<Vec<u8>>)> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut take = |length: usize| -> io::Result<Vec<u8>> {
        // Of the size that it has: growing would double it under the limit on memory.
        let mut bytes = Vec::with_capacity(length);
        from.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    let envelope: Envelope = serde_json::from_slice(&take(usize::try_from(u64::from_be_bytes(length))?)?)?;
    let files = envelope.files.into_iter().map(take).collect::<io::Result<_>>()?;
    Ok((envelope.work, files))
}

/// Writes one line of JSON.
pub(super) fn say<T: Serialize>(form: &T, to: &mut dyn Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(form)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(wall: Duration) -> Order {
        let header = cases::Header { absolute: 0.0, relative: 0.0, constants: false, cases: vec![] };
        Order { work: Work::Cases(header), files: vec![vec![1, 2], vec![], vec![3]], cpu_seconds: 1, wall }
    }

    #[test]
    fn the_longest_model_fits_into_the_memory_of_a_probe_and_its_file() {
        assert_eq!(MEMORY_BYTES, sandbox::TRIAL_MEMORY_BYTES + tern_engine::Limits::default().file_bytes);
    }

    #[test]
    fn the_kernel_tells_this_process_its_memory() {
        let memory = Memory::open();
        assert!(memory.resident_bytes() > 0 && memory.peak_bytes() > 0);
        assert_eq!(Memory::default().peak_bytes(), 0);
    }

    #[tokio::test]
    async fn what_goes_through_the_pipe_comes_out_the_same() {
        let mut sent = Vec::new();
        send(&order(WALL), &mut sent).await.unwrap();
        let (work, files) = receive(&mut sent.as_slice()).unwrap();
        assert!(matches!(work, Work::Cases(_)));
        assert_eq!(files, order(WALL).files);
        assert!(receive(&mut &sent[..sent.len() - 1]).is_err(), "cut short");
    }

    #[tokio::test]
    async fn one_that_dies_or_hangs_is_told_with_what_it_said_before() {
        let end = |said: &Said| format!("{:#}", said.end.as_ref().unwrap_err());
        let dies = run(&order(WALL), Some(&Itself::other("/bin/sh", &["-c", "echo begun; kill -9 $$"]))).await;
        assert_eq!(dies.bytes, b"begun\n");
        assert!(end(&dies).contains("signal: 9"), "{}", end(&dies));
        let aborts = run(&order(WALL), Some(&Itself::other("/bin/sh", &["-c", "kill -ABRT $$"]))).await;
        assert!(end(&aborts).contains("asked for more than the 1.3 GB"), "{}", end(&aborts));
        let hangs = Itself::other("/bin/sh", &["-c", "exec sleep 600"]);
        let hangs = run(&order(Duration::from_millis(100)), Some(&hangs)).await;
        assert!(end(&hangs).starts_with("it took longer than"), "{}", end(&hangs));
        let endless = run(&order(WALL), Some(&Itself::other("/bin/sh", &["-c", "exec cat /dev/zero"]))).await;
        assert!(end(&endless).starts_with("it said more than the"), "{}", end(&endless));
        let none = run(&order(WALL), Some(&Itself::other("/nonexistent", &[]))).await;
        assert!(end(&none).starts_with("start the process"), "{}", end(&none));
    }
}
