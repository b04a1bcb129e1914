//! Files named by their digest: `blobs/sha256/<hex>` and, while they come in, `<hex>.part`.
//!
//! A name without `.part` means that the bytes were whole, of that digest and fsynced when they got it. Flash forgets, so
//! whoever hands a blob to an engine opens it through [`Blobs::open_verified`], which reads it once more. What is hashed is
//! always the file, never the stream that was written to it: only the file gets the name. A link is no blob and no part:
//! nothing is read or written through one.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tern_protocol::digest::{Digest, Hasher};

/// Why a blob is not usable.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk failed.
    #[error("blob {digest}: {cause}")]
    Disk {
        /// Which.
        digest: Digest,
        /// What the system said.
        cause: io::Error,
    },
    /// More or fewer bytes than signed.
    #[error("blob {digest} has {found} bytes, signed are {signed}")]
    Length {
        /// Which.
        digest: Digest,
        /// The signed length.
        signed: u64,
        /// The length found; of an endless one what was read until it was given up.
        found: u64,
    },
    /// Other bytes than signed.
    #[error("blob {signed} has digest {found}")]
    Digest {
        /// The signed digest.
        signed: Digest,
        /// The digest found.
        found: Digest,
    },
}

/// The content-addressed folder.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// The blobs of this state folder.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("blobs").join("sha256");
        super::make_folder(&folder)?;
        Ok(Self { folder })
    }

    /// Whether a blob of this digest and length is there. Its bytes are not read.
    pub fn has(&self, digest: &Digest, length: u64) -> bool {
        fs::symlink_metadata(self.path(digest)).is_ok_and(|m| m.is_file() && m.len() == length)
    }

    /// The blob, after its bytes were read and found right; positioned at its start.
    ///
    /// # Errors
    /// What is wrong with it. A blob whose bytes are wrong is removed, so that it is fetched again.
    pub fn open_verified(&self, digest: &Digest, length: u64) -> Result<File, BlobError> {
        let disk = |cause| BlobError::Disk { digest: *digest, cause };
        let mut file = not_a_link(OpenOptions::new().read(true)).open(self.path(digest)).map_err(disk)?;
        let (found, bytes) = hash(&mut file, length).map_err(disk)?;
        let wrong = if bytes != length {
            BlobError::Length { digest: *digest, signed: length, found: bytes }
        } else if found != *digest {
            BlobError::Digest { signed: *digest, found }
        } else {
            file.seek(SeekFrom::Start(0)).map_err(disk)?;
            return Ok(file);
        };
        super::remove_file(&self.path(digest)).map_err(disk)?;
        Err(wrong)
    }

    /// The part of this blob that came in so far, ready for more. Its bytes are looked at by [`Part::finish`].
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn resume(&self, digest: &Digest, length: u64) -> Result<Part, BlobError> {
        let disk = |cause| BlobError::Disk { digest: *digest, cause };
        let path = self.part_path(digest);
        if fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
            super::remove_file(&path).map_err(disk)?;
        }
        let mut options = OpenOptions::new();
        let options = not_a_link(options.read(true).write(true).create(true).truncate(false).mode(0o600));
        let mut file = options.open(path).map_err(disk)?;
        let mut received = file.metadata().map_err(disk)?.len();
        if received > length {
            // Left by something that lied about the length.
            file.set_len(0).map_err(disk)?;
            received = 0;
        }
        file.seek(SeekFrom::Start(received)).map_err(disk)?;
        Ok(Part { blobs: self.clone(), digest: *digest, length, received, file })
    }

    /// Removes every blob and part that is not in `keep`. Returns how many.
    ///
    /// # Errors
    /// What the system said; the rest stays for the next time.
    pub fn collect_garbage(&self, keep: &BTreeSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().map(|n| n.trim_end_matches(".part")).and_then(|n| n.parse().ok());
            if digest.is_some_and(|d| keep.contains(&d)) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => removed += 1,
            }
        }
        Ok(removed)
    }

    /// Bytes that all blobs and parts take.
    ///
    /// # Errors
    /// What the system said.
    pub fn total_bytes(&self) -> io::Result<u64> {
        fs::read_dir(&self.folder)?.try_fold(0u64, |sum, entry| match entry?.metadata() {
            Ok(metadata) => Ok(sum.saturating_add(metadata.len())),
            // Renamed or removed since the folder was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(sum),
            Err(e) => Err(e),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.part"))
    }
}

/// The same, which fails at a link.
fn not_a_link(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
}

/// A blob that is coming in.
pub struct Part {
    blobs: Blobs,
    digest: Digest,
    length: u64,
    received: u64,
    file: File,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({}, {} of {} B)", self.digest, self.received, self.length)
    }
}

