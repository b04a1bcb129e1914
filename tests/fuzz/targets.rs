//! The list of targets, and what several of them need: a time, names, keys that are the same on every machine.

mod authorities;
mod documents;
mod frames;
mod house;
mod identity;
mod inference;
mod keyfiles;
mod models;
mod proposals;
mod renewals;
mod server;
mod signed;
mod telemetry;
mod tensors;
mod texts;
mod trust;
mod tuf;
mod wires;

use tern_protocol::keys::{KeySet, SigningKey};

use crate::target::Kind;

/// Every target.
pub(crate) fn all() -> Vec<Kind> {
    [
        documents::kinds(),
        signed::kinds(),
        tuf::kinds(),
        telemetry::kinds(),
        frames::kinds(),
        identity::kinds(),
        texts::kinds(),
        tensors::kinds(),
        models::kinds(),
        server::kinds(),
        proposals::kinds(),
        inference::kinds(),
        wires::kinds(),
    ]
    .concat()
}

/// The present time of every target.
pub(crate) const NOW: &str = "2026-06-01T00:00:00Z";

/// Key number `number`: the same each time, and secret to nobody.
pub(crate) fn key(number: u8) -> SigningKey {
    // PKCS#8 version 1 around the seed.
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = [&HEAD[..], &[number; 32]].concat();
    SigningKey::from_pkcs8(&der).expect("a key of this form")
}

/// These keys, of which `threshold` must sign.
pub(crate) fn key_set(keys: &[&SigningKey], threshold: usize) -> KeySet {
    KeySet::new(keys.iter().map(|key| (key.public().id(), key.public())), threshold)
}
