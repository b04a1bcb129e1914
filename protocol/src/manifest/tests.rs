//! Every refusal of a manifest, its golden bytes, and what random edits do.

use proptest::prelude::*;

use super::*;

fn file(path: &str, role: FileRole) -> File {
    File { path: path.into(), role, sha256: Digest::of(path.as_bytes()), length: ByteCount(3) }
}

fn manifest() -> Manifest {
    let contract = serde_json::json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]
    });
    Manifest {
        format: FORMAT,
        model: "demo/m@1.0.0".parse().unwrap(),
        files: vec![
            file("model.onnx", FileRole::Model),
            file("test_data_set_0/input_0.pb", FileRole::Golden),
            file("test_data_set_0/output_0.pb", FileRole::Golden),
        ],
        contract: serde_json::from_value(contract).unwrap(),
        budgets: BTreeMap::new(),
        device_classes: vec![],
        minimum_agent: "0.1.0".parse().unwrap(),
        golden_tolerance: Tolerance { absolute: 1e-5, relative: 1e-3 },
        training: Training::default(),
        parent: None,
    }
}

fn refused(edit: impl FnOnce(&mut Manifest)) -> ManifestError {
    let mut m = manifest();
    edit(&mut m);
    m.to_bytes().unwrap_err()
}

#[test]
fn bytes_are_canonical_and_read_back() {
    let bytes = manifest().to_bytes().unwrap();
    assert_eq!(Manifest::from_slice(&bytes).unwrap(), manifest());
    assert_eq!(String::from_utf8(bytes).unwrap(), include_str!("golden-1.json").trim_end());
}

#[test]
fn a_signed_digest_and_a_signed_path_bind_the_bytes() {
    let bytes = manifest().to_bytes().unwrap();
    let (version, digest) = (manifest().model, Digest::of(&bytes));
    assert!(Manifest::from_target(&bytes, &version, &digest).is_ok());
    let other = "demo/m@1.0.1".parse().unwrap();
    let expected = ManifestError::WrongVersion { expected: "demo/m@1.0.1".parse().unwrap(), found: version.clone() };
    assert_eq!(Manifest::from_target(&bytes, &other, &digest), Err(expected));
    assert_eq!(Manifest::from_target(&bytes, &version, &Digest::of(b"")), Err(ManifestError::DigestMismatch));
    let long = vec![b' '; MAX_BYTES + 1];
    assert_eq!(Manifest::from_target(&long, &version, &digest), Err(ManifestError::TooLarge(MAX_BYTES + 1)));
}

#[test]
fn each_fault_has_its_variant() {
    for path in ["../x", "/etc/passwd", "a//b", "a/./b", ".hidden", "a\\b", "a b", ""] {
        assert_eq!(refused(|m| m.files[0].path = path.into()), ManifestError::BadPath(path.into()));
    }
    assert_eq!(refused(|m| m.files[0].role = FileRole::Card), ManifestError::ModelCount(0));
    assert_eq!(refused(|m| m.files.push(m.files[0].clone())), ManifestError::BadFileList);
    assert!(matches!(refused(|m| m.files.truncate(1)), ManifestError::Golden(_)));
    assert!(matches!(refused(|m| m.files.truncate(2)), ManifestError::Golden(_)));
    assert!(matches!(refused(|m| m.files[1].path = "test_data_set_00/input_0.pb".into()), ManifestError::Golden(_)));
    assert_eq!(refused(|m| m.golden_tolerance.relative = -1.0), ManifestError::BadNumber("golden_tolerance"));
    assert_eq!(refused(|m| m.contract.outputs.clear()), ManifestError::Contract(ContractError::Empty("outputs")));
}

#[test]
fn other_formats_unknown_members_and_loose_json_are_refused() {
    let text = String::from_utf8(manifest().to_bytes().unwrap()).unwrap();
    let newer = text.replace(r#""format":1"#, r#""format":2"#);
    assert_eq!(Manifest::from_slice(newer.as_bytes()), Err(ManifestError::UnknownFormat(2)));
    let spaced = text.replace(r#""format":1"#, r#""format": 1"#);
    assert_eq!(Manifest::from_slice(spaced.as_bytes()), Err(ManifestError::NotCanonical));
    let twice = text.replace(r#""format":1"#, r#""format":1,"format":1"#);
    assert_eq!(Manifest::from_slice(twice.as_bytes()), Err(ManifestError::NotCanonical));
    let unknown = text.replace(r#""format":1"#, r#""format":1,"formatt":1"#);
    assert!(matches!(Manifest::from_slice(unknown.as_bytes()), Err(ManifestError::Malformed(_))));
    assert!(matches!(Manifest::from_slice(b"[]"), Err(ManifestError::Malformed(_))));
}

#[test]
fn golden_sets_come_in_order() {
    let mut m = manifest();
    for path in ["test_data_set_10/input_0.pb", "test_data_set_10/output_1.pb", "test_data_set_10/output_0.pb"] {
        m.files.push(file(path, FileRole::Golden));
    }
    let sets = m.golden_sets().unwrap();
    assert_eq!(sets.iter().map(|s| s.number).collect::<Vec<_>>(), [0, 10]);
    assert_eq!(sets[1].outputs[1].path, "test_data_set_10/output_1.pb");
}

proptest! {
    #[test]
    fn arbitrary_edits_never_panic(index in 0usize..2000, byte in any::<u8>()) {
        let mut bytes = manifest().to_bytes().unwrap();
        let index = index % bytes.len();
        bytes[index] = byte;
        if let Ok(read) = Manifest::from_slice(&bytes) {
            prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        }
    }
}

#[test]
fn training_facts_survive_and_absent_ones_leave_no_trace() {
    let mut m = manifest();
    assert!(!String::from_utf8(m.to_bytes().unwrap()).unwrap().contains("data_rows"));
    m.training = Training {
        data_origin: "UCI".into(),
        data_rows: Some(800),
        evaluated_on: Some("held out".into()),
        evaluated_sha256: Some(Digest::of(b"held out")),
        ..Training::default()
    };
    assert_eq!(Manifest::from_slice(&m.to_bytes().unwrap()).unwrap(), m);
}
