//! The SQL of `state.db`; that of `outbox.db` is in `outbox`.
//!
//! Tables: `fact` (name, value), `floor` (role, key set, version), `model` (name, commit record as JSON). The fact `seal` is
//! the SHA-256 of the whole state as JSON, so that a page which rotted without SQLite noticing is noticed here. Schema 1
//! is read by agents that know schema 1; a higher `user_version` is refused, never guessed at.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use tern_protocol::digest::Digest;

use crate::{
    disk,
    state::{Floor, State},
};

const SCHEMA: i64 = 1;
const FILE: &str = "state.db";

#[derive(Debug)]
pub(super) struct Database(Connection);

impl Database {
    /// Opens the database, making it where it is missing.
    pub(super) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(state_dir.join(FILE)).context("open state.db")?;
        Self::prepare(connection)
    }

    /// Opens the database that must be there.
    pub(super) fn open_existing(state_dir: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(state_dir.join(FILE), flags).context("open state.db")?;
        let version: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).context("read state.db")?;
        if version != SCHEMA {
            bail!("state.db has schema {version}, this agent knows {SCHEMA}");
        }
        Self::prepare(connection)
    }

    fn prepare(connection: Connection) -> anyhow::Result<Self> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL").context("state.db")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS floor (role TEXT, key_set TEXT, version INTEGER NOT NULL,
                 PRIMARY KEY (role, key_set)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS model (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
             PRAGMA user_version = 1;",
        )?;
        Ok(Self(connection))
    }

    /// Writes the whole state in one transaction.
    pub(super) fn save(&mut self, state: &State) -> anyhow::Result<()> {
        let transaction = self.0.transaction().context("state.db")?;
        write(&transaction, state)?;
        transaction.commit().context("commit to state.db")
    }

    /// The state, if its seal holds.
    pub(super) fn load(&mut self) -> anyhow::Result<State> {
        let check: String =
            self.0.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).context("check state.db")?;
        if check != "ok" {
            bail!("state.db is damaged: {check}");
        }
        let mut state: State = serde_json::from_str(&self.fact("state")?).context("state.db")?;
        state.floors = self.floors()?;
        state.models = self.models()?;
        if self.fact("seal")? != seal(&state)? {
            bail!("state.db does not match its seal");
        }
        Ok(state)
    }

    fn fact(&self, name: &str) -> anyhow::Result<String> {
        let found = self.0.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0));
        found.map_err(|e| anyhow!("state.db has no {name}: {e}"))
    }

    fn floors(&self) -> anyhow::Result<Vec<Floor>> {
        let mut statement = self.0.prepare("SELECT role, key_set, version FROM floor ORDER BY role, key_set")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))?;
        rows.map(|row| {
            let (role, key_set, version) = row?;
            Ok(Floor { role, key_set: key_set.parse()?, version: u64::try_from(version)? })
        })
        .collect()
    }

    fn models(
        &self,
    ) -> anyhow::Result<std::collections::BTreeMap<tern_protocol::ids::ModelName, crate::state::ModelRecord>> {
        let mut statement = self.0.prepare("SELECT name, record FROM model")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (name, record) = row?;
            Ok((name.parse()?, serde_json::from_str(&record)?))
        })
        .collect()
    }
}

fn write(transaction: &Transaction<'_>, state: &State) -> anyhow::Result<()> {
    transaction.execute_batch("DELETE FROM floor; DELETE FROM model; DELETE FROM fact;")?;
    for floor in &state.floors {
        // Versions beyond SQLite's integers come only from a key holder who counts to the top; they are capped, not lost.
        let version = i64::try_from(floor.version).unwrap_or(i64::MAX);
        transaction.execute(
            "INSERT INTO floor (role, key_set, version) VALUES (?1, ?2, ?3)",
            params![floor.role, floor.key_set.to_string(), version],
        )?;
    }
    for (name, record) in &state.models {
        transaction.execute(
            "INSERT INTO model (name, record) VALUES (?1, ?2)",
            params![name.to_string(), serde_json::to_string(record)?],
        )?;
    }
    let rest = State { floors: Vec::new(), models: Default::default(), ..state.clone() };
    for (name, value) in [("state", serde_json::to_string(&rest)?), ("seal", seal(state)?)] {
        transaction.execute("INSERT INTO fact (name, value) VALUES (?1, ?2)", params![name, value])?;
    }
    Ok(())
}

/// A digest of everything, in an order that does not depend on when a floor was first seen.
fn seal(state: &State) -> anyhow::Result<String> {
    let mut sorted = state.clone();
    sorted.floors.sort_by(|a, b| (&a.role, a.key_set).cmp(&(&b.role, b.key_set)));
    for floor in &mut sorted.floors {
        floor.version = floor.version.min(i64::MAX as u64);
    }
    Ok(Digest::of(&serde_json::to_vec(&sorted)?).to_string())
}

/// Moves a database that cannot be used out of the way, with its journal, which would otherwise be played into the next.
pub(super) fn set_aside(state_dir: &Path) -> anyhow::Result<()> {
    for name in ["state.db-wal", "state.db-shm", FILE] {
        disk::set_aside(&state_dir.join(name)).with_context(|| format!("set {name} aside"))?;
    }
    Ok(())
}
