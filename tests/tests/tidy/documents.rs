//! Rules on what is written for people: the code map is complete, decisions have their parts, links lead somewhere.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, process::Command};

use super::tree::{self, MEMBERS, names, none, read, root};

/// The modules of `folder`: its files by stem, every folder below it by path; entry points are not modules.
fn modules(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(folder, "", &mut found);
    found
}

fn collect(folder: &str, prefix: &str, found: &mut BTreeSet<String>) {
    for name in names(&format!("{folder}/{prefix}")) {
        if let Some(inner) = name.strip_suffix('/') {
            let path = format!("{prefix}{inner}");
            if !["bin", "tests"].contains(&inner) && tree_has_rust(&format!("{folder}/{path}")) {
                collect(folder, &format!("{path}/"), found);
                found.insert(path);
            }
        } else if let Some(stem) =
            name.strip_suffix(".rs").filter(|stem| prefix.is_empty() && !["lib", "main"].contains(stem))
        {
            found.insert(stem.to_owned());
        }
    }
}

fn tree_has_rust(folder: &str) -> bool {
    names(folder).iter().any(|name| match name.strip_suffix('/') {
        Some(inner) => tree_has_rust(&format!("{folder}/{inner}")),
        None => name.ends_with(".rs") && name != "tests.rs",
    })
}

/// What the code map lists below the heading of `folder`: the names in backticks before each item's colon.
fn mapped(map: &str, folder: &str) -> BTreeSet<String> {
    let heading = format!("`{folder}`");
    let mut lines = map.lines().skip_while(|line| !(line.starts_with('#') && line.contains(&heading)));
    assert!(
        lines.next().is_some(),
        "ARCHITECTURE.md has no heading with {heading}: add it, with a line for each module"
    );
    let section = lines.take_while(|line| !line.starts_with('#'));
    let items =
        section.filter_map(|line| line.strip_prefix("- ")).map(|item| item.split(':').next().unwrap_or_default());
    items.flat_map(|item| item.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_code_map_names_every_module_and_no_other() {
    let map = read("ARCHITECTURE.md");
    let mut wrong = Vec::new();
    for member in MEMBERS {
        let folder = format!("{member}/src");
        let (present, listed) = (modules(&folder), mapped(&map, &folder));
        wrong.extend(
            present
                .difference(&listed)
                .map(|name| format!("missing below {folder}: - `{name}`: {}", opening(&folder, name))),
        );
        wrong.extend(listed.difference(&present).map(|name| format!("gone from {folder}: {name}")));
    }
    none(&wrong, "mend the code map in ARCHITECTURE.md, where each line reads \"- `name`: what it answers for\"");
}

/// What the module says of itself in its first line, to start its line in the code map with.
fn opening(folder: &str, module: &str) -> String {
    let text = std::fs::read_to_string(root().join(format!("{folder}/{module}.rs"))).unwrap_or_default();
    text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or("…").to_owned()
}

#[test]
fn files_that_the_architecture_names_exist() {
    let text = read("ARCHITECTURE.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let paths: BTreeSet<_> = quoted.filter(|word| word.ends_with(".rs") && word.contains('/')).collect();
    assert!(paths.len() > 10, "ARCHITECTURE.md must walk from publishing to serving, file by file");
    let wrong: Vec<_> = paths.into_iter().filter(|path| !root().join(path).is_file()).map(str::to_owned).collect();
    none(&wrong, "the walk in ARCHITECTURE.md names files that are not there");
}

#[test]
fn the_architecture_fits_in_one_reading() {
    let text = read("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(
        lines <= 200,
        "ARCHITECTURE.md has {lines} lines; keep it to 200: details belong into the files' first lines"
    );
    for mark in ["**Invariant:**", "**Never:**"] {
        assert!(text.lines().any(|line| line.contains(mark)), "ARCHITECTURE.md has no line with {mark}");
    }
}

#[test]
fn the_changelog_has_a_place_for_the_next_change() {
    let text = read("CHANGELOG.md");
    assert!(
        text.contains("\n## Unreleased\n"),
        "CHANGELOG.md needs a section `## Unreleased` with a line for each change that a user can see"
    );
}

#[test]
fn each_decision_is_indexed_and_whole() {
    let index = read("docs/decisions/README.md");
    let mut wrong = Vec::new();
    let pages: Vec<_> = names("docs/decisions").into_iter().filter(|name| name != "README.md").collect();
    assert!(!pages.is_empty(), "docs/decisions holds no page");
    for page in pages {
        if !index.contains(&format!("({page})")) {
            wrong.push(format!("{page} is not in the index"));
        }
        let text = read(&format!("docs/decisions/{page}"));
        for part in ["## Context", "## Choice", "## Rejected"] {
            if !text.contains(part) {
                wrong.push(format!("{page} has no {part}"));
            }
        }
    }
    none(&wrong, "a decision is one page with context, choice and what was rejected by which measurement");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in tree::files().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root().join(&file.path);
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            seen += 1;
            if !folder.parent().expect("a file lies in a folder").join(target).exists() {
                wrong.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert!(seen > 0, "no link found: the search is broken");
    none(&wrong, "mend the link");
}

#[test]
fn no_file_knows_a_developers_machine() {
    // Put together here so that this file does not hold what it looks for.
    let homes = ["root", "work", "Users", "home/runner"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for file in tree::files() {
        for (number, line) in file.text.lines().enumerate() {
            let starts_path = |at: usize| {
                line[..at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || "./}_-*".contains(c)))
            };
            if homes.iter().any(|home| line.match_indices(home.as_str()).any(|(at, _)| starts_path(at))) {
                wrong.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "write a path that holds on every machine");
}

#[test]
fn scripts_can_be_run() {
    for path in ["tests/run", ".ci/run"] {
        let file = root().join(path);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{path} is not executable: chmod +x {path}");
        assert!(read(path).contains("\nset -euo pipefail\n"), "{path} must stop at its first error: set -euo pipefail");
        let output = Command::new("bash").arg("-n").arg(&file).output().expect("bash is installed");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
