//! Models with onnxruntime's answers: every case of `tests/golden/*/*` must be answered in the same way, and every case below the folders
//! that `TERN_ZOO` names, separated by colons.

use std::path::{Path, PathBuf};
use tern_engine::{
    Limits, Model,
    golden::{self, Tolerance},
};

/// The folders below `folder` that hold a model.
fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    if folder.join("model.onnx").is_file() {
        return found.push(folder.to_path_buf());
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    entries.sort();
    entries.iter().for_each(|entry| models(entry, found));
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn verdict(folder: &Path) -> Result<(), String> {
    let bytes = std::fs::read(folder.join("model.onnx")).map_err(|e| e.to_string())?;
    let model = Model::load(&bytes, &Limits::default()).map_err(|e| chain(&e))?;
    let cases = golden::load_dir(folder).map_err(|e| chain(&e))?;
    golden::check(&model, &cases, Tolerance::new(1e-5, 1e-3).expect("a tolerance")).map(|_| ()).map_err(|e| chain(&e))
}

#[test]
fn every_model_gives_the_answers_of_onnxruntime() {
    let mut folders = Vec::new();
    models(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), &mut folders);
    let zoos = std::env::var("TERN_ZOO").unwrap_or_default();
    zoos.split(':').filter(|zoo| !zoo.is_empty()).for_each(|zoo| models(Path::new(zoo), &mut folders));
    assert!(folders.len() > 100, "the golden files are gone");
    let verdicts: Vec<_> = folders.iter().map(|folder| (folder, verdict(folder))).collect();
    for (folder, verdict) in &verdicts {
        println!("{} {}", folder.display(), verdict.as_ref().map_or_else(String::as_str, |()| "pass"));
    }
    let failed = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    assert_eq!(failed, 0, "{failed} of {} models", verdicts.len());
}
