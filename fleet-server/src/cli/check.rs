//! Runs a version that somebody else published, before its list is signed: the model loads, is what its contract says, and
//! agrees with its golden vectors.
//!
//! The model is hostile input. It is run by a child process that gets the files through a pipe, has no environment and no
//! key in its memory, and is confined as a device confines its probe, by the same code: no files, no sockets, no programs,
//! and bounds on memory, processor time and time. A death is a failed check; what the kernel lacks is told. Only tests run
//! a model in their own process, under the engine's bounds and guards.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tern_engine::{
    Limits, Model, TensorSpec,
    golden::{self, Case, Tolerance},
    sandbox::{self, Confinement},
};
use tern_protocol::{
    contract::{Contract, TensorContract},
    manifest, reference,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Two versions are tried, one after the other, where a probe has one; the second one's file lies beside the first.
const VERSIONS: u64 = 2;
/// Stdio and some air.
const DESCRIPTORS: u64 = 16;
/// Longest report that is read, in bytes.
const MAX_REPORT: u64 = 256 << 10;
/// The hidden command that the child runs.
pub(super) const COMMAND: &str = "check-version";

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
}

/// What is checked, without the files themselves.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    contract: Contract,
    tolerance: manifest::Tolerance,
    model: usize,
    reference: Option<usize>,
    golden: Vec<(String, usize)>,
    before: Option<usize>,
}

/// A version's files.
#[derive(Debug)]
pub(super) struct Subject {
    pub contract: Contract,
    pub tolerance: manifest::Tolerance,
    pub model: Vec<u8>,
    pub reference: Option<Vec<u8>>,
    /// Names and bytes.
    pub golden: Vec<(String, Vec<u8>)>,
    /// The model of the version before.
    pub before: Option<Vec<u8>>,
}

/// What came of the checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Checks that passed.
    pub passed: Vec<String>,
    /// Checks that failed.
    pub failed: Vec<String>,
    /// How answers of this version and of the one before differ.
    pub compared: Vec<String>,
    /// What the kernel lacks of the sandbox that the model ran in.
    #[serde(default)]
    pub lacking: Vec<String>,
}

/// Checks a version, in a process of its own where that can be had.
pub(super) async fn run(subject: Subject, itself: Option<&Itself>) -> Report {
    let Some(itself) = itself else { return unconfined(subject) };
    in_child(&subject, itself).await.unwrap_or_else(|error| {
        let words = format!("the process that ran the model gave no report: {error:#}");
        Report { failed: vec![words], ..Report::default() }
    })
}

#[cfg(test)]
fn unconfined(subject: Subject) -> Report {
    examine(subject)
}

#[cfg(not(test))]
fn unconfined(_: Subject) -> Report {
    let words = "it was not run: this program cannot find its own file to start itself again".to_owned();
    Report { failed: vec![words], ..Report::default() }
}

async fn in_child(subject: &Subject, itself: &Itself) -> anyhow::Result<Report> {
    let mut child = tokio::process::Command::new(&itself.executable)
        .args(&itself.prefix)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start it")?;
    let mut input = child.stdin.take().context("its input")?;
    let output = child.stdout.take().context("its output")?;
    let talk = async {
        let mut report = Vec::new();
        // One that dies early leaves the rest unread: its end says more than the broken pipe.
        let send = async {
            let sent = send(subject, &mut input).await;
            drop(input);
            sent
        };
        let mut output = output.take(MAX_REPORT);
        let (_, read) = tokio::join!(send, output.read_to_end(&mut report));
        read.context("read its report")?;
        let status = child.wait().await.context("wait for its end")?;
        ensure!(status.success(), "it ended with {status}");
        serde_json::from_slice(&report).context("its report is malformed")
    };
    let time = sandbox::TRIAL_WALL.saturating_mul(VERSIONS as u32);
    tokio::time::timeout(time, talk).await.context("it took too long")?
}

async fn send(subject: &Subject, to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
    let header = Header {
        contract: subject.contract.clone(),
        tolerance: subject.tolerance,
        model: subject.model.len(),
        reference: subject.reference.as_ref().map(Vec::len),
        golden: subject.golden.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
        before: subject.before.as_ref().map(Vec::len),
    };
    let header = serde_json::to_vec(&header)?;
    to.write_all(&(header.len() as u64).to_be_bytes()).await?;
    to.write_all(&header).await?;
    to.write_all(&subject.model).await?;
    to.write_all(subject.reference.as_deref().unwrap_or_default()).await?;
    for (_, bytes) in &subject.golden {
        to.write_all(bytes).await?;
    }
    to.write_all(subject.before.as_deref().unwrap_or_default()).await?;
    to.flush().await
}

