//! What befalls the devices of a story beside kills: a clock at 1970, a disk that fills up, a network that goes away.
//!
//! The disk is a small file system in memory, which only root can mount; the clock is libfaketime's. Both belong to the
//! system tests; the quickstart needs neither.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

/// Where Debian's package `libfaketime` puts it, by architecture.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];
/// Bytes of a small disk: room for an agent's databases, its reserve and several versions of a small model.
const SMALL_DISK: u64 = 48 << 20;

/// Which devices, by index, have which hardship.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hardships {
    /// The network can be taken away from every device.
    pub cables: bool,
    /// This one's clock stands at 1970 whenever its agent starts.
    pub clock_at_1970: Option<usize>,
    /// This one's state lies on a small disk, which is full for the middle third of the story.
    pub small_disk: Option<usize>,
    /// This one is without network for the middle third of the story.
    pub offline: Option<usize>,
}

/// What makes a program believe that it is 1970.
///
/// # Errors
/// Where libfaketime is not installed.
pub fn clock_at_1970() -> anyhow::Result<[(&'static str, String); 3]> {
    let library = FAKETIME.iter().find(|path| Path::new(path).exists());
    let library = library.context("libfaketime is missing: apt-get install libfaketime")?;
    Ok([
        ("LD_PRELOAD", (*library).to_owned()),
        ("FAKETIME", "@1970-01-01 00:00:00".to_owned()),
        // Only the date is wrong on such a device: its pauses are as long as anybody's.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// A small disk; gone with the value.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `folder`, which must exist.
    ///
    /// # Errors
    /// Where this process may not mount.
    pub fn mount(folder: &Path) -> anyhow::Result<Self> {
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let options = format!("size={SMALL_DISK},mode=0700,uid={},gid={}", user.as_raw(), group.as_raw());
        let mut mount = as_root("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tern-small-disk"]).arg(folder);
        let status = mount.status().context("running mount")?;
        ensure!(status.success(), "mounting a small disk failed with {status}: run system tests as root or with sudo");
        Ok(Self(folder.into()))
    }

    /// Fills the disk to its last byte.
    ///
    /// # Errors
    /// Where it fails otherwise than by being full.
    pub fn fill(&self) -> anyhow::Result<()> {
        use std::io::{ErrorKind, Write};
        let mut ballast = std::fs::File::create(self.ballast()).context("making ballast")?;
        // Large pieces first, then bytes, so that nothing of use is left.
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![0xff; piece];
            loop {
                match ballast.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("filling the disk: {error}"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// What the system said.
    pub fn free(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.ballast()).context("removing ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as a process that was killed a moment ago may still hold files. Nobody is left to tell of a failure.
        let _ = as_root("umount").arg("-l").arg(&self.0).status();
    }
}

/// A command that only root may run; where this process is somebody else, through sudo without a question.
fn as_root(program: &str) -> Command {
    if rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}
