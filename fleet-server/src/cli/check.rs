//! Checks a version that somebody else published, before its list is signed: the model loads, is what its contract says,
//! and agrees with its golden vectors.
//!
//! The model is hostile input and is run in a process of its own, see [`confined`]. A death is a failed check; what the
//! kernel lacks is told. Only tests run a model in their own process, under the engine's bounds and guards.

use std::io::Write;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tern_engine::{
    Limits, Model, TensorSpec,
    golden::{self, Case, Tolerance},
};
use tern_protocol::{
    contract::{Contract, TensorContract},
    manifest, reference,
};

use super::confined::{self, Inside, Itself, Order, Said, Work};

/// What is checked, without the files themselves: the model, the reference profile if there is one, the golden vectors,
/// and the model of the version before if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    contract: Contract,
    tolerance: manifest::Tolerance,
    reference: bool,
    golden: Vec<String>,
    before: bool,
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

/// Checks a version, in a process of its own.
pub(super) async fn run(subject: Subject, itself: Option<&Itself>) -> Report {
    let Said { bytes, end } = confined::run(&order(subject), itself).await;
    let report = end.and_then(|()| serde_json::from_slice(&bytes).context("its report is malformed"));
    report.unwrap_or_else(|error| {
        let words = format!("the process that ran the model gave no report: {error:#}");
        Report { failed: vec![words], ..Report::default() }
    })
}

fn order(subject: Subject) -> Order {
    let Subject { contract, tolerance, model, reference, golden, before } = subject;
    let (names, golden): (Vec<_>, Vec<_>) = golden.into_iter().unzip();
    let header =
        Header { contract, tolerance, reference: reference.is_some(), golden: names, before: before.is_some() };
    let files = [model].into_iter().chain(reference).chain(golden).chain(before).collect();
    Order { work: Work::Version(header), files, cpu_seconds: confined::CPU_SECONDS, wall: confined::WALL }
}

/// The child's part.
pub(super) fn carry_out(header: Header, files: Vec<Vec<u8>>, inside: Inside, to: &mut dyn Write) -> anyhow::Result<()> {
    let report = Report { lacking: inside.lacking, ..examine(subject(header, files)?) };
    Ok(confined::say(&report, to)?)
}

fn subject(header: Header, files: Vec<Vec<u8>>) -> anyhow::Result<Subject> {
    let Header { contract, tolerance, reference, golden, before } = header;
    let mut files = files.into_iter();
    let mut next = || files.next().context("a file is missing");
    Ok(Subject {
        contract,
        tolerance,
        model: next()?,
        reference: reference.then(&mut next).transpose()?,
        golden: golden.into_iter().map(|name| Ok((name, next()?))).collect::<anyhow::Result<_>>()?,
        before: before.then(&mut next).transpose()?,
    })
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
    async fn files_find_their_places_again_and_a_death_fails_the_check() {
        let sent = subject("1.0.0");
        let Order { work: Work::Version(header), files, .. } = order(subject("1.0.0")) else { unreachable!() };
        let received = super::subject(header, files).unwrap();
        assert_eq!((&received.model, &received.golden), (&sent.model, &sent.golden));
        assert_eq!((&received.reference, &received.before), (&sent.reference, &sent.before));
        let Order { work: Work::Version(header), mut files, .. } = order(subject("1.0.0")) else { unreachable!() };
        files.pop();
        assert!(super::subject(header, files).is_err(), "a file is missing");
        let dies = Itself::other("/bin/false", &[]);
        let report = run(sent, Some(&dies)).await;
        assert!(report.passed.is_empty() && report.failed[0].contains("gave no report"), "{report:?}");
    }
}
