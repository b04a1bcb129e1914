//! Broken forms of every golden model: each is refused or answered, and nothing of this crate panics over one.
//!
//! Bytes of the file are changed at random places, from a fixed seed; a panic inside tract is caught and counts as a refusal.
//! Two mutants of each model by default, sixty with `TERN_FULL=1`.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};
use tern_engine::{Limits, Model, golden};

/// The models below `folder`.
fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            models(&path, found);
        } else if path.ends_with("model.onnx") {
            found.push(path);
        }
    }
}

/// Marsaglia's xorshift of 64 bits.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (end as u64)).expect("below a usize")
    }

    fn mutant(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let any = u8::try_from(self.below(256)).expect("a byte");
            bytes[at] = match self.below(5) {
                0 => any,
                1 => bytes[at] ^ (1 << (any % 8)),
                2 => 0,
                3 => 0x7f,
                _ => bytes[at].wrapping_add(1),
            };
        }
        bytes
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn nothing_of_this_crate_panics_over_a_broken_file() {
    let mut paths = Vec::new();
    models(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), &mut paths);
    let mutants = if std::env::var_os("TERN_FULL").is_some() { 60 } else { 2 };
    let (mut draw, mut refused, mut answered) = (Draw(0x9e37_79b9_7f4a_7c15), 0, 0);
    let mut panics = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).expect("a model");
        let cases = golden::load_dir(path.parent().expect("a folder")).expect("a case");
        for number in 0..mutants {
            let model = Model::load(&draw.mutant(&bytes), &Limits::default());
            let said = match model {
                Err(error) => chain(&error),
                Ok(model) => model.run(&cases[0].inputs).map_or_else(|error| chain(&error), |_| String::new()),
            };
            // What a caught panic says of its place.
            if said.contains("(engine/src/") {
                panics.push(format!("mutant {number} of {}: {said}", path.display()));
            }
            if said.is_empty() { answered += 1 } else { refused += 1 }
        }
    }
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    println!("{refused} refused, {answered} answered");
    assert!(refused > answered, "what was changed is not what is read");
    assert!(answered > 0, "nothing gets as far as an operator");
}
