//! Finds models with test cases: each folder that holds `model.onnx` and `test_data_set_<n>` beside it.
//!
//! Symbolic links below the given folder are passed over, so that a ring of them does not end in a search without end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tern_engine::Limits;

use super::trial::Case;
use crate::disk;

const MODEL: &str = "model.onnx";
const SET: &str = "test_data_set_";
/// Most folders that are looked into.
const MAX_FOLDERS: usize = 200_000;
/// Most bytes of test cases of one model.
const MAX_BYTES: u64 = 256 << 20;

/// A model with its cases.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// In the order of their numbers.
    pub sets: Vec<Set>,
}

/// One case: the names of its files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub name: String,
    pub files: Vec<String>,
}

impl Folder {
    /// The model and the files of all cases, and the cases' own names of them.
    pub(super) fn read(&self) -> anyhow::Result<(Vec<Vec<u8>>, Vec<Case>)> {
        let read = |path: &Path, limit: u64| {
            let bytes = disk::read(path, limit).with_context(|| format!("reading {}", path.display()))?;
            bytes.with_context(|| format!("{} is gone", path.display()))
        };
        let mut files = vec![read(&self.path.join(MODEL), Limits::default().file_bytes)?];
        let mut left = MAX_BYTES;
        for set in &self.sets {
            for name in &set.files {
                let bytes = read(&self.path.join(&set.name).join(name), left)?;
                left = left.saturating_sub(bytes.len() as u64);
                files.push(bytes);
            }
        }
        let case = |set: &Set| Case { name: set.name.clone(), files: set.files.clone() };
        Ok((files, self.sets.iter().map(case).collect()))
    }
}

/// The models in `top` and below it, by their paths.
pub(super) fn below(top: &Path) -> anyhow::Result<Vec<Folder>> {
    ensure!(!top.is_file(), "{} is a file: name the folder that it is in", top.display());
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        seen += 1;
        ensure!(seen <= MAX_FOLDERS, "there are more than {MAX_FOLDERS} folders below {}", top.display());
        let entries = entries(&path)?;
        let folders = entries.iter().filter(|entry| entry.is_folder);
        let mut sets = Vec::new();
        for folder in folders {
            match folder.name.strip_prefix(SET) {
                Some(number) => sets.push((number.parse::<u64>().ok(), folder.name.clone())),
                None => open.push(path.join(&folder.name)),
            }
        }
        if sets.is_empty() || !entries.iter().any(|entry| entry.name == MODEL && !entry.is_folder) {
            continue;
        }
        sets.sort();
        let sets = sets.into_iter().map(|(_, name)| {
            let files = self::entries(&path.join(&name))?.into_iter().map(|entry| entry.name);
            Ok(Set { files: files.filter(|file| file.ends_with(".pb")).collect(), name })
        });
        let sets = sets.collect::<anyhow::Result<_>>()?;
        found.push(Folder { path, sets });
    }
    ensure!(!found.is_empty(), "there is no {MODEL} with {SET}<n> beside it in or below {}", top.display());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Entry {
    name: String,
    is_folder: bool,
}

/// What lies in a folder, sorted by name, without symbolic links.
fn entries(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let failed = || format!("reading folder {}", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let kind = entry.file_type().with_context(failed)?;
        // A model that lies elsewhere is still a model; a folder that lies elsewhere may hold this one. Opening a pipe would
        // wait for its other end.
        if !kind.is_dir() && !entry.path().is_file() {
            continue;
        }
        found.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), is_folder: kind.is_dir() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write scratch files")]
mod tests {
    use super::*;

    fn lay(top: &Path, files: &[&str]) {
        for file in files {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    #[test]
    fn models_are_found_at_any_depth_and_cases_come_by_number() {
        let top = tempfile::tempdir().unwrap();
        lay(
            top.path(),
            &[
                "b/deep/model.onnx",
                "b/deep/test_data_set_10/output_0.pb",
                "b/deep/test_data_set_9/input_0.pb",
                "b/deep/test_data_set_9/notes.txt",
                "a/model.onnx",
                "a/test_data_set_0/output_0.pb",
                "bare/model.onnx",
                "orphan/test_data_set_0/output_0.pb",
            ],
        );
        std::os::unix::fs::symlink(top.path(), top.path().join("a/ring")).unwrap();
        let found = below(top.path()).unwrap();
        let paths: Vec<_> = found.iter().map(|folder| folder.path.strip_prefix(top.path()).unwrap()).collect();
        assert_eq!(paths, [Path::new("a"), Path::new("b/deep")]);
        let set = |name: &str, files: &[&str]| Set {
            name: name.into(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        };
        let expected = [set("test_data_set_9", &["input_0.pb"]), set("test_data_set_10", &["output_0.pb"])];
        assert_eq!(found[1].sets, expected);
        let (files, cases) = found[1].read().unwrap();
        assert_eq!((files.len(), cases.len(), cases[1].files.len()), (3, 2, 1));
        assert_eq!(below(&top.path().join("a")).unwrap().len(), 1, "the folder itself counts");
    }

    #[test]
    fn where_there_is_nothing_it_is_said() {
        let top = tempfile::tempdir().unwrap();
        lay(top.path(), &["bare/model.onnx"]);
        assert!(below(top.path()).unwrap_err().to_string().contains("there is no model.onnx with test_data_set_<n>"));
        assert!(below(&top.path().join("gone")).is_err());
    }
}
