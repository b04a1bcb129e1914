//! Rules on crates: who depends on whom, which crates of others are in and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    metadata::Metadata,
    tree::{self, MEMBERS, none, read},
};

/// DESIGN 1: what each member may know, for libraries, tests and build scripts alike.
const MAY_KNOW: [(&str, &[&str]); 7] = [
    ("stats", &[]),
    ("engine", &[]),
    ("protocol", &["tern-stats"]),
    ("agent", &["tern-engine", "tern-protocol", "tern-stats"]),
    ("fleet-server", &["tern-engine", "tern-protocol", "tern-stats"]),
    ("examples", &["tern-agent", "tern-engine", "tern-fleet-server", "tern-protocol", "tern-stats"]),
    ("tests", &["tern-agent", "tern-engine", "tern-examples", "tern-fleet-server", "tern-protocol", "tern-stats"]),
];

/// What may never be linked into the program that runs on a device.
const NOT_ON_A_DEVICE: [&str; 13] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "axum",
    "clap_complete",
    "maud",
    "native-tls",
    "openssl",
    "openssl-sys",
    "proptest",
    "rmqtt",
    "rmqtt-net",
    "tern-fleet-server",
    "tokio-postgres",
];

/// An entry of `dependencies.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    members: BTreeSet<String>,
    reason: String,
}

/// Pairs of crate and member in which a member's Cargo.toml names another's crate.
fn direct_dependencies() -> BTreeSet<(String, String)> {
    let members = Metadata::load().members();
    let foreign = |name: &str| !members.values().any(|package| package.name == name);
    members
        .iter()
        .flat_map(|(folder, package)| package.dependencies.iter().map(move |d| (d.name.clone(), folder.clone())))
        .filter(|(name, _)| foreign(name))
        .collect()
}

fn table(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_folder_with_a_crate_is_a_member() {
    let members: BTreeSet<_> = Metadata::load().members().into_keys().collect();
    assert_eq!(
        members,
        MEMBERS.map(str::to_owned).into(),
        "a new member needs a page in docs/decisions and a line here"
    );
}

#[test]
fn dependencies_point_in_one_direction() {
    let members = Metadata::load().members();
    let own: BTreeSet<_> = members.values().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for (folder, may) in MAY_KNOW {
        for dependency in &members[folder].dependencies {
            let name = dependency.name.as_str();
            if own.contains(name) && !may.contains(&name) {
                wrong.push(format!("{folder} depends on {name}"));
            }
        }
    }
    none(&wrong, "what a member may know stands in DESIGN 1 and MAY_KNOW: move the code to where both may use it");
}

#[test]
fn the_agent_links_nothing_of_a_server() {
    let metadata = Metadata::load();
    let linked = metadata.linked_into(metadata.members()["agent"]);
    assert!(linked.contains_key("tract-onnx"), "the walk finds no engine in the agent: it is broken");
    let wrong: Vec<_> = NOT_ON_A_DEVICE.iter().filter_map(|name| linked.get(*name).cloned()).collect();
    none(&wrong, "not for devices; find another crate, switch the feature off, or move the code to the server");
}

#[test]
fn direct_dependencies_are_on_the_allow_list_with_a_reason() {
    const LIST: &str = "tests/tests/tidy/dependencies.toml";
    let allowed: BTreeMap<String, Allowed> = toml::from_str(&read(LIST)).unwrap_or_else(|e| panic!("{LIST}: {e}"));
    let used = direct_dependencies();
    let listed: BTreeSet<_> =
        allowed.iter().flat_map(|(name, a)| a.members.iter().map(move |m| (name.clone(), m.clone()))).collect();
    let text = |set: Vec<&(String, String)>| -> Vec<String> {
        set.into_iter().map(|(name, member)| format!("{name} in {member}")).collect()
    };
    none(
        &text(used.difference(&listed).collect()),
        &format!("not allowed: remove it, or add it to {LIST} and say why"),
    );
    none(&text(listed.difference(&used).collect()), &format!("no longer used: remove it from {LIST}"));
    let empty: Vec<_> = allowed.iter().filter(|(_, a)| a.reason.len() < 10).map(|(name, _)| name.clone()).collect();
    none(&empty, &format!("give a reason in {LIST}"));
}

#[test]
fn a_declared_dependency_is_named_in_the_code() {
    let sources = tree::sources();
    let wrong: Vec<_> = direct_dependencies()
        .into_iter()
        .filter(|(name, member)| {
            let (ident, folder) = (name.replace('-', "_"), format!("{member}/"));
            !sources.iter().any(|file| file.path.starts_with(&folder) && names_crate(&file.text, &ident))
        })
        .map(|(name, member)| format!("{name} in {member}/Cargo.toml"))
        .collect();
    none(&wrong, "no source file names it: remove the line, or the build pays for nothing");
}

#[test]
fn versions_stand_in_one_place() {
    let root = table("Cargo.toml");
    let central = root["workspace"]["dependencies"].as_table().expect("workspace.dependencies is a table");
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for member in MEMBERS {
        let manifest = table(&format!("{member}/Cargo.toml"));
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(kind).and_then(|d| d.as_table()).into_iter().flatten() {
                used.insert(name.clone());
                if value.as_table().is_none_or(|t| t.len() != 1 || !t.contains_key("workspace")) {
                    wrong.push(format!("{member}/Cargo.toml: {name}"));
                }
            }
        }
        if manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
            wrong.push(format!("{member}/Cargo.toml: lints.workspace = true is missing"));
        }
    }
    none(&wrong, "write `name.workspace = true` and nothing else: other features make every crate build twice");
    let idle: Vec<_> = central.keys().filter(|name| !used.contains(*name)).cloned().collect();
    none(&idle, "no member uses these lines of [workspace.dependencies]: remove them");
}

/// Whether `text` names the crate `ident` in a path, a `use` or an attribute, not just in a comment's prose.
fn names_crate(text: &str, ident: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(ident).any(|(at, _)| {
            boundary(line[..at].chars().next_back()) && boundary(line[at + ident.len()..].chars().next())
        })
    })
}
