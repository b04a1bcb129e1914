//! What the README tells people to type exists: scripts, examples, packages, subcommands and their flags.
//!
//! It runs no command other than `--help`.

use std::{os::unix::fs::PermissionsExt, process::Command};

use super::{
    metadata::Metadata,
    tree::{self, none, read, root},
};

/// Our programs, as people call them, with the multi-call name of each.
const PROGRAMS: [(&str, &str); 3] = [("tern", "tern"), ("tern-agent", "agent"), ("tern-server", "server")];

/// The commands in the README's ```sh blocks, one a line, continued lines joined.
fn commands() -> Vec<String> {
    let text = read("README.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined: Vec<_> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    joined.iter().flat_map(|block| block.lines()).map(command).filter(|line| !line.is_empty()).collect()
}

/// The line without comment, prompt, `sudo` and variables that are set for it.
fn command(line: &str) -> String {
    let mut words: Vec<_> = line.split(" #").next().unwrap_or_default().split_whitespace().collect();
    loop {
        let drop = match words.first() {
            Some(&"$") => 1,
            Some(&"sudo") if words.get(1) == Some(&"-u") => 3,
            Some(&"sudo") => 1,
            Some(word) if word.starts_with('#') => words.len(),
            Some(word)
                if word
                    .split_once('=')
                    .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')) =>
            {
                1
            }
            _ => return words.join(" "),
        };
        words.drain(..drop.min(words.len()));
    }
}

/// What is wrong with a call of one of our programs; nothing if its subcommand and every flag are in the help.
pub(super) fn fault(call: &str) -> Option<String> {
    let words: Vec<_> = call.split_whitespace().collect();
    let (_, multicall) = PROGRAMS.iter().find(|(name, _)| *name == words[0].rsplit('/').next().unwrap_or_default())?;
    let plain = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
    let subcommands: Vec<_> = words[1..].iter().take_while(plain).copied().collect();
    let mut help = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
    let output = help.arg(multicall).args(&subcommands).arg("--help").output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("Usage:") {
        return Some(format!("`{call}`: {} has no such subcommand", words[0]));
    }
    let flags = words.iter().filter(|word| word.starts_with("--")).filter_map(|word| word.split('=').next());
    let unknown: Vec<_> = flags.filter(|flag| !has_word(&text, flag)).collect();
    (!unknown.is_empty()).then(|| format!("`{call}`: unknown {}", unknown.join(" ")))
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| text[at + word.len()..].chars().next().is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '-')))
}

#[test]
fn calls_of_our_programs_are_understood() {
    let calls: Vec<_> = commands()
        .into_iter()
        .filter(|line| PROGRAMS.iter().any(|(name, _)| line.split(' ').next() == Some(name)))
        .collect();
    for (name, _) in PROGRAMS {
        assert!(calls.iter().any(|call| call.split(' ').next() == Some(name)), "the README shows no call of {name}");
    }
    none(&calls.iter().filter_map(|call| fault(call)).collect::<Vec<_>>(), "mend the README");
}

#[test]
fn cargo_commands_name_what_exists() {
    let metadata = Metadata::load();
    let manifest = read("Cargo.toml");
    let story: String =
        tree::sources().iter().filter(|f| f.path.starts_with("examples/")).map(|f| f.text.clone()).collect();
    let target = |kind: &str, name: &str| {
        let mut targets = metadata.members().into_values().flat_map(|package| &package.targets);
        targets.any(|target| target.name == name && target.kind.iter().any(|k| k == kind))
    };
    let calls: Vec<_> = commands().into_iter().filter(|line| line.starts_with("cargo ")).collect();
    assert!(calls.iter().any(|call| call.contains("--example quickstart")), "the README does not show the quickstart");
    let mut wrong = Vec::new();
    for call in calls {
        let (cargo, own) = call.split_once(" -- ").unwrap_or((&call, ""));
        let words: Vec<_> = cargo.split(' ').collect();
        for pair in words.windows(2) {
            let exists = match pair[0] {
                "--example" => target("example", pair[1]),
                "--bin" => target("bin", pair[1]),
                "-p" => metadata.members().values().any(|package| package.name == pair[1]),
                "--profile" => manifest.contains(&format!("[profile.{}]", pair[1])),
                _ => true,
            };
            if !exists {
                wrong.push(format!("`{call}`: no {} {}", pair[0], pair[1]));
            }
        }
        let flags = own.split(' ').filter_map(|word| word.strip_prefix("--")).filter(|flag| !flag.is_empty());
        wrong.extend(flags.filter(|f| !has_word(&story, &f.replace('-', "_"))).map(|f| format!("`{call}`: no --{f}")));
    }
    none(&wrong, "mend the README");
}

#[test]
fn scripts_exist() {
    let calls: Vec<_> =
        commands().into_iter().filter(|line| line.starts_with("tests/") || line.starts_with("./")).collect();
    assert!(!calls.is_empty(), "the README does not show tests/run");
    let wrong = calls.into_iter().filter(|call| {
        let path = root().join(call.split(' ').next().unwrap_or_default());
        path.metadata().map_or(true, |found| found.permissions().mode() & 0o111 == 0)
    });
    none(&wrong.collect::<Vec<_>>(), "the README names a script that is not there or not executable");
}