/// The child: confines itself, reads a version from standard input and reports to standard output. It must have no other
/// thread yet.
pub(super) fn child() -> u8 {
    let lacking = sandbox::enter(&Confinement {
        descriptors: DESCRIPTORS,
        memory_bytes: Some(sandbox::TRIAL_MEMORY_BYTES + Limits::default().file_bytes),
        cpu_seconds: Some(sandbox::TRIAL_CPU_SECONDS * VERSIONS),
    });
    let report = receive(&mut io::stdin().lock()).map(|subject| Report { lacking, ..examine(subject) });
    let written = report.and_then(|report| Ok(io::stdout().write_all(&serde_json::to_vec(&report)?)?));
    u8::from(written.is_err())
}

fn receive(from: &mut impl Read) -> anyhow::Result<Subject> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut take = |length: usize| -> io::Result<Vec<u8>> {
        // Of the size that it has: growing would double it under the limit on memory.
        let mut bytes = Vec::with_capacity(length);
        from.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    let header: Header = serde_json::from_slice(&take(usize::try_from(u64::from_be_bytes(length))?)?)?;
    let model = take(header.model)?;
    let reference = header.reference.map(&mut take).transpose()?;
    let golden = header.golden.into_iter().map(|(name, length)| Ok((name, take(length)?)));
    let golden = golden.collect::<io::Result<_>>()?;
    let before = header.before.map(&mut take).transpose()?;
    let (contract, tolerance) = (header.contract, header.tolerance);
    Ok(Subject { contract, tolerance, model, reference, golden, before })
}

