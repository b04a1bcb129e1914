//! A hook that is a command: incident on standard input, a clean environment, bounded in time and output.
//!
//! It runs in a process group of its own. At its time limit, and where the server stops, the whole group is killed by its
//! number, so nothing that it started is left behind.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
    time::timeout,
};

use crate::{disk, store::Delivery, wording::plain};

/// Output that is kept of each stream, the last bytes of it; the rest is let go, so that nobody blocks on a full pipe.
const KEPT: usize = 16 << 10;
/// Characters that the record of a run holds.
const SHOWN: usize = 400;
/// Characters of each stream in it, its last lines: room is left for the words before them.
const LAST: usize = 180;
/// Time for output that is still in the pipes once the command has ended: a process that it left behind may hold them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command and its bounds.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Variables that it sees beside PATH and HOME.
    pub environment: Vec<String>,
    /// Its time.
    pub limit: Duration,
    /// Where the folder for samples is made, empty for now.
    pub samples: PathBuf,
}

/// Kills the group when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An Err means that nobody is left in it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Command {
    /// Runs it once.
    ///
    /// # Errors
    /// In words for people: how it ended, and the end of what it said.
    pub async fn run(&self, hook: &str, delivery: &Delivery) -> Result<String, String> {
        let number = delivery.incident.number;
        let samples = self.samples.join(number.to_string());
        disk::create_folder(&samples).map_err(|error| format!("make a folder for samples: {error}"))?;
        let ended = self.attend(hook, delivery, &samples).await;
        if let Err(error) = disk::remove_tree(&samples) {
            tracing::warn!(%error, folder = %samples.display(), "a folder of samples was not removed");
        }
        ended
    }

    async fn attend(&self, hook: &str, delivery: &Delivery, samples: &Path) -> Result<String, String> {
        let mut child =
            self.spawn(hook, delivery, samples).map_err(|error| format!("start {:?}: {error}", self.words[0]))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(pid);
        let json = serde_json::to_vec(&delivery.incident).map_err(|error| error.to_string())?;
        let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let status = {
            let feeding = async {
                if let Some(mut input) = input {
                    // A command that does not read what it is told is free to.
                    let _ = input.write_all(&json).await;
                }
                std::future::pending::<()>().await
            };
            let reading = async { tokio::join!(gather(out, &mut said), gather(err, &mut complained)) };
            attended(&mut child, feeding, reading, self.limit).await
        };
        drop(group);
        let words = format!("{} {}", tail(&said), tail(&complained));
        tracing::info!(hook, incident = delivery.incident.number, output = words.trim(), "a hook's output");
        match status {
            Some(Ok(status)) if status.success() => Ok(plain(words.trim(), SHOWN)),
            Some(Ok(status)) => Err(plain(&format!("{status}: {}", words.trim()), SHOWN)),
            Some(Err(error)) => Err(format!("wait for it: {error}")),
            None => {
                // It was killed; what is left of it is taken in.
                let _ = timeout(LAST_WORDS, child.wait()).await;
                Err(plain(&format!("killed after {} s: {}", self.limit.as_secs(), words.trim()), SHOWN))
            }
        }
    }

    fn spawn(&self, hook: &str, delivery: &Delivery, samples: &Path) -> std::io::Result<Child> {
        let mut command = tokio::process::Command::new(&self.words[0]);
        let names = self.environment.iter().map(String::as_str).chain(["PATH", "HOME"]);
        command
            .args(&self.words[1..])
            .env_clear()
            .envs(names.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("TERN_HOOK", hook)
            .env("TERN_INCIDENT", delivery.incident.number.to_string())
            .env("TERN_SAMPLES_DIR", samples)
            .current_dir(samples)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits until the child has ended and its output is read, or for `limit`: none then.
async fn attended(
    child: &mut Child,
    feeding: impl Future<Output = ()>,
    reading: impl Future<Output = ((), ())>,
    limit: Duration,
) -> Option<std::io::Result<ExitStatus>> {
    let work = async {
        tokio::pin!(feeding, reading);
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                _ = &mut reading, if !is_read => is_read = true,
                () = &mut feeding => {}
            }
        };
        if !is_read {
            let _ = timeout(LAST_WORDS, reading).await;
        }
        status
    };
    timeout(limit, work).await.ok()
}

/// Reads to the end, keeping the last [`KEPT`] bytes.
async fn gather(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
}

/// The last lines of an output, as many as fit whole: they say how it ended. Of a last line that is too long, its two ends.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut kept = Vec::new();
    let mut room = LAST;
    for line in text.trim().lines().rev() {
        let length = line.chars().count();
        if length > room {
            if kept.is_empty() {
                let end: String = line.chars().skip(length - LAST / 2).collect();
                kept.push(format!("{} … {end}", line.chars().take(LAST / 2 - 3).collect::<String>()));
            }
            break;
        }
        room = room.saturating_sub(length + 1);
        kept.push(line.to_owned());
    }
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_begins_with_a_line() {
        assert_eq!(tail(b"  one\ntwo  \n"), "one\ntwo");
        let lines: String = (0..40).map(|n| format!("round {n} of 40\n")).collect();
        let kept = tail(lines.as_bytes());
        assert!(kept.starts_with("round ") && kept.ends_with("round 39 of 40"), "{kept}");
        assert!((LAST - 15..=LAST).contains(&kept.len()), "as many lines as fit: {kept}");
        let long = format!("fitted {} done", "x".repeat(900));
        let kept = tail(format!("before\n{long}").as_bytes());
        assert!(kept.starts_with("fitted xxx") && kept.ends_with("xxx done") && kept.contains(" … "), "{kept}");
        assert_eq!(kept.chars().count(), LAST);
        assert_eq!(tail(b" \n "), "");
    }
}
