//! The quickstart's reference profiles are what `tern model profile` makes of the baselines that `train.py` describes: a
//! profile that drifted from its generator fails here.
//!
//! The baselines are drawn anew from the committed reference part, so this also holds Rust's draws and fouling against
//! Python's, 20,000 rows each, by digest.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tern_examples::{
    cameras::{Digit, read_digits},
    draws, fouling,
    processes::{Program, Programs},
};
use tern_protocol::digest::Digest;
use tern_stats::profile::{Profile, ScoreProfile};

fn assets() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"))
}

fn json(file: &Path) -> Value {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The baseline of that name as a CSV file's text.
fn baseline(name: &str, expected: &Value) -> String {
    let number = |key: &str| expected["baselines"][key].as_u64().expect("a number");
    let mut reference = read_digits(&assets().join("data/reference.csv")).expect("the reference part");
    if name == "fouled" {
        let smudged = |(number, digit): (u64, &Digit)| fouling::fouled(digit, smudge_seed(expected), number);
        reference = (0..).zip(&reference).map(smudged).collect();
    }
    let places: Vec<_> = (0..8).flat_map(|row| (0..8).map(move |column| format!("p{row}{column}"))).collect();
    let mut text = format!("label,{}\n", places.join(","));
    for row in 0..number("rows") {
        let digit = &reference[draws::place(number("resampled_seed"), row, reference.len())];
        write!(text, "{}", digit.label).expect("text grows");
        digit.pixels.iter().for_each(|pixel| write!(text, ",{pixel}").expect("text grows"));
        text.push('\n');
    }
    text
}

fn smudge_seed(expected: &Value) -> u64 {
    expected["baselines"]["smudge_seed"].as_u64().expect("a number")
}

/// The version's folder, copied without its profile to below `scratch`.
fn copy(version: &str, scratch: &Path) -> PathBuf {
    let (from, to) = (assets().join("models/meter-digits").join(version), scratch.join(version));
    std::fs::create_dir_all(&to).expect("a scratch folder");
    for name in ["tern.toml", "model.onnx", "card.md"] {
        std::fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
    to
}

async fn profile(folder: &Path, data: &Path) -> Vec<u8> {
    let mut command = Programs::new(env!("CARGO_BIN_EXE_tern-under-test")).command(Program::Tern);
    command.args(["model", "profile"]).arg(folder).arg("--data").arg(data).args(["--label", "label", "--rows", "200"]);
    let output = command.output().await.expect("tern runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.join("reference.json")).expect("the profile that was told of")
}

/// The same JSON but for the rounding of numbers: engines choose their `exp` by CPU.
fn near(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| near(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-5 * a.abs().max(1.0)
        }
        (a, b) => a == b,
    }
}

/// A profile whose packed scores are written out, so that rounding can be told from drift.
fn spread(profile: &Value) -> Value {
    let read = serde_json::from_value::<Profile>(profile.clone()).expect("a profile");
    read.check().expect("a sound profile");
    let number = |x: f64| Value::from(x);
    let score = |s: &ScoreProfile| {
        let numbers = [s.rows, s.phi, s.sigma, s.tau].into_iter().chain(s.beta.iter().copied());
        let tails = s.tails.start.iter().chain(&s.tails.ongoing).flatten().copied();
        Value::Array(numbers.chain(tails).map(number).collect())
    };
    let mut spread = profile.clone();
    for (side, features) in [("features", &read.features), ("outputs", &read.outputs)] {
        for (at, feature) in features.iter().enumerate() {
            spread[side][at]["scores"] = Value::Array(feature.scores.iter().map(score).collect());
        }
    }
    spread["estimate"] = read.estimate.as_ref().map_or(Value::Null, score);
    spread
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "scratch files, gone when the test ends")]
async fn committed_profiles_are_what_their_baselines_give() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let expected = json(&assets().join("data/expected.json"));
    for (name, versions) in [("clean", ["1.0.0", "1.3.0"]), ("fouled", ["1.1.0", "1.2.0"])] {
        let text = baseline(name, &expected);
        assert_eq!(Digest::of(text.as_bytes()).to_string(), expected["baselines"][name]["sha256"], "{name}");
        let data = scratch.path().join(format!("{name}.csv"));
        std::fs::write(&data, text).expect("a scratch file");
        for version in versions {
            let folder = copy(version, scratch.path());
            let made = profile(&folder, &data).await;
            let committed = assets().join("models/meter-digits").join(version).join("reference.json");
            let fresh = serde_json::from_slice(&made).expect("JSON");
            assert!(
                near(&spread(&json(&committed)), &spread(&fresh)),
                "{version}: run examples/quickstart/train.py --tern (see its README)"
            );
            if version == "1.0.0" {
                assert_eq!(profile(&folder, &data).await, made, "the same rows give the same bytes");
            }
        }
    }
}

#[test]
fn a_drift_beyond_rounding_is_seen() {
    let committed = json(&assets().join("models/meter-digits/1.0.0/reference.json"));
    let mut drifted: Profile = serde_json::from_value(committed.clone()).expect("a profile");
    let spread_of = |profile: &Profile| spread(&serde_json::to_value(profile).expect("JSON"));
    assert!(near(&spread(&committed), &spread_of(&drifted)));
    drifted.features[0].scores[0].sigma *= 1.001;
    assert!(!near(&spread(&committed), &spread_of(&drifted)));
}
