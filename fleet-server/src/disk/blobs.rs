//! Content-addressed files: `blobs/sha256/<hex>`, each present only whole and checked.
//!
//! A blob is streamed into `blobs/incoming`, hashed on the way, and gets its name only after length, digest and fsync.
//! What is there is never changed; serving does not check again, because every device does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tern_protocol::digest::{Digest, Hasher};

/// Room that uploads leave on the disk: one part in so many, but at least and at most so many bytes.
const RESERVE: (u64, std::ops::RangeInclusive<u64>) = (20, 256 << 20..=1 << 30);

/// Why a stream of bytes did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More bytes came than the blob may have.
    #[error("more than the expected {0} bytes")]
    TooLong(u64),
    /// The bytes have another digest than the blob's name.
    #[error("the bytes have digest {found}")]
    WrongDigest {
        /// Their digest.
        found: Digest,
    },
    /// The disk failed.
    #[error("write a blob")]
    Disk(#[from] io::Error),
}

/// The folder of blobs.
#[derive(Debug)]
pub struct Blobs {
    folder: PathBuf,
    incoming: PathBuf,
    next: AtomicU64,
}

impl Blobs {
    /// Opens the folder, making it where it is missing, and removes uploads that a crash cut off.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn open(root: &Path) -> io::Result<Self> {
        let (folder, incoming) = (root.join("sha256"), root.join("incoming"));
        super::remove_tree(&incoming)?;
        super::create_folder(&folder)?;
        super::create_folder(&incoming)?;
        Ok(Self { folder, incoming, next: AtomicU64::new(0) })
    }

    /// The blob's length, where it is there.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn length(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the disk has room for uploads beyond what the server needs to go on.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn has_room(&self) -> io::Result<bool> {
        let figures = rustix::fs::statvfs(&self.incoming)?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
        Ok(is_room(bytes(figures.f_bavail), bytes(figures.f_blocks)))
    }

    /// Begins to take in the blob `digest` of at most `limit` bytes.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn receive(&self, digest: Digest, limit: u64) -> io::Result<Incoming> {
        let partial = self.incoming.join(format!("{}", self.next.fetch_add(1, Relaxed)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let hasher = Hasher::default();
        Ok(Incoming { file, partial: Some(partial), target: self.path(&digest), digest, hasher, length: 0, limit })
    }

    /// Opens the blob for reading from `offset`; none where it is not there.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn read(&self, digest: &Digest, offset: u64) -> io::Result<Option<Piece>> {
        match File::open(self.path(digest)) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(offset))?;
                Ok(Some(Piece(file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

fn is_room(free: u64, total: u64) -> bool {
    let (part, bytes) = RESERVE;
    free >= (total / part).clamp(*bytes.start(), *bytes.end())
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Piece(File);

impl Piece {
    /// The next bytes, at most `limit`; empty at the end.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn next(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.0).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A blob that is being taken in; dropped unfinished, it leaves nothing.
pub struct Incoming {
    file: File,
    partial: Option<PathBuf>,
    target: PathBuf,
    digest: Digest,
    hasher: Hasher,
    length: u64,
    limit: u64,
}

impl Incoming {
    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLong`] beyond the limit, or where the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.limit {
            return Err(BlobError::TooLong(self.limit));
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Checks the digest and gives the blob its name; returns its length.
    ///
    /// # Errors
    /// [`BlobError::WrongDigest`], or where the disk refuses.
    pub fn finish(mut self) -> Result<u64, BlobError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.digest {
            return Err(BlobError::WrongDigest { found });
        }
        self.file.sync_all()?;
        if let Some(partial) = &self.partial {
            super::rename(partial, &self.target)?;
        }
        self.partial = None;
        Ok(self.length)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _ = fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn a_blob_is_there_only_whole_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut incoming = blobs.receive(digest, 11).unwrap();
        incoming.write(b"hello ").unwrap();
        assert_eq!(blobs.length(&digest).unwrap(), None);
        incoming.write(b"world").unwrap();
        assert_eq!(incoming.finish().unwrap(), 11);
        assert_eq!(blobs.length(&digest).unwrap(), Some(11));
        assert_eq!(blobs.read(&digest, 6).unwrap().unwrap().next(3).unwrap(), b"wor");
        assert_eq!(files(&folder.path().join("incoming")), 0);
    }

    #[test]
    fn other_bytes_and_too_many_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = Digest::of(b"right");
        let mut wrong = blobs.receive(digest, 5).unwrap();
        wrong.write(b"wrong").unwrap();
        assert!(matches!(wrong.finish(), Err(BlobError::WrongDigest { found }) if found == Digest::of(b"wrong")));
        let mut long = blobs.receive(digest, 5).unwrap();
        assert!(matches!(long.write(b"right!"), Err(BlobError::TooLong(5))));
        drop(long);
        assert_eq!((files(&folder.path().join("incoming")), files(&folder.path().join("sha256"))), (0, 0));
    }

    #[test]
    fn uploads_leave_a_reserve_on_the_disk() {
        let (mib, gib) = (1 << 20, 1 << 30);
        assert!(is_room(256 * mib, gib) && !is_room(256 * mib - 1, gib));
        assert!(is_room(gib / 2, 10 * gib) && !is_room(gib / 2 - 1, 10 * gib));
        assert!(is_room(gib, 252 * gib) && !is_room(gib - 1, 252 * gib), "a big disk needs no bigger reserve");
        let folder = tempfile::tempdir().unwrap();
        Blobs::open(folder.path()).unwrap().has_room().unwrap();
    }

    #[test]
    fn a_crash_in_an_upload_is_cleaned_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        Blobs::open(folder.path()).unwrap();
        File::create(folder.path().join("incoming/7")).unwrap();
        Blobs::open(folder.path()).unwrap();
        assert_eq!(files(&folder.path().join("incoming")), 0);
    }
}
