//! Versions: their manifests, their blobs, and whether a team's signed metadata lists them.
//!
//! A manifest is an offer until its team's metadata has listed it; until then other bytes take its place, so that nobody
//! can occupy the numbers of a team. From then on the version never changes, even after it was withdrawn.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    digest::Digest,
    ids::{ByteCount, ModelName, ModelVersion, TeamId},
    manifest::Manifest,
};

use super::{NewEvent, Paging, Store, StoreError, devices::version_of, events, integer, millis, natural, parse, time};
use crate::{
    events::EventKind,
    forms::{VersionDetail, VersionRow},
};

/// A version whose manifest was uploaded.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Which one.
    pub model: ModelVersion,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// Bytes of its files together.
    pub total: ByteCount,
    /// Its blobs with their lengths, each once.
    pub blobs: Vec<(Digest, u64)>,
    /// Who uploaded it.
    pub published_by: String,
}

impl NewVersion {
    /// The version that `manifest`, read from `bytes` of this digest, describes.
    pub fn new(model: ModelVersion, digest: Digest, manifest: &Manifest, bytes: Vec<u8>, published_by: String) -> Self {
        let blobs: BTreeMap<_, _> = manifest.files.iter().map(|file| (file.sha256, file.length.0)).collect();
        let total = manifest.total_bytes();
        Self { model, manifest: digest, bytes, total, blobs: blobs.into_iter().collect(), published_by }
    }
}

/// What came of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestOutcome {
    /// It is there now, in place of other bytes if there were any that nobody had signed.
    Stored,
    /// The same bytes were there.
    Same,
    /// Other bytes are there and were signed.
    Exists {
        /// Their digest.
        manifest: Digest,
    },
}

/// A version that a team's metadata lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedVersion {
    /// Which one.
    pub model: ModelVersion,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
}

pub(super) const COLUMNS: &str = "team, model_id, version, manifest_sha256, bytes, published, published_by, signed,
    (SELECT count(*) FROM running_models r
     WHERE r.team = v.team AND r.model_id = v.model_id AND r.version = v.version)";

impl Store {
    /// Stores a version's manifest; one that was never signed gives way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_manifest(&self, version: NewVersion, now: Timestamp) -> Result<ManifestOutcome, StoreError> {
        self.write(move |connection| {
            if let Some((found, _)) = manifest(connection, &version.model)? {
                if found == version.manifest {
                    return Ok(ManifestOutcome::Same);
                }
                if ever_signed(connection, &version.model)? {
                    return Ok(ManifestOutcome::Exists { manifest: found });
                }
                replace(connection, &version, &found, now)?;
            } else {
                insert(connection, &version, now)?;
            }
            Ok(ManifestOutcome::Stored)
        })
        .await
    }

    /// Puts back a manifest that the team's metadata lists, where an upload took its place before the listing was
    /// recorded. It never gives way again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restore_manifest(&self, version: NewVersion, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            match manifest(connection, &version.model)? {
                Some((found, _)) if found == version.manifest => {}
                Some((found, _)) => replace(connection, &version, &found, now)?,
                None => insert(connection, &version, now)?,
            }
            let ModelVersion { name, version } = &version.model;
            let sql = "UPDATE versions SET ever_signed = 1 WHERE team = ?1 AND model_id = ?2 AND version = ?3";
            connection.execute(sql, params![name.team.as_str(), name.model.as_str(), version.to_string()])?;
            Ok(())
        })
        .await
    }

    /// The longest that the blob may be: what the manifests that name it say; none where none does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn blob_limit(&self, blob: Digest) -> Result<Option<u64>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT max(length) FROM version_blobs WHERE sha256 = ?1";
            let longest: Option<i64> = connection.query_row(sql, [blob.to_string()], |row| row.get(0))?;
            Ok(longest.map(natural))
        })
        .await
    }

    /// The versions whose manifests name the blob.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn versions_with_blob(&self, blob: Digest) -> Result<Vec<ModelVersion>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT team, model_id, version FROM version_blobs WHERE sha256 = ?1
                       ORDER BY team, model_id, version";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([blob.to_string()])?;
            let mut versions = Vec::new();
            while let Some(row) = rows.next()? {
                versions.push(super::devices::version_of(row, 0)?);
            }
            Ok(versions)
        })
        .await
    }

    /// A version's manifest: digest and bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn manifest(&self, model: ModelVersion) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
        self.read(move |connection| manifest(connection, &model)).await
    }

    /// A version's manifest, digest and bytes, and whether it was ever signed and so never changes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn manifest_state(&self, model: ModelVersion) -> Result<Option<(Digest, Vec<u8>, bool)>, StoreError> {
        self.read(move |connection| {
            let Some((digest, bytes)) = manifest(connection, &model)? else { return Ok(None) };
            Ok(Some((digest, bytes, ever_signed(connection, &model)?)))
        })
        .await
    }

    /// A page of versions, by model and version as text; of one model where `of` names it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn versions(&self, of: Option<ModelName>, paging: Paging) -> Result<Vec<VersionRow>, StoreError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM versions v
                 WHERE team || '/' || model_id || '@' || version > ?1 AND (?2 IS NULL OR team || '/' || model_id = ?2)
                 ORDER BY team || '/' || model_id || '@' || version LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let limit = i64::try_from(paging.limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![paging.after, of.map(|name| name.to_string()), limit])?;
            let mut versions = Vec::new();
            while let Some(row) = rows.next()? {
                versions.push(from_row(row)?);
            }
            Ok(versions)
        })
        .await
    }

    /// One version with its manifest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn version(&self, model: ModelVersion) -> Result<Option<VersionDetail>, StoreError> {
        self.read(move |connection| {
            let Some((_, bytes)) = manifest(connection, &model)? else { return Ok(None) };
            let sql = format!("SELECT {COLUMNS} FROM versions v WHERE team = ?1 AND model_id = ?2 AND version = ?3");
            let mut statement = connection.prepare_cached(&sql)?;
            let ModelVersion { name, version } = &model;
            let mut rows = statement.query(params![name.team.as_str(), name.model.as_str(), version.to_string()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(VersionDetail { row: from_row(row)?, manifest_json: super::from_json("manifest", &bytes)? }))
        })
        .await
    }

    /// Takes over which versions a team's metadata lists; records what is new and what is gone. Gives those back whose
    /// manifest is not the one that is here: they do not count until [`Store::restore_manifest`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_signed(
        &self,
        team: TeamId,
        listed: Vec<SignedVersion>,
        actor: String,
        now: Timestamp,
    ) -> Result<Vec<SignedVersion>, StoreError> {
        self.write(move |connection| {
            let mut unmatched = Vec::new();
            let before = signed(connection, &team)?;
            let gone = before.iter().filter(|version| !listed.contains(version));
            let new = listed.iter().filter(|version| !before.contains(version));
            let changes = gone.map(|v| (v, false)).chain(new.map(|v| (v, true)));
            for (SignedVersion { model, manifest }, is_signed) in changes {
                let ModelVersion { name, version } = model;
                let updated = connection.execute(
                    "UPDATE versions SET signed = ?5, ever_signed = 1
                     WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND manifest_sha256 = ?4",
                    params![
                        name.team.as_str(),
                        name.model.as_str(),
                        version.to_string(),
                        manifest.to_string(),
                        is_signed
                    ],
                )?;
                if updated == 0 {
                    unmatched.push(SignedVersion { model: model.clone(), manifest: *manifest });
                    continue;
                }
                let kind = if is_signed { EventKind::VersionPublished } else { EventKind::VersionWithdrawn };
                let event = NewEvent::new(kind, format!("manifest {manifest}")).by(actor.clone()).of_version(model);
                events::insert(connection, &event, now)?;
            }
            Ok(unmatched)
        })
        .await
    }
}

