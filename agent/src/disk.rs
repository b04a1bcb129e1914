//! The only door to durable writes on the device.
//!
//! A file is replaced whole or not at all: written beside its name, fsynced, renamed, and its folder fsynced. Nothing else
//! in this crate writes a file that must survive a power cut, and nothing here knows what the bytes mean.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

mod blobs;
mod space;
pub use blobs::{BlobError, Blobs, Part};
pub use space::{RESERVE_BYTES, Reserve, free_bytes};

/// Mode of files that hold secrets.
pub const SECRET: u32 = 0o600;
/// Mode of other files.
pub const PLAIN: u32 = 0o640;

const TEMPORARY: &str = ".tmp";

/// Replaces `path` by a file with these bytes, durably.
///
/// # Errors
/// What the system said; `path` is then as it was before.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path, TEMPORARY)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What is left of it must not pass for the file; a failure to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// A file that comes in piece by piece beside its name, and gets the name when it is whole. Dropped before, it is gone.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// An empty one for `path`.
    ///
    /// # Errors
    /// What the system said.
    pub fn beside(path: &Path, mode: u32) -> io::Result<Self> {
        let temporary = beside(path, TEMPORARY)?;
        let file = create_new(&temporary, mode)?;
        Ok(Self { file, temporary, path: path.into() })
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// What the system said.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives it its name, durably, in place of the file that has it.
    ///
    /// # Errors
    /// What the system said; the old file is then as it was.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Renamed away after `finish`. A failure leaves a file that the next one for this name replaces.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes `folder` and what lies above it, mode 0700, durably.
///
/// # Errors
/// What the system said.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Moves the folder `from`, whose files are written and fsynced, to `to`, which must not exist. Both lie in one folder.
///
/// # Errors
/// What the system said; nothing is moved then.
pub fn publish_folder(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", to.display())));
    }
    sync_folder(from)?;
    fs::rename(from, to)?;
    sync_folder(to.parent().unwrap_or(Path::new("/")))
}

/// Exchanges two folders that lie in one: at no instant is either name without a whole folder.
///
/// # Errors
/// What the system said; nothing is moved then. File systems that cannot exchange fail too.
pub fn exchange_folders(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    sync_folder(one)?;
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    sync_folder(other.parent().unwrap_or(Path::new("/")))
}

/// Removes `path` if it is there, durably.
///
/// # Errors
/// What the system said.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path.parent().unwrap_or(Path::new("."))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether the system said that there is no room, as opposed to everything else that a disk may say.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Moves a file that cannot be read out of the way, to `<name>.damaged`, so that somebody can look at it.
///
/// # Errors
/// What the system said.
pub fn set_aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, beside(path, ".damaged")?) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The bytes of `path`, at most `limit`; none where there is no such file.
///
/// # Errors
/// What the system said, or that the file is longer.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too long", path.display())));
    }
    Ok(Some(bytes))
}

/// An exclusive lock that lasts as long as the value: two agents on one folder would undo each other's records.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] where another process holds it.
pub fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(SECRET).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create_new(path, mode)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    // What a power cut left there may have another mode, which secrets must not inherit.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_file(&path, b"old", PLAIN).unwrap();
        // What a power cut left behind is no obstacle.
        fs::write(folder.path().join("a.tmp"), b"torn").unwrap();
        write_file(&path, b"new", SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!folder.path().join("a.tmp").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
    }

    #[test]
    fn a_file_that_comes_in_has_its_name_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_file(&path, b"old", PLAIN).unwrap();
        let mut coming = NewFile::beside(&path, PLAIN).unwrap();
        coming.append(b"ne").unwrap();
        drop(coming);
        assert_eq!((fs::read(&path).unwrap().as_slice(), folder.path().join("a.tmp").exists()), (&b"old"[..], false));
        let mut coming = NewFile::beside(&path, PLAIN).unwrap();
        coming.append(b"ne").unwrap();
        coming.append(b"w").unwrap();
        coming.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), folder.path().join("a.tmp").exists()), (&b"new"[..], false));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        assert!(write_file(&path, b"x", PLAIN).is_err());
        assert!(path.is_dir() && !folder.path().join("a.tmp").exists());
    }

    #[test]
    fn reading_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_bounded(&path, 3).unwrap(), None);
        write_file(&path, b"four", PLAIN).unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap().unwrap(), b"four");
        assert_eq!(read_bounded(&path, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_lock_excludes_a_second_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock(&path).unwrap();
    }

    #[test]
    fn folders_are_exchanged_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        assert!(exchange_folders(&one, &other).is_err());
        for (path, text) in [(&one, "1"), (&other, "2")] {
            make_folder(path).unwrap();
            write_file(&path.join("a"), text.as_bytes(), SECRET).unwrap();
        }
        exchange_folders(&one, &other).unwrap();
        assert_eq!((fs::read(one.join("a")).unwrap(), fs::read(other.join("a")).unwrap()), (b"2".into(), b"1".into()));
    }

    #[test]
    fn a_folder_is_published_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        make_folder(&from).unwrap();
        write_file(&from.join("a"), b"x", SECRET).unwrap();
        publish_folder(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a")).unwrap(), b"x");
        make_folder(&from).unwrap();
        assert_eq!(publish_folder(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
