//! The work tree: its files as text, by path from the root.
//!
//! It knows no rule.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The workspace members' folders.
pub(super) const MEMBERS: [&str; 7] = ["agent", "engine", "examples", "fleet-server", "protocol", "stats", "tests"];

/// The workspace root.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("invariant: a member lies below the root").into()
}

/// The text of the file at `path` below the root.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path} cannot be read: {e}"))
}

/// A text file of the tree.
pub(super) struct File {
    /// Its path from the root, with `/`.
    pub(super) path: String,
    /// What it holds.
    pub(super) text: String,
    /// Whether it is compiled into tests only.
    pub(super) test_only: bool,
}

impl File {
    /// The lines before the unit tests, which stand last; none of a file that is all test.
    pub(super) fn production(&self) -> Vec<&str> {
        if self.test_only {
            return Vec::new();
        }
        let lines: Vec<_> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(" {"));
        lines[..tests.unwrap_or(lines.len())].to_vec()
    }

    /// The files, without their ending, that it declares as modules for tests only.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let folder = ["/lib", "/main"].iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem);
        let lines: Vec<_> = self.text.lines().collect();
        let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
        let names = declared.filter_map(|pair| pair[1].strip_suffix(';')?.split_once("mod ").map(|(_, name)| name));
        names.map(|name| format!("{folder}/{name}")).collect()
    }
}

/// Every text file below the root, in order of path, without build output and what Git keeps.
pub(super) fn files() -> Vec<File> {
    let mut found = Vec::new();
    visit(&root(), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files found below {}: the walk is broken", found.len(), root().display());
    found
}

/// Every Rust file.
pub(super) fn sources() -> Vec<File> {
    let mut sources: Vec<_> = files().into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    let modules: Vec<_> = sources.iter().flat_map(File::test_modules).collect();
    for file in &mut sources {
        let declared = |module: &String| {
            file.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.test_only = file.path.split('/').any(|part| part == "tests") || modules.iter().any(declared);
    }
    sources
}

/// Names in the folder at `path` below the root, folders with a `/` at the end.
pub(super) fn names(path: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(path)).unwrap_or_else(|e| panic!("{path} cannot be listed: {e}"));
    let mut names: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a folder can be listed");
            let slash = if entry.file_type().expect("an entry has a type").is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    names
}

fn visit(folder: &Path, prefix: &str, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let entry = entry.expect("a folder can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            if ![".git", "target", "__pycache__"].contains(&name.as_str()) {
                visit(&entry.path(), &format!("{path}/"), found);
            }
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.push(File { path, text, test_only: false });
        }
    }
}

/// Fails with `advice` and every line of `wrong`, unless there is none.
#[track_caller]
pub(super) fn none(wrong: &[String], advice: &str) {
    assert!(wrong.is_empty(), "{advice}\n  {}\n", wrong.join("\n  "));
}