/// Puts a version in the place of the one with manifest `before`, and records whose doing that was.
fn replace(connection: &Connection, new: &NewVersion, before: &Digest, now: Timestamp) -> Result<(), StoreError> {
    let ModelVersion { name, version } = &new.model;
    // Its list of blobs goes with it.
    connection.execute(
        "DELETE FROM versions WHERE team = ?1 AND model_id = ?2 AND version = ?3",
        params![name.team.as_str(), name.model.as_str(), version.to_string()],
    )?;
    insert(connection, new, now)?;
    let message = format!("manifest {} in place of {before}, which was never signed", new.manifest);
    let event = NewEvent::new(EventKind::ManifestReplaced, message).by(new.published_by.clone());
    events::insert(connection, &event.of_version(&new.model), now)
}

fn ever_signed(connection: &Connection, model: &ModelVersion) -> Result<bool, StoreError> {
    let sql = "SELECT ever_signed FROM versions WHERE team = ?1 AND model_id = ?2 AND version = ?3";
    let ModelVersion { name, version } = model;
    let key = params![name.team.as_str(), name.model.as_str(), version.to_string()];
    Ok(connection.prepare_cached(sql)?.query_row(key, |row| row.get(0))?)
}

fn insert(connection: &Connection, version: &NewVersion, now: Timestamp) -> Result<(), StoreError> {
    let ModelVersion { name, version: number } = &version.model;
    let (team, model, number) = (name.team.as_str(), name.model.as_str(), number.to_string());
    connection.execute(
        "INSERT INTO versions (team, model_id, version, manifest_sha256, manifest, bytes, published, published_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            team,
            model,
            number,
            version.manifest.to_string(),
            version.bytes,
            integer(version.total.0),
            millis(now),
            version.published_by,
        ],
    )?;
    for (blob, length) in &version.blobs {
        connection.execute(
            "INSERT INTO version_blobs (team, model_id, version, sha256, length) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![team, model, number, blob.to_string(), integer(*length)],
        )?;
    }
    Ok(())
}

fn manifest(connection: &Connection, model: &ModelVersion) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
    let sql = "SELECT manifest_sha256, manifest FROM versions WHERE team = ?1 AND model_id = ?2 AND version = ?3";
    let ModelVersion { name, version } = model;
    let key = params![name.team.as_str(), name.model.as_str(), version.to_string()];
    let row: Option<(String, Vec<u8>)> =
        connection.prepare_cached(sql)?.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    row.map(|(digest, bytes)| Ok((parse("manifest digest", &digest)?, bytes))).transpose()
}

fn signed(connection: &Connection, team: &TeamId) -> Result<Vec<SignedVersion>, StoreError> {
    let sql = "SELECT team, model_id, version, manifest_sha256 FROM versions WHERE team = ?1 AND signed = 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([team.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        let manifest = parse("manifest digest", &row.get::<_, String>(3)?)?;
        versions.push(SignedVersion { model: version_of(row, 0)?, manifest });
    }
    Ok(versions)
}

pub(super) fn from_row(row: &Row<'_>) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        model: version_of(row, 0)?,
        manifest: parse("manifest digest", &row.get::<_, String>(3)?)?,
        bytes: ByteCount(natural(row.get(4)?)),
        published: time(row.get(5)?)?,
        published_by: row.get(6)?,
        signed: row.get(7)?,
        devices: natural(row.get(8)?),
    })
}
