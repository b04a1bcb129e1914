//! The committed bundles, and one test for each way in which a folder can be wrong.
#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{fs, os::unix::fs::symlink};

use tern_protocol::{contract::Violation, manifest::Manifest};

use super::*;

fn committed(version: &str) -> PathBuf {
    let folder = "../examples/quickstart/models/meter-digits";
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(version)
}

/// A copy of the committed 1.0.0 to spoil.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    copy(&committed("1.0.0"), scratch.path());
    scratch
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn edited(from: &str, to: &str) -> Result<Bundle, BundleError> {
    let folder = scratch();
    let path = folder.path().join(DESCRIPTION);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "the test edits {from:?}, which is not there");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    read(folder.path())
}

fn message(result: Result<Bundle, BundleError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_committed_bundles_become_manifests() {
    for version in ["1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.2.0", "1.3.0"] {
        let bundle = read(&committed(version)).unwrap();
        let manifest = Manifest::from_slice(&bundle.bytes).unwrap();
        assert_eq!(manifest, bundle.manifest);
        assert_eq!(manifest.model.to_string(), format!("demo/meter-digits@{version}"));
        assert_eq!(manifest.golden_sets().unwrap().len(), 16);
        assert_eq!(manifest.model_file().path, "model.onnx");
        assert!(manifest.device_classes.is_empty() && manifest.allows(&"rpi4".parse().unwrap()));
        for file in &manifest.files {
            let blob = &bundle.blobs[&file.sha256];
            let bytes = fs::read(&blob.path).unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (file.sha256, blob.length));
        }
    }
}

#[test]
fn every_fact_of_the_description_reaches_the_manifest() {
    let manifest = read(&committed("1.0.0")).unwrap().manifest;
    let input = &manifest.contract.inputs[0];
    let range = input.range.unwrap();
    assert_eq!((range.min, range.max, range.outside, input.nan), (0.0, 16.0, Violation::Reject, Violation::Reject));
    let budget = manifest.budget(&"any".parse().unwrap()).unwrap();
    assert_eq!(budget.peak_rss_bytes.unwrap().0, 128_000_000);
    assert_eq!((budget.disk_bytes.unwrap().0, budget.p95_latency_ms), (131_072, Some(50.0)));
    assert_eq!(manifest.training.data_rows, Some(800));
    assert!(manifest.training.evaluated_on.as_ref().unwrap().contains("never trained on"));
    assert!(manifest.training.evaluated_sha256.is_some());
    assert_eq!(manifest.training.metrics["rows"], 640.0);
    assert_eq!(manifest.training.slices["digit=0"]["rows"], 63.0);
    assert_eq!(manifest.training.slices.len(), 10);
    assert_eq!(read(&committed("1.0.2")).unwrap().manifest.parent.unwrap().to_string(), "1.0.0");
}

#[test]
fn the_manifest_is_the_same_whenever_it_is_made() {
    let (copy, original) = (scratch(), read(&committed("1.0.0")).unwrap());
    assert_eq!(read(copy.path()).unwrap().bytes, original.bytes);
}

#[test]
fn an_unknown_key_is_refused_by_name_at_every_depth() {
    let cases = [
        ("format = 1", "format = 1\ncolour = 1", "colour"),
        ("[files]", "[files]\nweights = \"x\"", "weights"),
        ("nan = ", "nann = ", "nann"),
        ("p95_latency_ms", "p99_latency_ms", "p99_latency_ms"),
        ("data_rows", "data_row", "data_row"),
    ];
    for (from, to, name) in cases {
        let error = message(edited(from, to));
        assert!(error.contains(&format!("unknown field `{name}`")), "{error}");
    }
}

