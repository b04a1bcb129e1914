//! Signs of progress that a plan looks at and a twin does not carry: since when a model stands in its state by the
//! server's clock, and when a device first fetched something of a version.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, ModelVersion},
    twin::{ModelState, Twin},
};

use super::super::{Store, StoreError, integer, millis, to_json};

/// What a device fetches.
#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Manifest(&'a ModelVersion),
    Blob(&'a Digest),
}

impl Store {
    /// Notes that the device fetches the manifest of a version, unless that was noted for its assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fetches_manifest(
        &self,
        device: DeviceId,
        version: ModelVersion,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (of, by) = (version.clone(), device.clone());
        if self.read(move |connection| is_first(connection, &by, Piece::Manifest(&of))).await? {
            self.write(move |connection| note_fetch(connection, &device, Piece::Manifest(&version), now)).await?;
        }
        Ok(())
    }

    /// The same of a blob.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fetches_blob(&self, device: DeviceId, blob: Digest, now: Timestamp) -> Result<(), StoreError> {
        let by = device.clone();
        if self.read(move |connection| is_first(connection, &by, Piece::Blob(&blob))).await? {
            self.write(move |connection| note_fetch(connection, &device, Piece::Blob(&blob), now)).await?;
        }
        Ok(())
    }
}

// `IN` rather than a join: the same condition serves the question and the update.
const UNFETCHED: &str = "device = ?1 AND fetched IS NULL AND taken_back IS NULL AND departed = 0 AND rollout IN (";
const OF_MANIFEST: &str = "SELECT id FROM rollouts WHERE team = ?2 AND model_id = ?3 AND version = ?4)";
const OF_BLOB: &str =
    "SELECT id FROM rollouts JOIN version_blobs USING (team, model_id, version) WHERE sha256 = ?2 AND closed IS NULL)";

fn is_first(connection: &Connection, device: &DeviceId, piece: Piece<'_>) -> Result<bool, StoreError> {
    Ok(match piece {
        Piece::Manifest(ModelVersion { name, version }) => connection
            .prepare_cached(&format!("SELECT 1 FROM rollout_devices WHERE {UNFETCHED}{OF_MANIFEST}"))?
            .exists(params![device.as_str(), name.team.as_str(), name.model.as_str(), version.to_string()])?,
        Piece::Blob(digest) => connection
            .prepare_cached(&format!("SELECT 1 FROM rollout_devices WHERE {UNFETCHED}{OF_BLOB}"))?
            .exists(params![device.as_str(), digest.to_string()])?,
    })
}

fn note_fetch(connection: &Connection, device: &DeviceId, piece: Piece<'_>, now: Timestamp) -> Result<(), StoreError> {
    match piece {
        Piece::Manifest(ModelVersion { name, version }) => connection
            .prepare_cached(&format!("UPDATE rollout_devices SET fetched = ?5 WHERE {UNFETCHED}{OF_MANIFEST}"))?
            .execute(params![
                device.as_str(),
                name.team.as_str(),
                name.model.as_str(),
                version.to_string(),
                millis(now)
            ])?,
        Piece::Blob(digest) => connection
            .prepare_cached(&format!("UPDATE rollout_devices SET fetched = ?3 WHERE {UNFETCHED}{OF_BLOB}"))?
            .execute(params![device.as_str(), digest.to_string(), millis(now)])?,
    };
    Ok(())
}

/// Notes since when each model of the twin stands in its state. A state that was heard before of the same demand is no
/// news: a device that tries and fails in turns makes no progress.
pub(in crate::store) fn note_states(
    connection: &Connection,
    device: &DeviceId,
    twin: &Twin,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO model_states (device, team, model_id, generation, desired, seen, changed)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (device, team, model_id) DO UPDATE SET
                   changed = CASE WHEN generation = excluded.generation AND desired IS excluded.desired
                       AND seen & excluded.seen != 0 THEN changed ELSE excluded.changed END,
                   seen = excluded.seen | CASE WHEN generation = excluded.generation AND desired IS excluded.desired
                       THEN seen ELSE 0 END,
                   generation = excluded.generation, desired = excluded.desired";
    for model in &twin.models {
        connection.prepare_cached(sql)?.execute(params![
            device.as_str(),
            model.model.team.as_str(),
            model.model.model.as_str(),
            integer(model.generation.0),
            model.desired.as_ref().map(ToString::to_string),
            bit(model.state),
            millis(now),
        ])?;
    }
    let names: Vec<_> = twin.models.iter().map(|model| model.model.to_string()).collect();
    let sql = "DELETE FROM model_states WHERE device = ?1
               AND team || '/' || model_id NOT IN (SELECT value FROM json_each(?2))";
    connection.prepare_cached(sql)?.execute(params![device.as_str(), to_json(&names)])?;
    Ok(())
}

/// Forgets what a device said that another one has replaced.
pub(in crate::store) fn forget_states(connection: &Connection, device: &DeviceId) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM model_states WHERE device = ?1")?.execute([device.as_str()])?;
    Ok(())
}

fn bit(state: ModelState) -> i64 {
    1 << match state {
        ModelState::Fetching => 0,
        ModelState::Probing => 1,
        ModelState::Staged => 2,
        ModelState::OnProbation => 3,
        ModelState::Idle => 4,
        ModelState::Committed => 5,
        ModelState::Rejected => 6,
        ModelState::RolledBack => 7,
        ModelState::Removed => 8,
        ModelState::Stopped => 9,
    }
}
