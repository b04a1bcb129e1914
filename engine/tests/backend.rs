//! The engine against the data of ONNX's own backend tests, one folder for each form of an operator.
//!
//! Release 1.17.0 is the last whose package on PyPI holds them; it comes into a folder below `target/`, and without it the test fails.
//! One case in twenty by default, all of them with `TERN_FULL=1`. Inputs but the first are constants where a case is not answered
//! otherwise, as exporters write shapes, axes and scales.
//!
//! `tests/backend/wrong.txt` names each case whose answer is another than the file's, and says why; nothing else may be wrong.

#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]
#![expect(clippy::unwrap_used, reason = "a broken peer should fail loudly")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tern_engine::{
    Limits, LoadError, Model, Tensor,
    golden::{self, Case, Tolerance},
};

const VERSION: &str = "1.17.0";
/// Cases in that release.
const CASES: usize = 1288;
/// Every how manieth case is run by default.
const STRIDE: usize = 20;
/// What no answer is asked for: text, floats of 8 and whole numbers of 4 bits, bfloat16, sequences and optional values, training.
const LEFT_OUT: [&str; 29] = [
    "BFLOAT16",
    "FLOAT8",
    "INT4",
    "STRING",
    "_e4m3fn",
    "_e5m2",
    "_int4",
    "_uint4",
    "adagrad",
    "adam",
    "equal_string",
    "if_opt",
    "if_seq",
    "label_encoder_string",
    "label_encoder_tensor",
    "identity_opt",
    "identity_sequence",
    "loop13_seq",
    "loop16_seq",
    "momentum",
    "optional_",
    "regex_",
    "sequence_insert",
    "sequence_map",
    "split_to_sequence",
    "string_",
    "strnormalizer",
    "training_dropout",
    "training_mode",
];
/// Fewest cases that are answered as their files say: of all, and of those that an answer is asked for.
const PASS: usize = 1112;
const ASKED: usize = 1141;
const ASKED_PASS: usize = 1095;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The folder of the cases; fetched once.
fn cases() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("onnx-{VERSION}"));
    if !folder.exists() {
        // One that was cut short is made again.
        let begun = folder.with_extension("begun");
        let _ = fs::remove_dir_all(&begun);
        run(Command::new("python3").args(["-m", "venv"]).arg(&begun));
        let wheel = [
            "--only-binary",
            ":all:",
            "--platform",
            "manylinux2014_x86_64",
            "--python-version",
            "3.11",
            "--abi",
            "cp311",
        ];
        let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
        let package = format!("onnx=={VERSION}");
        run(Command::new(begun.join("bin/python")).args(pip).args(wheel).arg("--dest").arg(&begun).arg(package));
        let file = fs::read_dir(&begun).unwrap().map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl")).unwrap();
        run(Command::new(begun.join("bin/python")).args(["-m", "zipfile", "--extract"]).arg(file).arg(&begun));
        fs::rename(&begun, &folder).unwrap();
    }
    folder.join("onnx/backend/test/data/node")
}

/// What became of a case.
enum Outcome {
    Pass,
    Wrong(String),
    Refused(String),
}

fn said(error: &dyn std::error::Error) -> Outcome {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    Outcome::Refused(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
}

fn answered(model: Result<Model, LoadError>, inputs: &[Tensor], case: &Case) -> Outcome {
    let answer = match model {
        Ok(model) => model.run(inputs),
        Err(error) => return said(&error),
    };
    match answer {
        Err(error) => said(&error),
        Ok(answer) => {
            let survey = golden::survey(&case.outputs, &answer, Tolerance::new(1e-5, 1e-3).unwrap());
            survey.first.map_or(Outcome::Pass, |first| Outcome::Wrong(first.to_string()))
        }
    }
}

fn outcome(folder: &Path) -> Outcome {
    let bytes = fs::read(folder.join("model.onnx")).unwrap();
    let (limits, cases) = (Limits::default(), golden::load_dir(folder));
    let case = match cases.as_deref() {
        Ok([case]) => case,
        Ok(other) => panic!("{} has {} cases", folder.display(), other.len()),
        Err(error) => return said(error),
    };
    let outcome = answered(Model::load(&bytes, &limits), &case.inputs, case);
    if case.inputs.len() < 2 || !matches!(outcome, Outcome::Refused(_)) {
        return outcome;
    }
    let fixed = golden::with_constants(&bytes, &case.inputs, &limits).and_then(|bytes| Model::load(&bytes, &limits));
    match answered(fixed, &case.inputs[..1], case) {
        Outcome::Refused(_) => outcome,
        fixed => fixed,
    }
}

/// The names in the list of wrong answers, with the reason that stands beside each.
fn explained() -> BTreeMap<String, String> {
    let list = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backend/wrong.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}")));
    pairs.map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect()
}

#[test]
fn the_engine_answers_onnx_own_cases() {
    let is_full = std::env::var_os("TERN_FULL").is_some();
    let mut folders: Vec<PathBuf> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), CASES, "the release has other cases");
    if !is_full {
        folders = folders.into_iter().step_by(STRIDE).collect();
    }
    let name = |folder: &PathBuf| folder.file_name().unwrap().to_string_lossy().replacen("test_", "", 1);
    let outcomes: BTreeMap<String, Outcome> = folders.iter().map(|folder| (name(folder), outcome(folder))).collect();
    let with = |is: fn(&Outcome) -> bool| -> BTreeSet<&String> {
        outcomes.iter().filter(|(_, outcome)| is(outcome)).map(|(name, _)| name).collect()
    };
    let is_asked = |name: &&String| !LEFT_OUT.iter().any(|part| name.contains(part));
    let (pass, wrong) =
        (with(|outcome| matches!(outcome, Outcome::Pass)), with(|outcome| matches!(outcome, Outcome::Wrong(_))));
    let asked = outcomes.keys().filter(is_asked).count();
    let asked_pass = pass.iter().copied().filter(is_asked).count();
    println!("{} of {} pass, {asked_pass} of the {asked} that are asked for", pass.len(), outcomes.len());
    for (name, outcome) in outcomes.iter().filter(|(name, _)| !pass.contains(name)) {
        if let Outcome::Refused(said) | Outcome::Wrong(said) = outcome {
            println!("{name}: {said}");
            assert!(!said.contains("panicked"), "{name}: {said}");
        }
    }
    let explained = explained();
    let expected: BTreeSet<&String> = explained.keys().filter(|name| outcomes.contains_key(*name)).collect();
    assert_eq!(wrong, expected, "the list of wrong answers says something else");
    if is_full {
        assert_eq!(asked, ASKED);
        assert!(pass.len() >= PASS, "{} pass, fewer than {PASS}", pass.len());
        assert!(asked_pass >= ASKED_PASS, "{asked_pass} of those that are asked for pass, fewer than {ASKED_PASS}");
    } else {
        assert!(asked_pass * 100 >= asked * 85, "{asked_pass} of {asked}");
    }
}
