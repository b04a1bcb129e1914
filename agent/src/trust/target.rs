//! A target's way to the disk: streamed beside its name, never past its signed length, and named once its hashes are the
//! signed ones. Nothing of it is held in memory but a chunk.
//!
//! For targets of any repository, by any hash that TUF's own tools use. A bundle's blobs have a way of their own in
//! `fetch`, which resumes.

use std::{io, io::Read, path::Path};

use hyper::StatusCode;
use ring::digest::{Context, SHA256, SHA512};
use sigstore_tuf::TargetFile;

use crate::{
    disk::{self, NewFile},
    http::{self, Flow, HttpError, Pace, Remote},
};

/// Why a target was not brought.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// No hash that is signed is one that we know.
    #[error("none of its signed hashes is SHA-256 or SHA-512")]
    UnknownHash,
    /// It cannot be had.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// More or fewer bytes than signed.
    #[error("it has {found} bytes, signed are {signed}")]
    Length {
        /// The signed length.
        signed: u64,
        /// What came, until it was given up.
        found: u64,
    },
    /// Other bytes than signed.
    #[error("its bytes have another {0} than the signed one")]
    Hash(&'static str),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// Makes sure that `file` holds this target. `by_hash` says that the repository names targets by their hash as well.
///
/// # Errors
/// Each cause has its variant; `file` is then as it was before.
pub(crate) async fn bring(
    remote: &Remote,
    name: &str,
    target: &TargetFile,
    by_hash: bool,
    file: &Path,
) -> Result<(), TargetError> {
    let checks = Checks::of(target)?;
    if is_there(file, target.length, checks.clone())? {
        return Ok(());
    }
    let response = http::plain(remote.get(&address(name, by_hash.then(|| checks.first())), 0).await?)?;
    if response.status() != StatusCode::OK {
        return Err(http::refusal(response).await.into());
    }
    let mut coming = NewFile::beside(file, disk::PLAIN)?;
    let (mut flow, mut checks, mut received) = (Flow::new(response, Pace::default()), checks, 0);
    while let Some(bytes) = flow.next().await? {
        received += bytes.len() as u64;
        if received > target.length {
            return Err(TargetError::Length { signed: target.length, found: received });
        }
        checks.update(&bytes);
        coming.append(&bytes)?;
    }
    if received != target.length {
        return Err(TargetError::Length { signed: target.length, found: received });
    }
    checks.finish()?;
    Ok(coming.finish()?)
}

/// The address of a target, below the base of all.
fn address(name: &str, hash: Option<&str>) -> String {
    let path = match (hash, name.rsplit_once('/')) {
        (None, _) => name.to_owned(),
        (Some(hash), Some((folder, name))) => format!("{folder}/{hash}.{name}"),
        (Some(hash), None) => format!("{hash}.{name}"),
    };
    format!("/{}", http::encoded(&path, b"/"))
}

fn is_there(path: &Path, length: u64, mut checks: Checks) -> io::Result<bool> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) if file.metadata()?.len() == length => file.take(length),
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(checks.finish().is_ok()),
            n => checks.update(&buffer[..n]),
        }
    }
}

/// The signed hashes that we know, and what they are of the bytes so far.
#[derive(Clone)]
struct Checks(Vec<(&'static str, String, Context)>);

impl Checks {
    /// # Errors
    /// [`TargetError::UnknownHash`].
    fn of(target: &TargetFile) -> Result<Self, TargetError> {
        let known = [("sha256", &SHA256), ("sha512", &SHA512)];
        let signed = known.into_iter().filter_map(|(name, algorithm)| {
            Some((name, target.hashes.get(name)?.to_ascii_lowercase(), Context::new(algorithm)))
        });
        let signed: Vec<_> = signed.collect();
        if signed.is_empty() { Err(TargetError::UnknownHash) } else { Ok(Self(signed)) }
    }

    /// The hash that addresses are made of.
    fn first(&self) -> &str {
        self.0.first().map_or("", |(_, signed, _)| signed)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|(_, _, context)| context.update(bytes));
    }

    /// # Errors
    /// [`TargetError::Hash`].
    fn finish(self) -> Result<(), TargetError> {
        let wrong = self.0.into_iter().find(|(_, signed, context)| hex::encode(context.clone().finish()) != *signed);
        wrong.map_or(Ok(()), |(name, ..)| Err(TargetError::Hash(name)))
    }
}
