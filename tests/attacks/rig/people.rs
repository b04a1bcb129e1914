//! The people of a fleet, and its first ceremony as `docs/ceremony.md` tells it, with the product's own commands: root 2 of
//! 3, targets 2 of 3 other people, a team of 2 of 2 and its robot. Each has a home folder of their own, and nothing of theirs
//! is on the server but public halves.
//!
//! Their keys have no passphrase: whoever stole one here has the passphrase, too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    device::{program, put},
    fleet::succeed,
    release::{MODEL, TEAM, folder},
    repository::{Key, Keys, key_in},
};

const WANTED: &str = r#"[root]
threshold = 2
keys = ["anna", "ben", "cold"]

[targets]
threshold = 2
keys = ["otto", "paula", "rosa"]

[online]
snapshot = "snapshot"
timestamp = "timestamp"
director = "director"

[teams.demo]
threshold = 2
keys = ["dora", "emil"]
candidate = "robot"
"#;

/// The roles whose keys are the server's.
const ONLINE: [&str; 3] = ["director", "snapshot", "timestamp"];

pub(crate) struct People {
    homes: PathBuf,
    ceremony: String,
}

impl People {
    /// Makes everybody's key, has the ceremony signed by as many as must, and has the server in `data` adopt it.
    pub(super) fn agree(scratch: &Path, data: &Path) -> Self {
        let ceremony = scratch.join("ceremony");
        let people = Self { homes: scratch.join("homes"), ceremony: ceremony.display().to_string() };
        fs::create_dir(&ceremony).unwrap();
        for role in ONLINE {
            let file = format!("{role}.pub");
            fs::copy(data.join("public").join(&file), ceremony.join(&file)).unwrap();
        }
        for person in ["anna", "ben", "cold", "otto", "paula", "rosa", "dora", "emil", "robot"] {
            let public = ceremony.join(format!("{person}.pub")).display().to_string();
            people.tern(person, &["key", "generate", person, "--no-passphrase"]);
            people.tern(person, &["key", "export", person, "--out", &public]);
        }
        put(&ceremony.join("ceremony.toml"), WANTED.as_bytes());
        people.tern("anna", &["key", "ceremony", "prepare", &people.ceremony]);
        for person in ["anna", "ben", "otto", "paula"] {
            people.tern(person, &["key", "ceremony", "sign", &people.ceremony, "--key", person, "--yes"]);
        }
        let mut adopt = program("server");
        adopt.args(["adopt", &people.ceremony, "--data-dir"]).arg(data);
        succeed(adopt);
        people
    }

    fn home(&self, person: &str) -> PathBuf {
        self.homes.join(person)
    }

    /// Runs `tern` as this person.
    pub(super) fn tern(&self, person: &str, args: &[&str]) -> String {
        fs::create_dir_all(self.home(person)).unwrap();
        let mut command = program("tern");
        command.args(args).env("HOME", self.home(person)).env_remove("XDG_CONFIG_HOME");
        succeed(command)
    }

    /// Dora publishes a version of the quickstart's model, emil approves it.
    pub(crate) fn release(&self, version: &str) {
        self.tern("dora", &["model", "publish", &folder(version).display().to_string(), "--key", "dora"]);
        self.tern("emil", &["model", "approve", &format!("{MODEL}@{version}"), "--key", "emil", "--yes"]);
    }

    /// Dora takes a version back, emil approves that; it is the team's draft of this number.
    pub(crate) fn recall(&self, version: &str, reason: &str, draft: &str) {
        self.tern("dora", &["model", "recall", &format!("{MODEL}@{version}"), "--reason", reason, "--key", "dora"]);
        let drafts = self.tern("dora", &["model", "proposals", TEAM]);
        assert!(drafts.contains("recall"), "{drafts}");
        self.tern("emil", &["model", "approve", "--proposal", draft, "--key", "emil", "--yes"]);
    }

    /// The key on somebody's machine.
    pub(crate) fn key_of(&self, person: &str) -> Key {
        key_in(&self.home(person), &format!(".config/tern/keys/{person}.key"))
    }

    /// Everybody's keys, with the server's own from its data folder.
    pub(crate) fn keys(&self, data: &Path) -> Keys {
        Keys {
            root: ["anna", "ben", "cold"].map(|person| self.key_of(person)),
            targets: ["otto", "paula", "rosa"].map(|person| self.key_of(person)),
            team: ["dora", "emil"].map(|person| self.key_of(person)),
            candidate: self.key_of("robot"),
            ..online(data)
        }
    }
}

/// The three keys that a server's data folder holds, which must be all; every other is a new one of the thief's own.
pub(crate) fn online(data: &Path) -> Keys {
    let mut files: Vec<_> = fs::read_dir(data.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ONLINE.map(|role| format!("{role}-1.key")), "no key of a person lies on the server");
    let held = |role: &str| key_in(data, &format!("keys/{role}-1.key"));
    Keys { snapshot: held("snapshot"), timestamp: held("timestamp"), director: held("director"), ..Keys::new() }
}
