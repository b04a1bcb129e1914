//! The files that fuzzing starts from, and those that once broke something. Input 0 is the first of them; what is behind
//! the last is made by the number.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    mutate,
    random::Random,
    target::{Kind, Verdict},
};

/// The inputs of one target.
pub(crate) struct Corpus {
    kind: Kind,
    seed: u64,
    names: Vec<String>,
    living: Vec<Vec<u8>>,
    regressions: Vec<Vec<u8>>,
}

impl Corpus {
    /// The files of a target, in order of name.
    pub(crate) fn read(kind: Kind, seed: u64) -> Self {
        let (names, living) = files(&folder("corpus", kind.name)).into_iter().unzip();
        let (more, regressions): (Vec<String>, _) = files(&folder("regressions", kind.name)).into_iter().unzip();
        let corpus = Self { kind, seed, names: [names, more].concat(), living, regressions };
        assert!(!corpus.living.is_empty(), "{} has no corpus: run with TERN_FUZZ_CORPUS=write", kind.name);
        corpus
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &'static str {
        self.kind.name
    }

    /// How many inputs are files.
    pub(crate) fn kept(&self) -> u64 {
        self.names.len() as u64
    }

    /// What must become of the input, where it is one of the corpus: acceptance, unless its name says otherwise.
    pub(crate) fn expected(&self, number: u64) -> Option<Verdict> {
        let name = self.names[..self.living.len()].get(usize::try_from(number).ok()?)?;
        Some(Verdict::of(!name.starts_with("refused-")))
    }

    /// The input of this number: always the same for the same seed.
    pub(crate) fn input(&self, number: u64) -> Vec<u8> {
        let kept = self.living.iter().chain(&self.regressions).nth(usize::try_from(number).unwrap_or(usize::MAX));
        kept.cloned().unwrap_or_else(|| {
            mutate::mutate(self.kind.form, &self.living, &mut Random::of(self.seed, self.kind.name, number))
        })
    }

    /// What to call the input.
    pub(crate) fn name(&self, number: u64) -> String {
        let name = usize::try_from(number).ok().and_then(|number| self.names.get(number));
        name.cloned().unwrap_or_else(|| format!("input {number}"))
    }
}

/// Writes what the target's own code makes into its corpus.
pub(crate) fn write(kind: Kind) {
    let folder = folder("corpus", kind.name);
    fs::create_dir_all(&folder).expect("a folder for the corpus");
    for (name, bytes) in (kind.make)().seeds() {
        put(&folder.join(name), &bytes);
    }
}

/// Writes a file that no device depends on.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("a file can be written");
}

fn folder(what: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(what).join(target)
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read(path).expect("a readable file"))).collect()
}
