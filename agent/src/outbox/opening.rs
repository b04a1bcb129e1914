//! From what a start finds on the disk to an outbox that can be written.
//!
//! - No file: a new one, and a new stream.
//! - A file that is damaged, or of a schema that this agent does not know: set aside, then as above.
//! - A file that an earlier boot than the last one opened last: somebody put a copy back. Its rows were the former one's to
//!   deliver; totals stay, rows go, a new stream begins. A whole device put back from an image has both databases old, and
//!   looks whole here: the server's watermark gives it away, see [`super::offering`].
//! - Windows that were open: closed as they stand, for sequence terms do not cross boots.
//!
//! `state.db` keeps two numbers for this: how often the agent started, and the last start that opened the outbox.

use std::path::Path;

use tern_protocol::report::v1::{Item, Stream};

use super::{
    database::{Database, FILE, Failure, Meta, wait},
    offering::{Stamp, fresh_stream, new_stream},
    rows,
};
use crate::disk;

/// What `state.db` says of earlier starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boots {
    /// How often the agent started before.
    pub started: u64,
    /// The last of those starts that opened the outbox; 0 where none did.
    pub opened: u64,
}

/// Opens the outbox of this folder for the start after `boots`, whose number is `running` where it was given out before;
/// makes it where there is none that can be used.
pub(super) fn open(folder: &Path, boots: Boots, running: Option<u64>, stamp: Stamp) -> Result<Database, Failure> {
    let (mut database, is_new, previous) = match Database::open(folder) {
        Ok(Some(database)) => (database, false, None),
        Ok(None) => (Database::create(folder, fresh_stream()?)?, true, None),
        Err(Failure::Damaged(why)) => {
            tracing::error!(%why, "outbox.db is damaged and set aside: statistics that were not sent are lost");
            let previous = set_aside(folder)?;
            (Database::create(folder, fresh_stream()?)?, true, previous)
        }
        Err(other) => return Err(other),
    };
    let before = database.meta;
    let boot = running.unwrap_or_else(|| boots.started.max(before.boot) + 1);
    if before.boot == boot {
        // Opened again within one start: what is open goes on.
        return Ok(database);
    }
    if !is_new && before.boot < boots.opened {
        tracing::error!(
            boot = before.boot,
            newest = boots.opened,
            "outbox.db is an old copy: its rows are not sent again"
        );
        database.meta.boot = boot;
        database.disown(true, stamp)?;
        return Ok(database);
    }
    // The very first outbox of a device is no news.
    let is_news = is_new && (boots.opened > 0 || previous.is_some());
    database.change_meta(Meta { boot, ..before }, |transaction| {
        let sql = "SELECT bytes, seal FROM open ORDER BY subject";
        let mut statement = transaction.prepare(sql)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (bytes, seal): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
            match rows::decode(&bytes, &seal) {
                Some(item) => wait(transaction, before.boot, item)?,
                None => tracing::error!("an open window of the start before rotted on the disk and is lost"),
            }
        }
        transaction.execute("DELETE FROM open", [])?;
        if is_news {
            wait(transaction, boot, Item::Event(new_stream(previous, stamp)))?;
        }
        Ok(())
    })?;
    Ok(database)
}

/// Moves the files out of the way; answers with the stream, where that can still be read.
fn set_aside(folder: &Path) -> Result<Option<Stream>, Failure> {
    let stream = last_words(folder);
    // The file goes first: cut in between, one without its journal would come up as an older outbox that looks whole, and
    // give out numbers twice. A journal without a file is nothing to SQLite.
    for suffix in ["", "-wal", "-shm"] {
        let moved = disk::set_aside(&folder.join(format!("{FILE}{suffix}")));
        moved.map_err(|error| Failure::Unavailable(format!("set it aside: {error}")))?;
    }
    Ok(stream)
}

fn last_words(folder: &Path) -> Option<Stream> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(folder.join(FILE), flags).ok()?;
    connection.query_row("SELECT stream FROM meta", [], |row| row.get(0)).ok().map(Stream)
}

/// What `doctor` says of the outbox: rows that are not covered, or what is wrong; none where there is no outbox.
pub(super) fn examine(folder: &Path) -> Result<Option<(u64, u64)>, Failure> {
    let Some(database) = Database::open(folder)? else { return Ok(None) };
    let offered = database.meta.sequence - database.meta.watermark;
    Ok(Some((database.waiting()? + offered, database.bytes()?)))
}