/// Every check, one after the other, as far as they go.
fn examine(subject: Subject) -> Report {
    let mut report = Report::default();
    let limits = Limits::default();
    let loaded = Model::load(&subject.model, &limits);
    drop(subject.model);
    let model = match loaded {
        Ok(model) => model,
        Err(error) => {
            report.failed.push(format!("the model does not load: {:#}", anyhow::Error::new(error)));
            return report;
        }
    };
    report.passed.push("the model loads".into());
    match fits(&subject.contract, &model) {
        Ok(()) => report.passed.push("the model is what its contract says".into()),
        Err(words) => report.failed.push(words),
    }
    if let Some(bytes) = &subject.reference {
        match reference::read(bytes, &subject.contract) {
            Ok(_) => report.passed.push("the reference profile fits the contract".into()),
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    let cases = match golden::from_pairs(subject.golden.iter().map(|(name, bytes)| (name, bytes))) {
        Ok(cases) => cases,
        Err(error) => {
            report.failed.push(format!("golden vectors: {:#}", anyhow::Error::new(error)));
            return report;
        }
    };
    let tolerance = Tolerance::new(subject.tolerance.absolute, subject.tolerance.relative).unwrap_or(Tolerance::EXACT);
    match golden::check(&model, &cases, tolerance) {
        Ok(found) => report.passed.push(format!(
            "it agrees with its {} golden vectors; largest difference {:.3e}",
            found.cases, found.agreement.absolute
        )),
        Err(error) => report.failed.push(format!("golden vectors: {:#}", anyhow::Error::new(error))),
    }
    drop(model);
    if let Some(before) = &subject.before {
        report.compared = compared(before, &cases, tolerance);
    }
    report
}

/// How the version before answers what this one's golden vectors ask.
fn compared(before: &[u8], cases: &[Case], tolerance: Tolerance) -> Vec<String> {
    let before = match Model::load(before, &Limits::default()) {
        Ok(before) => before,
        Err(error) => return vec![format!("the version before does not load: {:#}", anyhow::Error::new(error))],
    };
    let (mut same, mut apart, mut unfit, mut largest) = (0usize, 0usize, 0usize, 0f64);
    let mut example = None;
    for case in cases {
        let Ok(got) = before.run(&case.inputs) else {
            unfit += 1;
            continue;
        };
        match golden::compare(&case.outputs, &got, tolerance) {
            Ok(agreement) => {
                same += 1;
                largest = largest.max(agreement.absolute);
            }
            Err(mismatch) => {
                apart += 1;
                example.get_or_insert_with(|| format!("{}: {mismatch}", case.name));
            }
        }
    }
    let mut lines = vec![format!(
        "the version before answers {same} of {} new golden vectors alike (largest difference {largest:.3e}), {apart} \
         otherwise, {unfit} not at all",
        cases.len()
    )];
    lines.extend(example.map(|example| format!("such as {example}")));
    lines
}

fn fits(contract: &Contract, model: &Model) -> Result<(), String> {
    side("input", &contract.inputs, model.inputs())?;
    side("output", &contract.outputs, model.outputs())
}

fn side(side: &str, contract: &[TensorContract], model: &[TensorSpec]) -> Result<(), String> {
    let ours = contract.iter().map(|tensor| (tensor.name.as_str(), tensor.datatype.name(), tensor.shape.len()));
    let theirs = model.iter().map(|spec| (spec.name.as_str(), spec.dtype.name(), spec.dims.len()));
    if ours.clone().eq(theirs.clone()) {
        return Ok(());
    }
    let text = |tensors: Vec<(&str, &str, usize)>| {
        let told: Vec<_> = tensors.iter().map(|(name, dtype, axes)| format!("{name} {dtype} of {axes} axes")).collect();
        told.join(", ")
    };
    Err(format!("{side}s: the contract says {}, the model has {}", text(ours.collect()), text(theirs.collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(version: &str) -> Subject {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples/quickstart/models/meter-digits")
            .join(version);
        let bundle = crate::bundle::read(&folder).unwrap();
        let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
        let manifest = bundle.manifest;
        let golden = manifest.files.iter().filter(|file| file.role == manifest::FileRole::Golden);
        Subject {
            golden: golden.map(|file| (file.path.clone(), read(&file.path))).collect(),
            model: read(&manifest.model_file().path),
            reference: manifest.reference_file().map(|file| read(&file.path)),
            contract: manifest.contract,
            tolerance: manifest.golden_tolerance,
            before: None,
        }
    }

    #[test]
    fn a_good_version_passes_and_is_compared_with_the_one_before() {
        let mut subject = subject("1.0.1");
        subject.before = Some(self::subject("1.0.0").model);
        let report = examine(subject);
        assert_eq!(report.failed, Vec::<String>::new());
        assert!(report.passed.iter().any(|line| line.contains("golden vectors")), "{report:?}");
        assert!(report.compared[0].starts_with("the version before answers "), "{report:?}");
    }

    #[test]
    fn each_fault_is_found() {
        let failed = |edit: &dyn Fn(&mut Subject)| {
            let mut subject = subject("1.0.0");
            edit(&mut subject);
            examine(subject).failed.join("; ")
        };
        assert!(failed(&|s| s.model.truncate(100)).contains("does not load"));
        assert!(failed(&|s| s.contract.inputs[0].name = "other".into()).contains("inputs: the contract says other"));
        assert!(failed(&|s| s.golden.clear()).contains("no golden vectors"));
        assert!(failed(&|s| s.reference = Some(b"{}".to_vec())).contains("reference"));
        let swapped = failed(&|s| {
            let output = s.golden.iter().position(|(name, _)| name == "test_data_set_0/output_0.pb").unwrap();
            let other = s.golden.iter().position(|(name, _)| name == "test_data_set_1/output_0.pb").unwrap();
            s.golden[output].1 = s.golden[other].1.clone();
        });
        assert!(swapped.contains("disagrees with test_data_set_0"), "{swapped}");
        let mut broken = subject("1.0.0");
        broken.before = Some(b"no model".to_vec());
        let report = examine(broken);
        assert!(report.failed.is_empty() && report.compared[0].contains("does not load"), "{report:?}");
    }

    #[tokio::test]
    async fn what_goes_through_the_pipe_comes_out_the_same_and_a_death_fails_the_check() {
        let subject = subject("1.0.0");
        let mut sent = Vec::new();
        send(&subject, &mut sent).await.unwrap();
        let received = receive(&mut sent.as_slice()).unwrap();
        assert_eq!((&received.model, &received.golden), (&subject.model, &subject.golden));
        assert_eq!((&received.reference, &received.before), (&subject.reference, &subject.before));
        assert!(receive(&mut &sent[..sent.len() - 1]).is_err(), "cut short");
        let dies = Itself { executable: "/bin/false".into(), prefix: vec![] };
        let report = run(subject, Some(&dies)).await;
        assert!(report.passed.is_empty() && report.failed[0].contains("gave no report"), "{report:?}");
    }
}
