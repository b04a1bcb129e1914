//! `tern key`: the store's life, and keys by name or file wherever `--key` stands.

use std::os::unix::fs::PermissionsExt;

use tern_protocol::{keys::PublicKey, signed::SignatureError};

use super::*;
use crate::{
    disk::{self, Access},
    keyfile::KeyRotation,
};

const SECRET: &str = "correct horse battery";

/// A home without a server, whose passphrase file holds [`SECRET`].
pub(super) struct Home {
    pub(super) folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        disk::write(&home.path("passphrase"), format!("{SECRET}\n").as_bytes(), Access::Private).unwrap();
        home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn environment(&self) -> Environment {
        let passphrase_file = Some(self.path("passphrase"));
        Environment { config: Some(self.path("config.toml")), passphrase_file, ..Environment::default() }
    }

    pub(super) fn tern(&self, args: &[&str]) -> Outcome {
        tern(self.environment(), "", args)
    }
}

#[test]
fn a_key_is_made_listed_shown_and_exported() {
    let home = Home::new();
    assert!(home.tern(&["key", "list"]).out.contains("tern key generate"));
    let made = home.tern(&["key", "generate", "anna"]);
    assert_eq!(made.code, 0, "{}", made.err);
    home.tern(&["--output", "json", "key", "generate", "robot", "--no-passphrase"]).json();
    let list = home.tern(&["--output", "json", "key", "list"]).json();
    let facts: Vec<_> = list.as_array().unwrap().iter().map(|key| (&key["name"], &key["encrypted"])).collect();
    assert_eq!(facts, [(&json!("anna"), &json!(true)), (&json!("robot"), &json!(false))]);
    for (file, mode) in [("anna.key", 0o600), ("robot.key", 0o600), ("anna.pub", 0o644)] {
        let found = fs::metadata(home.path("keys").join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    assert_eq!(fs::metadata(home.path("keys")).unwrap().permissions().mode() & 0o777, 0o700);

    // Showing reads the public half: it wants no passphrase, and works where only that half is.
    fs::remove_file(home.path("passphrase")).unwrap();
    let shown = home.tern(&["--output", "json", "key", "show", "anna"]).json();
    assert_eq!(shown["key_id"], list[0]["key_id"]);
    let exported = home.path("anna-public.pub");
    assert_eq!(home.tern(&["key", "export", "anna", "--out", exported.to_str().unwrap()]).code, 0);
    let public: PublicKey = serde_json::from_slice(&fs::read(&exported).unwrap()).unwrap();
    assert_eq!(json!(public.id()), list[0]["key_id"]);
    let there = home.tern(&["key", "show", exported.to_str().unwrap()]).out;
    assert!(there.contains("not here") && there.contains(&hex::encode(public.bytes().unwrap())), "{there}");
    assert!(home.tern(&["key", "show", "nobody"]).refused().contains("is missing"));
}

#[test]
fn a_key_is_never_written_over_and_names_are_plain() {
    let home = Home::new();
    assert_eq!(home.tern(&["key", "generate", "anna"]).code, 0);
    let before = fs::read(home.path("keys/anna.key")).unwrap();
    assert!(home.tern(&["key", "generate", "anna"]).refused().contains("tern key rotate anna"));
    assert_eq!(fs::read(home.path("keys/anna.key")).unwrap(), before);
    for name in ["Anna", "../anna", "a.b", ""] {
        assert_eq!(home.tern(&["key", "generate", name]).code, 2, "{name}");
    }
}

#[test]
fn passphrases_are_asked_twice_and_never_empty() {
    let home = Home::new();
    let with = |ask: Option<keyfile::Ask>, args: &[&str]| {
        tern(Environment { passphrase_file: None, ask, ..home.environment() }, "", args)
    };
    let phrase = |text: &str| keyfile::Passphrase::new(zeroize::Zeroizing::new(text.into()));
    assert!(with(None, &["key", "generate", "anna"]).refused().contains("TERN_KEY_PASSPHRASE_FILE"));
    let differing: fn(&str) -> _ = |question| keyfile::Passphrase::new(zeroize::Zeroizing::new(question.to_owned()));
    assert!(with(Some(differing), &["key", "generate", "anna"]).refused().contains("differently"));
    let empty: fn(&str) -> _ = |_| keyfile::Passphrase::new(zeroize::Zeroizing::default());
    assert!(with(Some(empty), &["key", "generate", "anna"]).refused().contains("empty passphrase"));
    let short: fn(&str) -> _ = |_| keyfile::Passphrase::new(zeroize::Zeroizing::new("1234567".into()));
    assert!(with(Some(short), &["key", "generate", "anna"]).refused().contains("less than 8 characters"));
    let path = home.tern(&["key", "generate", "../anna"]);
    assert!(path.code == 2 && path.err.contains("and no path"), "{}", path.err);
    disk::write(&home.path("passphrase"), b"\n", Access::Private).unwrap();
    assert!(home.tern(&["key", "generate", "anna"]).refused().contains("empty passphrase"));
    disk::write(&home.path("passphrase"), b"x", Access::Public).unwrap();
    assert!(home.tern(&["key", "generate", "anna"]).refused().contains("chmod 600"));
    assert!(!home.path("keys").exists(), "nothing was made");
    let typed: fn(&str) -> _ = |_| keyfile::Passphrase::new(zeroize::Zeroizing::new("typed twice".into()));
    assert_eq!(with(Some(typed), &["key", "generate", "anna"]).code, 0);
    let opened = keyfile::open(&home.path("keys/anna.key"), || phrase("typed twice"));
    assert!(opened.is_ok());
}

#[test]
fn a_successor_is_named_by_the_key_that_goes() {
    let home = Home::new();
    home.tern(&["key", "generate", "anna"]);
    let id = |name: &str| keyfile::read_public(&home.path("keys").join(format!("{name}.pub"))).unwrap();
    let first = id("anna");
    let rotated = home.tern(&["key", "rotate", "anna"]);
    assert!(rotated.out.contains("anna.retired-1"), "{}{}", rotated.out, rotated.err);
    let second = id("anna");
    assert_eq!(id("anna.retired-1"), first);
    let statement = fs::read(home.path("keys/anna.rotation.json")).unwrap();
    let rotation = KeyRotation::verify(&statement).unwrap();
    assert_eq!((&rotation.old, &rotation.new, rotation.name.as_str()), (&first, &second, "anna"));
    home.tern(&["key", "rotate", "anna", "--no-passphrase"]);
    assert_eq!(id("anna.retired-2"), second);
    assert_eq!(id("anna.retired-1"), first, "it is kept");
    let listed = home.tern(&["--output", "json", "key", "list"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["anna", "anna.retired-1", "anna.retired-2"]);
    assert!(home.tern(&["key", "rotate", "ben"]).refused().contains("there is no key ben"));
    let other = String::from_utf8(statement).unwrap().replace("\"name\":\"anna\"", "\"name\":\"ben\"");
    let forged = KeyRotation::verify(other.as_bytes()).unwrap_err();
    assert_eq!(forged, SignatureError::UnderThreshold { found: 0, threshold: 1 });
}

/// What `tern key rotate anna` does, its first `done` steps.
fn rotated_in_part(home: &Home, retired: usize, done: usize) {
    let file = |name: &str| home.path("keys").join(name);
    let old = keyfile::read(&file("anna.key")).unwrap();
    let new = std::cell::OnceCell::new();
    let move_to = |from: &str, to: &str| fs::rename(file(from), file(to)).unwrap();
    let steps: [&dyn Fn(); 6] = [
        &|| drop(new.set(keyfile::create(&file("anna.next.key"), None).unwrap())),
        &|| keyfile::write_public(&file("anna.next.pub"), &new.get().unwrap().public()).unwrap(),
        &|| {
            let at = "2026-06-01T00:00:00Z".parse().unwrap();
            let statement = KeyRotation::sign("anna", &old, &new.get().unwrap().public(), at).unwrap();
            fs::write(file("anna.rotation.json"), statement).unwrap();
        },
        &|| move_to("anna.pub", &format!("anna.retired-{retired}.pub")),
        &|| move_to("anna.key", &format!("anna.retired-{retired}.key")),
        &|| move_to("anna.next.pub", "anna.pub"),
    ];
    steps[..done].iter().for_each(|step| step());
}

#[test]
fn a_rotation_that_was_cut_anywhere_ends_well_when_it_is_run_again() {
    for (earlier, done) in [0, 1].into_iter().flat_map(|earlier| (0..=6).map(move |done| (earlier, done))) {
        let home = Home::new();
        home.tern(&["key", "generate", "anna", "--no-passphrase"]);
        for _ in 0..earlier {
            assert_eq!(home.tern(&["key", "rotate", "anna", "--no-passphrase"]).code, 0);
        }
        let public = |name: &str| keyfile::read_public(&home.path("keys").join(name)).unwrap();
        let private = |name: &str| keyfile::read(&home.path("keys").join(name)).unwrap().public();
        let first = public("anna.pub");
        let number = earlier + 1;
        rotated_in_part(&home, number, done);
        let again = home.tern(&["key", "rotate", "anna", "--no-passphrase"]);
        assert_eq!(again.code, 0, "cut after {done}: {}", again.err);
        assert_eq!(again.err.contains("interrupted") || again.out.contains("interrupted"), done >= 3, "{done}");
        let retired = format!("anna.retired-{number}");
        assert!(again.out.contains(&retired), "cut after {done}: {}", again.out);
        let second = public("anna.pub");
        assert_ne!(second, first);
        for (name, wanted) in [("anna", &second), (retired.as_str(), &first)] {
            assert_eq!(public(&format!("{name}.pub")), *wanted, "cut after {done}: {name}");
            assert_eq!(private(&format!("{name}.key")), *wanted, "cut after {done}: {name}");
        }
        let statement = fs::read(home.path("keys/anna.rotation.json")).unwrap();
        let rotation = KeyRotation::verify(&statement).unwrap();
        assert_eq!((&rotation.old, &rotation.new), (&first, &second), "cut after {done}");
        let names: Vec<_> = fs::read_dir(home.path("keys")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("next")), "cut after {done}: {names:?}");
        assert_eq!(names.len(), 2 * (number + 1) + 1, "cut after {done}: {names:?}");
    }
}

#[test]
fn versions_are_signed_with_a_key_of_the_store() {
    let desk = Desk::new();
    fs::remove_file(desk.path("release.key")).unwrap();
    disk::write(&desk.path("passphrase"), SECRET.as_bytes(), Access::Private).unwrap();
    let tern = |args: &[&str]| {
        let environment = Environment { passphrase_file: Some(desk.path("passphrase")), ..desk.environment() };
        tern(environment, "", args)
    };
    assert_eq!(tern(&["key", "generate", "anna"]).code, 0);
    let folder = bundle("1.0.0");
    let publish = ["--output", "json", "model", "publish", folder.to_str().unwrap(), "--key", "anna"];
    disk::write(&desk.path("passphrase"), b"wrong", Access::Private).unwrap();
    let wrong = tern(&publish);
    assert!(wrong.refused().contains("passphrase does not open"), "{}", wrong.err);
    assert!(!wrong.err.contains(SECRET) && !wrong.err.contains("wrong\n"), "{}", wrong.err);
    disk::write(&desk.path("passphrase"), SECRET.as_bytes(), Access::Private).unwrap();
    assert_eq!(tern(&publish).json()["list_version"], 1);
    fs::set_permissions(desk.path("keys/anna.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(tern(&publish).refused().contains("chmod 600"));
}