impl Part {
    /// Bytes that are there.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Forgets everything that came in.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn restart(&mut self) -> Result<(), BlobError> {
        let disk = |cause| BlobError::Disk { digest: self.digest, cause };
        self.file.set_len(0).map_err(disk)?;
        self.file.seek(SeekFrom::Start(0)).map_err(disk)?;
        self.received = 0;
        Ok(())
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`BlobError::Length`] before a byte too many reaches the disk; [`BlobError::Disk`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let total = self.received.saturating_add(bytes.len() as u64);
        if total > self.length {
            return Err(BlobError::Length { digest: self.digest, signed: self.length, found: total });
        }
        self.file.write_all(bytes).map_err(|cause| BlobError::Disk { digest: self.digest, cause })?;
        self.received = total;
        Ok(())
    }

    /// Makes the blob durable under its name, if the bytes of its file are the signed ones. Reads the file whole.
    ///
    /// # Errors
    /// What is wrong with it; the part is removed then, except where it is only too short.
    #[expect(clippy::disallowed_methods, reason = "part of the door that the lint names")]
    pub fn finish(self) -> Result<(), BlobError> {
        let Self { blobs, digest, length, received, mut file } = self;
        let disk = |cause| BlobError::Disk { digest, cause };
        let part = blobs.part_path(&digest);
        if received < length {
            return Err(BlobError::Length { digest, signed: length, found: received });
        }
        file.seek(SeekFrom::Start(0)).map_err(disk)?;
        let (found, bytes) = hash(&mut file, length).map_err(disk)?;
        if bytes != length || found != digest {
            super::remove_file(&part).map_err(disk)?;
            return Err(if bytes == length {
                BlobError::Digest { signed: digest, found }
            } else {
                BlobError::Length { digest, signed: length, found: bytes }
            });
        }
        file.sync_all().map_err(disk)?;
        match same_file(&file, &part).and_then(|()| fs::rename(&part, blobs.path(&digest))) {
            // Somebody else brought the same bytes: theirs are as good.
            Err(e) if e.kind() == io::ErrorKind::NotFound && blobs.has(&digest, length) => Ok(()),
            renamed => renamed.and_then(|()| super::sync_folder(&blobs.folder)).map_err(disk),
        }
    }
}

/// Whether `path` still names the open `file`: a rename goes by the name, and the bytes that were read by the file.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where it names nothing or another file.
fn same_file(file: &File, path: &Path) -> io::Result<()> {
    let (mine, named) = (file.metadata()?, fs::metadata(path)?);
    if (mine.dev(), mine.ino()) == (named.dev(), named.ino()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "its part was replaced while it came in"))
}

