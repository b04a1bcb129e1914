//! Rules on source files: how each begins, how long it is, and which crates only one place may name.

use super::tree::{self, File, none};

/// Most production lines of a file.
const MOST_LINES: usize = 400;

/// Longer files, with the limit that each must keep and why it is not two.
const LONGER: [(&str, usize, &str); 0] = [];

/// A crate, the places that may name it, and the door to use instead.
const DOORS: [(&str, &[&str], &str); 3] = [
    ("tract", &["engine/"], "use tern_engine: tract's types stay inside it"),
    (
        "rumqttc",
        &["agent/src/link.rs", "agent/src/link/", "fleet-server/tests/", "tests/", "examples/"],
        "use the agent's `link` or the server's `broker`: the client's traps are handled there once",
    ),
    (
        "rusqlite",
        &[
            "agent/src/store.rs",
            "agent/src/store/",
            "agent/src/outbox/",
            "fleet-server/src/store.rs",
            "fleet-server/src/store/",
            "tests/",
            "examples/",
        ],
        "SQL stays in the `store` modules and the agent's `outbox`: add a function there",
    ),
];

fn wrong_files(rule: impl Fn(&File) -> Option<String>) -> Vec<String> {
    tree::sources().iter().filter_map(|file| rule(file).map(|why| format!("{}{why}", file.path))).collect()
}

#[test]
fn every_file_opens_with_what_it_answers_for() {
    let wrong = wrong_files(|file| {
        let first = file.text.lines().next().unwrap_or_default();
        let said = first.strip_prefix("//! ").unwrap_or_default();
        (said.len() < 15).then(|| format!(": {first:?}"))
    });
    none(&wrong, "begin the file with `//! what it answers for`, then what it must never know or do");
}

#[test]
fn modules_are_named_by_their_file() {
    let wrong = wrong_files(|file| file.path.ends_with("/mod.rs").then(String::new));
    none(&wrong, "rename foo/mod.rs to foo.rs beside foo/");
}

#[test]
fn a_file_is_one_idea() {
    let wrong = wrong_files(|file| {
        let limit = LONGER.iter().find(|(path, ..)| *path == file.path).map_or(MOST_LINES, |(_, limit, _)| *limit);
        let lines = file.production().len();
        (lines > limit).then(|| format!(": {lines} production lines, at most {limit}"))
    });
    none(&wrong, "find the second idea and give it a file; if there is none, add a line with the reason to LONGER");
    let sources = tree::sources();
    let stale = LONGER.iter().filter(|(path, limit, reason)| {
        let lines = sources.iter().find(|file| file.path == *path).map_or(0, |file| file.production().len());
        lines <= MOST_LINES || lines + 40 < *limit || reason.is_empty()
    });
    let stale: Vec<_> = stale.map(|(path, ..)| (*path).to_owned()).collect();
    none(&stale, "these lines of LONGER are no longer needed or much too wide: tighten or remove them");
}

#[test]
fn each_door_is_the_only_one() {
    let wrong: Vec<_> = DOORS
        .iter()
        .flat_map(|(name, places, door)| {
            wrong_files(move |file| {
                let allowed = places.iter().any(|place| file.path.starts_with(place));
                let line = file.production().iter().position(|line| names(line, name))?;
                (!allowed).then(|| format!(":{} names {name}: {door}", line + 1))
            })
        })
        .collect();
    none(&wrong, "these crates have one door each (DESIGN 1)");
}

#[test]
fn no_test_is_switched_off() {
    // Put together here so that this file does not name what it looks for.
    let marks = [format!("#[{}", "ignore"), format!("cfg({})", "any()")];
    let wrong = wrong_files(|file| {
        let line =
            file.text.lines().position(|line| marks.iter().any(|mark| line.trim_start().contains(mark.as_str())))?;
        Some(format!(":{}", line + 1))
    });
    none(&wrong, "a skipped test tells nobody anything: repair or remove it; long suites look for TERN_FULL=1");
}

/// Whether a line of code, not of comment, has an identifier that begins with `name`.
fn names(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(name).any(|(at, _)| {
        let begins = code[..at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '"'));
        let next = code[at + name.len()..].chars().next();
        begins && matches!(next, Some(':' | '_' | ';'))
    })
}
