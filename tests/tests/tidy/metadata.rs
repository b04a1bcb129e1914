//! What Cargo says about the workspace, asked offline.
//!
//! It knows no rule.

use std::{collections::BTreeMap, process::Command, sync::OnceLock};

use serde::Deserialize;

use super::tree::root;

/// The part of `cargo metadata` that the rules read.
#[derive(Deserialize)]
pub(super) struct Metadata {
    /// Every package in the graph.
    pub(super) packages: Vec<Package>,
    /// Ids of our own.
    pub(super) workspace_members: Vec<String>,
    resolve: Resolve,
}

/// A package.
#[derive(Deserialize)]
pub(super) struct Package {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// What its Cargo.toml asks for.
    pub(super) dependencies: Vec<Dependency>,
    /// What it builds.
    pub(super) targets: Vec<Target>,
    manifest_path: String,
}

/// A line of a Cargo.toml.
#[derive(Deserialize)]
pub(super) struct Dependency {
    /// The package that it names.
    pub(super) name: String,
}

/// A library, program, example or test.
#[derive(Deserialize)]
pub(super) struct Target {
    /// Its name.
    pub(super) name: String,
    /// `lib`, `bin`, `example`, `test`, …
    pub(super) kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// The workspace, for this machine's platform: the crates of others may not have been downloaded.
    pub(super) fn load() -> &'static Self {
        static LOADED: OnceLock<Metadata> = OnceLock::new();
        LOADED.get_or_init(|| {
            let version = output(Command::new("rustc").arg("-vV"));
            let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["metadata", "--offline", "--format-version", "1", "--filter-platform", host]);
            serde_json::from_str(&output(&mut cargo)).expect("cargo metadata has its documented form")
        })
    }

    /// Our own packages, by the folder that each is in.
    pub(super) fn members(&self) -> BTreeMap<String, &Package> {
        let own = self.packages.iter().filter(|package| self.workspace_members.contains(&package.id));
        own.map(|package| {
            let folder = package.manifest_path.strip_suffix("/Cargo.toml").and_then(|path| path.rsplit('/').next());
            (folder.expect("a manifest lies in a folder").to_owned(), package)
        })
        .collect()
    }

    /// Names of everything that is linked into `package`, each with the way that leads to it.
    pub(super) fn linked_into(&self, package: &Package) -> BTreeMap<String, String> {
        let names: BTreeMap<_, _> = self.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let nodes: BTreeMap<_, _> = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut ways = BTreeMap::from([(package.id.as_str(), package.name.clone())]);
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            let normal = nodes[id].deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            for edge in normal {
                if !ways.contains_key(edge.pkg.as_str()) {
                    let way = format!("{} > {}", ways[id], names[edge.pkg.as_str()]);
                    ways.insert(&edge.pkg, way);
                    open.push(&edge.pkg);
                }
            }
        }
        ways.into_iter().map(|(id, way)| (names[id].to_owned(), way)).collect()
    }
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
    String::from_utf8(output.stdout).expect("Cargo writes UTF-8")
}
