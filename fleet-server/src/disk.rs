//! The only door to durable writes: a file is either the old one or the new one, whole, whatever instant power is cut.
//!
//! Order: bytes into a temporary file beside the target, fsync, rename, fsync of the folder. Everything here blocks;
//! asynchronous code calls it on a blocking thread. SQLite writes its own files, see `store`.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

pub mod blobs;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the server's own user: keys and tokens.
    Private,
    /// Everybody: certificates, metadata, the ready-file.
    Public,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// The ending of temporary files; [`sweep`] removes what a crash left of them.
const PARTIAL: &str = ".partial";

/// Writes `bytes` as the whole content of `path`, replacing the file that was there.
///
/// # Errors
/// Where a step fails, or what was there is a device, a pipe or a socket, which a rename would destroy; then `path` is as
/// it was.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(io::Error::other("it is a device, a pipe or a socket, and only a file can be replaced"));
    }
    let partial = partial_path(path)?;
    // What a killed write left would keep its own mode.
    if let Err(error) = fs::remove_file(&partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_folder(parent(path)?)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Moves a finished, already synced file or folder to its final name.
///
/// # Errors
/// Where the rename or the sync of the receiving folder fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(parent(to)?)
}

/// Creates a folder that only the server's own user may enter, and those above it.
///
/// # Errors
/// Where it cannot be made, or a file has its name.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_folder(path)?;
    path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), sync_folder)
}

/// Removes a file, durably; one that is not there is fine.
///
/// # Errors
/// Where the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(parent(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a folder and all that is in it; one that is not there is fine.
///
/// # Errors
/// Where the system refuses.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes temporary files that a crash left in `folder`; returns how many there were.
///
/// # Errors
/// Where the folder cannot be read.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(PARTIAL)) {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The content of a file of at most `limit` bytes, or none where there is no such file.
///
/// # Errors
/// Where it cannot be read or is larger.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// Holds a folder for one process; dropping it lets go.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Takes the folder for this process alone.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] where another process holds it.
pub fn lock(path: &Path) -> io::Result<FolderLock> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn partial_path(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(PARTIAL);
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private_ones_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/key");
        create_folder(&folder.path().join("a")).unwrap();
        write(&path, b"one", Access::Private).unwrap();
        write(&path, b"two", Access::Private).unwrap();
        assert_eq!(read(&path, 3).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn reading_is_bounded_and_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert!(read(&path, 10).unwrap().is_none());
        write(&path, b"eleven byte", Access::Public).unwrap();
        assert!(read(&path, 10).is_err());
        assert_eq!(read(&path, 11).unwrap().unwrap().len(), 11);
    }

    #[test]
    fn what_a_crash_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("timestamp.json.partial"), b"half").unwrap();
        fs::write(folder.path().join("timestamp.json"), b"whole").unwrap();
        assert_eq!(sweep(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock(&path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"x", Access::Public).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(write(&path, b"x", Access::Public).is_err());
        assert!(!fs::metadata(&path).unwrap().is_file());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