#[test]
fn values_that_cannot_be_meant_are_refused_with_their_key() {
    let cases = [
        ("minimum = 0.0\n", "", "both `minimum` and `maximum`"),
        ("missing = \"reject\"", "missing = \"clamp\"", "contract.inputs.pixels.missing"),
        ("device_classes = [\"*\"]", "device_classes = []", "device_classes"),
        ("device_classes = [\"*\"]", "device_classes = [\"*\", \"rpi4\"]", "\"*\" alone"),
        ("device_classes = [\"*\"]", "device_classes = [\"rpi4\", \"rpi4\"]", "twice"),
        ("[budgets.\"*\"]", "[budgets.\"R 4\"]", "budgets.R 4"),
        ("accuracy = 0.9734", "accuracy = \"good\"", "training.metrics.accuracy"),
        ("log_loss = 0.0817", "log_loss = nan", "training.metrics.log_loss"),
        ("value = \"1\"", "value = \"0\"", "digit=0 twice"),
        ("peak_rss_mb = 128", "peak_rss_mb = 9223372036854775807", "too large"),
    ];
    for (from, to, expected) in cases {
        let error = edited(from, to).unwrap_err();
        assert!(matches!(error, BundleError::Value { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(edited("shape = [-1, 8, 8]", "shape = [0, 8, 8]"), Err(BundleError::Manifest(_))));
    assert!(matches!(
        edited("absolute_tolerance = 0.0001", "absolute_tolerance = -1.0"),
        Err(BundleError::Manifest(_))
    ));
    for (from, to) in
        [("version = \"1.0.0\"", "version = \"1\""), ("FP32", "FLOAT"), ("peak_rss_mb = 128", "peak_rss_mb = -1")]
    {
        assert!(matches!(edited(from, to), Err(BundleError::Description { .. })), "{to}");
    }
}

#[test]
fn a_format_from_the_future_is_told_from_a_broken_file() {
    assert!(matches!(edited("format = 1", "format = 2"), Err(BundleError::UnknownFormat(2))));
    assert!(message(edited("format = 1", "")).contains("format = 1"));
    assert!(matches!(edited("format = 1", "format = "), Err(BundleError::Description { .. })));
}

#[test]
fn files_that_are_missing_empty_large_or_elsewhere_are_refused() {
    let spoilt = |spoil: fn(&Path)| {
        let folder = scratch();
        spoil(folder.path());
        read(folder.path()).unwrap_err()
    };
    let error = spoilt(|f| fs::remove_file(f.join("model.onnx")).unwrap());
    assert!(matches!(&error, BundleError::Missing { path, key } if path == "model.onnx" && key == "files.model"));
    assert!(matches!(spoilt(|f| fs::write(f.join("card.md"), "").unwrap()), BundleError::Empty(_)));
    let large = |f: &Path| fs::write(f.join("card.md"), vec![b'x'; (1 << 20) + 1]).unwrap();
    assert!(matches!(spoilt(large), BundleError::TooLarge { limit, .. } if limit == 1 << 20));
    let huge = |f: &Path| fs::File::create(f.join("model.onnx")).unwrap().set_len((256 << 20) + 1).unwrap();
    assert!(matches!(spoilt(huge), BundleError::TooLarge { .. }));
    let folder = |f: &Path| {
        fs::remove_file(f.join("card.md")).unwrap();
        fs::create_dir(f.join("card.md")).unwrap();
    };
    assert!(matches!(spoilt(folder), BundleError::NotAFile(_)));
    let long = |f: &Path| fs::write(f.join(DESCRIPTION), vec![b'#'; MAX_DESCRIPTION_BYTES as usize + 1]).unwrap();
    assert!(matches!(spoilt(long), BundleError::TooLarge { .. }));
    assert!(matches!(spoilt(|f| fs::remove_file(f.join(DESCRIPTION)).unwrap()), BundleError::NoDescription(_)));
    assert!(matches!(read(Path::new("/nonexistent")), Err(BundleError::NoDescription(_))));
    for path in ["../model.onnx", "/etc/passwd", "a//b", ".hidden", "a b"] {
        let result = edited("model = \"model.onnx\"", &format!("model = \"{path}\""));
        assert!(matches!(result, Err(BundleError::BadPath { .. })), "{path}");
    }
}

#[test]
fn a_reference_profile_that_does_not_fit_is_refused_before_anything_is_sent() {
    let folder = scratch();
    assert!(read(folder.path()).is_ok());
    let with = |bytes: &[u8]| {
        fs::write(folder.path().join("reference.json"), bytes).unwrap();
        read(folder.path()).unwrap_err()
    };
    let error = with(b"{}");
    let fault = matches!(&error, BundleError::Reference { fault: ReferenceError::Malformed(_), .. });
    assert!(fault && error.to_string().starts_with("reference.json: malformed"), "{error}");
    let huge = vec![b' '; reference::MAX_BYTES + 1];
    assert!(matches!(with(&huge), BundleError::TooLarge { .. }));
}

#[test]
fn a_symbolic_link_is_never_followed() {
    let linked = |name: &str| {
        let folder = scratch();
        let place = folder.path().join(name);
        let moved = folder.path().join("elsewhere");
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        read(folder.path()).unwrap_err()
    };
    for name in ["model.onnx", DESCRIPTION, "test_data_set_3", "test_data_set_3/input_0.pb"] {
        let error = linked(name);
        assert!(matches!(&error, BundleError::Symlink(path) if path == name), "{name}: {error}");
    }
}

#[test]
fn golden_vectors_must_be_whole_announced_and_enough() {
    let folder = scratch();
    fs::remove_dir_all(folder.path().join("test_data_set_15")).unwrap();
    assert!(matches!(read(folder.path()), Err(BundleError::GoldenCount { declared: 16, found: 15 })));
    let path = folder.path().join(DESCRIPTION);
    let fewer = fs::read_to_string(&path).unwrap().replace("sets = 16", "sets = 15");
    fs::write(&path, fewer).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, BundleError::TooFewGolden(15)));
    assert!(error.to_string().contains("at least 16"), "{error}");

    let folder = scratch();
    fs::remove_file(folder.path().join("test_data_set_7/output_0.pb")).unwrap();
    assert!(matches!(read(folder.path()), Err(BundleError::Manifest(ManifestError::Golden(_)))));
    let folder = scratch();
    fs::write(folder.path().join("test_data_set_7/notes.txt"), "x").unwrap();
    assert!(message(read(folder.path())).contains("notes.txt"));
}
