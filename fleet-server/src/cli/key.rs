//! `tern key`: a person's keys in the store beside the configuration, `NAME.key` and `NAME.pub`.

mod rotation;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use tern_protocol::{
    ids::TeamId,
    keys::{KeyId, PublicKey},
};

use super::{
    ceremony::{self, Ceremony},
    client::Client,
    keys::Keys,
    output::Printer,
};
use crate::{disk, keyfile};
use rotation::Rotation;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key in the store; its private half never leaves it
    Generate(Generate),
    /// Agree with others, offline and by files, on which keys count
    #[command(subcommand)]
    Ceremony(Ceremony),
    /// The keys of the store
    List,
    /// One key; its public half is read, so no passphrase is wanted
    Show {
        /// A NAME of the store, or a FILE
        key: PathBuf,
    },
    /// Write a key's public half to a file that others may have
    Export {
        /// A NAME of the store, or a FILE
        key: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a key's successor under the same name; the old one is kept and signs who follows it
    Rotate {
        /// The key's name in the store
        #[arg(value_parser = name)]
        name: String,
        /// Leave the new key plain, readable by its owner only: for robots
        #[arg(long)]
        no_passphrase: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// The key's name in the store
    #[arg(value_parser = name)]
    pub name: String,
    /// Leave the key plain, readable by its owner only: for robots
    #[arg(long)]
    pub no_passphrase: bool,
}

/// A name is written as those of teams are.
fn name(text: &str) -> Result<String, String> {
    let named = text.parse::<TeamId>().map(|name| name.to_string());
    named.map_err(|e| format!("{e}; it is a name in the store, as `anna` or `robot-2`, and no path"))
}

/// A key for programs.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    key_id: KeyId,
    public: PublicKey,
    /// Whether the private half is encrypted; none where it is not here.
    encrypted: Option<bool>,
}

pub(super) async fn run(
    order: Key,
    keys: &Keys<'_>,
    client: impl FnOnce() -> anyhow::Result<Client>,
    input: &mut dyn Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    match order {
        Key::Generate(order) => generate(&order, keys, printer),
        Key::Ceremony(order) => ceremony::run(order, keys, client, input, printer).await,
        Key::List => list(keys, printer),
        Key::Show { key } => show(&key, keys, printer),
        Key::Export { key, out } => {
            let public = public(&key, keys)?;
            keyfile::write_public(&out, &public)?;
            printer.step(&format!("wrote the public half of key {} to {}", public.id(), out.display()))
        }
        Key::Rotate { name, no_passphrase } => rotate(&name, no_passphrase, keys, printer),
    }
}

fn generate(order: &Generate, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let store = keys.store()?;
    let name = &order.name;
    let file = store.join(format!("{name}.key"));
    ensure!(
        !file.exists() && !store.join(format!("{name}.pub")).exists(),
        "there is a key {name}, and no key is ever written over: choose another name, or `tern key rotate {name}`"
    );
    let passphrase = (!order.no_passphrase).then(|| keys.new_passphrase(name)).transpose()?;
    disk::create_folder(store).with_context(|| format!("folder {}", store.display()))?;
    let key = keyfile::create(&file, passphrase.as_ref())?;
    keyfile::write_public(&store.join(format!("{name}.pub")), &key.public())?;
    tell(name, key.public(), passphrase.is_some(), &file, printer)
}

fn tell(name: &str, public: PublicKey, encrypted: bool, file: &Path, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let shown = Shown { name: name.into(), key_id: public.id(), public, encrypted: Some(encrypted) };
    printer.result(&shown, |p| {
        p.line(&format!("made key {name}, {}", shown.key_id))?;
        p.line(&format!("private half: {}, {}", file.display(), if encrypted { "encrypted" } else { "plain" }))?;
        p.line("keep a copy of it where fire and thieves do not find both")
    })
}

fn list(keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let store = keys.store()?;
    let mut shown = Vec::new();
    if store.is_dir() {
        for entry in std::fs::read_dir(store).with_context(|| format!("read {}", store.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(".pub") {
                shown.push(look(name, &store.join(format!("{name}.pub")), &store.join(format!("{name}.key")))?);
            }
        }
    }
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    let empty = "there are no keys: make one with `tern key generate NAME`";
    printer.result(&shown, |p| {
        let row = |key: &Shown| vec![key.name.clone(), key.key_id.to_string(), at_rest(key.encrypted).to_owned()];
        p.table(&["NAME", "KEY ID", "PRIVATE HALF"], shown.iter().map(row).collect(), empty)
    })
}

fn look(name: &str, public: &Path, private: &Path) -> anyhow::Result<Shown> {
    let encrypted = private.exists().then(|| keyfile::is_encrypted(private)).transpose()?;
    let public = keyfile::read_public(public)?;
    Ok(Shown { name: name.into(), key_id: public.id(), public, encrypted })
}

fn at_rest(encrypted: Option<bool>) -> &'static str {
    match encrypted {
        Some(true) => "encrypted",
        Some(false) => "plain",
        None => "not here",
    }
}

fn show(key: &Path, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let file = public_file(key, keys);
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let shown = look(&name, &file, &file.with_extension("key"))?;
    let bytes = shown.public.bytes().context("invariant: it was read as an Ed25519 key")?;
    printer.result(&shown, |p| {
        p.facts(&[
            ("name", shown.name.clone()),
            ("key id", shown.key_id.to_string()),
            ("public", hex::encode(bytes)),
            ("TUF form", keyfile::tuf_form(&shown.public)),
            ("private", at_rest(shown.encrypted).to_owned()),
        ])
    })
}

fn public(key: &Path, keys: &Keys<'_>) -> anyhow::Result<PublicKey> {
    Ok(keyfile::read_public(&public_file(key, keys))?)
}

/// The file of a key's public half; beside a private half that is named.
fn public_file(key: &Path, keys: &Keys<'_>) -> PathBuf {
    let file = keys.file(key, "pub");
    if file.extension().is_some_and(|ending| ending == "key") { file.with_extension("pub") } else { file }
}

fn rotate(name: &str, plain: bool, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let rotation = Rotation { store: keys.store()?, name };
    let private = rotation.file("", "key");
    if rotation.is_prepared() {
        printer.step("going on with a rotation that was interrupted")?;
    } else {
        ensure!(private.exists(), "there is no key {name} in {}", rotation.store.display());
        let mut old = keys.open(std::slice::from_ref(&private))?;
        let old = old.pop().context("invariant: one key was named")?;
        let passphrase = (!plain).then(|| keys.new_passphrase(name)).transpose()?;
        rotation.prepare(&old, passphrase.as_ref(), printer.now())?;
    }
    let retired = rotation.carry_out()?;
    let shown = look(name, &rotation.file("", "pub"), &private)?;
    tell(name, shown.public, shown.encrypted == Some(true), &private, printer)?;
    printer.step(&format!("the old key is kept as {retired}: it still counts until a ceremony says otherwise"))?;
    printer.step(&format!("for the next ceremony: {}", rotation.file("", "rotation.json").display()))
}