/// The digest and the length of what is left of `file`, which is read to one byte beyond `limit` at most.
fn hash(file: &mut File, limit: u64) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    let mut reader = file.take(limit.saturating_add(1));
    let mut total = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), total)),
            n => {
                hasher.update(&buffer[..n]);
                total += n as u64;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests damage files behind the door's back")]
#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        (folder, blobs)
    }

    #[test]
    fn a_blob_comes_in_over_a_restart() {
        let (_folder, blobs) = blobs();
        let (bytes, digest) = (b"a model", Digest::of(b"a model"));
        let mut part = blobs.resume(&digest, 7).unwrap();
        part.append(&bytes[..3]).unwrap();
        drop(part);
        let mut part = blobs.resume(&digest, 7).unwrap();
        assert_eq!(part.received(), 3);
        part.append(&bytes[3..]).unwrap();
        part.finish().unwrap();
        assert!(blobs.has(&digest, 7) && !blobs.has(&digest, 8));
        let mut text = String::new();
        blobs.open_verified(&digest, 7).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a model");
        assert_eq!(blobs.total_bytes().unwrap(), 7);
    }

    #[test]
    fn a_torn_part_with_wrong_bytes_ends_in_a_digest_error_and_is_gone() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"a model");
        // A power cut may leave zeros where data was not yet on the flash.
        fs::write(blobs.part_path(&digest), b"a \0\0").unwrap();
        let mut part = blobs.resume(&digest, 7).unwrap();
        part.append(b"del").unwrap();
        assert!(matches!(part.finish(), Err(BlobError::Digest { .. })));
        assert_eq!(blobs.resume(&digest, 7).unwrap().received(), 0);
        assert!(!blobs.has(&digest, 7));
    }

    #[test]
    fn a_part_longer_than_signed_starts_anew_and_no_byte_too_many_is_written() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"a model");
        fs::write(blobs.part_path(&digest), b"far too long").unwrap();
        let mut part = blobs.resume(&digest, 7).unwrap();
        assert_eq!(part.received(), 0);
        assert!(matches!(part.append(b"far too long"), Err(BlobError::Length { found: 12, .. })));
        assert_eq!(fs::metadata(blobs.part_path(&digest)).unwrap().len(), 0);
        assert!(matches!(part.finish(), Err(BlobError::Length { found: 0, .. })));
    }

    #[test]
    fn a_file_with_a_hole_gets_no_name_whatever_was_appended() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"a model");
        let mut part = blobs.resume(&digest, 7).unwrap();
        part.append(b"a mo").unwrap();
        // Another one starts the same file anew, under the first one's feet.
        blobs.resume(&digest, 7).unwrap().restart().unwrap();
        part.append(b"del").unwrap();
        assert!(matches!(part.finish(), Err(BlobError::Digest { .. })));
        assert!(!blobs.has(&digest, 7) && blobs.resume(&digest, 7).unwrap().received() == 0);
    }

    #[test]
    fn a_part_that_lost_its_name_is_done_only_if_the_blob_is_there() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"a model");
        let whole = || {
            let mut part = blobs.resume(&digest, 7).unwrap();
            part.append(&b"a model"[part.received() as usize..]).unwrap();
            part
        };
        let (first, second) = (whole(), whole());
        first.finish().unwrap();
        second.finish().unwrap();
        assert!(blobs.open_verified(&digest, 7).is_ok());
        // Swept away, and another one begins: the second's bytes must not be named for the first's.
        let swept = whole();
        blobs.collect_garbage(&BTreeSet::new()).unwrap();
        blobs.resume(&digest, 7).unwrap().append(b"a").unwrap();
        let lost = swept.finish().unwrap_err();
        assert!(matches!(&lost, BlobError::Disk { cause, .. } if cause.kind() == io::ErrorKind::NotFound), "{lost}");
        assert!(!blobs.has(&digest, 7) && !blobs.path(&digest).exists());
    }

    #[test]
    fn a_blob_that_rotted_is_refused_and_removed() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"a model");
        fs::write(blobs.path(&digest), b"a modem").unwrap();
        assert!(matches!(blobs.open_verified(&digest, 7), Err(BlobError::Digest { .. })));
        assert!(matches!(blobs.open_verified(&digest, 7), Err(BlobError::Disk { .. })));
        fs::write(blobs.path(&digest), b"a mod").unwrap();
        assert!(matches!(blobs.open_verified(&digest, 7), Err(BlobError::Length { found: 5, .. })));
    }

    #[test]
    fn a_link_is_no_blob_and_nothing_is_written_through_it() {
        let (folder, blobs) = blobs();
        let (digest, outside) = (Digest::of(b"a model"), folder.path().join("outside"));
        fs::write(&outside, b"a model").unwrap();
        for name in [blobs.path(&digest), blobs.part_path(&digest)] {
            std::os::unix::fs::symlink(&outside, name).unwrap();
        }
        assert!(!blobs.has(&digest, 7));
        assert!(matches!(blobs.open_verified(&digest, 7), Err(BlobError::Disk { .. })));
        let mut part = blobs.resume(&digest, 7).unwrap();
        assert_eq!(part.received(), 0);
        part.append(b"a model").unwrap();
        part.finish().unwrap();
        fs::write(&outside, b"changed").unwrap();
        assert!(blobs.has(&digest, 7) && blobs.open_verified(&digest, 7).is_ok());
    }

    #[test]
    fn garbage_goes_and_what_is_named_stays() {
        let (_folder, blobs) = blobs();
        let (kept, half, gone) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        for name in [blobs.path(&kept), blobs.part_path(&half), blobs.path(&gone), blobs.folder.join("stray")] {
            fs::write(name, b"x").unwrap();
        }
        assert_eq!(blobs.collect_garbage(&[kept, half].into()).unwrap(), 2);
        assert!(blobs.path(&kept).exists() && blobs.part_path(&half).exists());
    }
}
