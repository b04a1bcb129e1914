//! What `init` fixed for the life of the data folder.

use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::ids::FleetId;

use super::{Store, StoreError, damaged, from_json, parse, to_json};

/// What `init` fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSettings {
    /// The fleet.
    pub fleet: FleetId,
    /// Names and addresses that the server's certificate carries.
    pub names: Vec<String>,
}

impl Store {
    /// Records what `init` fixed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle(&self, settings: FleetSettings) -> Result<(), StoreError> {
        self.write(move |connection| {
            let pairs = [("fleet", settings.fleet.to_string()), ("names", to_json(&settings.names))];
            for (key, value) in pairs {
                connection.execute("INSERT INTO settings (key, value) VALUES (?1, ?2)", params![key, value])?;
            }
            Ok(())
        })
        .await
    }

    /// What `init` fixed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a part is missing.
    pub async fn settings(&self) -> Result<FleetSettings, StoreError> {
        self.read(|connection| {
            Ok(FleetSettings {
                fleet: parse("fleet", &value(connection, "fleet")?)?,
                names: from_json("names", value(connection, "names")?.as_bytes())?,
            })
        })
        .await
    }
}

fn value(connection: &Connection, key: &'static str) -> Result<String, StoreError> {
    let found =
        connection.query_row("SELECT value FROM settings WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    found.ok_or_else(|| damaged(key, "it is missing"))
}
