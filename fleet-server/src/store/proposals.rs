//! Proposals as they are kept: bounded while open, and a short history once they are over.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use tern_protocol::{
    digest::Digest,
    ids::{ModelVersion, TeamId},
    keys::KeyId,
};

use super::{NewEvent, Store, StoreError, events, from_json, integer, millis, natural, parse, time, to_json};
use crate::{
    events::EventKind,
    forms::proposals::{ListChange, ProposalDetail, ProposalRow, ProposalSignature},
    proposals::{KEPT, MAX_OPEN, Newcomer, ProposalState, Signature},
    repository::{RoleKind, TeamRole},
};

/// A proposal to be; its form and signatures are checked.
#[derive(Debug, Clone)]
pub struct NewProposal {
    /// Of which list.
    pub role: TeamRole,
    /// The version that the list will have.
    pub version: u64,
    /// What is signed.
    pub signed: Value,
    /// SHA-256 of the bytes that are signed.
    pub digest: Digest,
    /// What it changes.
    pub change: ListChange,
    /// The signatures that came with it.
    pub signatures: Vec<Signature>,
    /// Who makes it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Why a proposal was not made. Nothing was then changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposeRefusal {
    /// The team has [`MAX_OPEN`] open ones.
    TooMany,
    /// The same list is proposed already.
    Same(i64),
}

/// Why a proposal was not changed.
#[derive(Debug, Clone, PartialEq)]
pub enum ProposalRefusal {
    /// There is none of this number.
    Unknown,
    /// It is over.
    Over(Box<ProposalDetail>),
    /// The key has signed it.
    Twice(KeyId),
}

/// All but what is signed.
const SHORT: &str = "id, team, kind, version, digest, change, author, reason, created, state, ended, ended_why";

impl Store {
    /// Makes a proposal; gives its number.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn propose(&self, new: NewProposal, now: Timestamp) -> Result<Result<i64, ProposeRefusal>, StoreError> {
        self.write(move |connection| propose(connection, &new, now)).await
    }

    /// One proposal, whose `threshold` and `wants` the caller fills in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn proposal(&self, id: i64) -> Result<Option<ProposalDetail>, StoreError> {
        self.read(move |connection| find(connection, id)).await
    }

    /// Proposals, newest first, below `before`; of these teams, where they are named. Without what is signed: that may be
    /// [`MAX_BYTES`] each.
    ///
    /// [`MAX_BYTES`]: crate::proposals::MAX_BYTES
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn proposals(
        &self,
        teams: Option<BTreeSet<TeamId>>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ProposalDetail>, StoreError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {SHORT}, NULL FROM proposals
                 WHERE (?1 IS NULL OR team IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR id < ?2)
                 ORDER BY id DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![teams.as_ref().map(to_json), before, integer(limit as u64)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(from_row(connection, row)?);
            }
            Ok(found)
        })
        .await
    }

    /// The numbers of open proposals, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_proposals(&self) -> Result<Vec<i64>, StoreError> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT id FROM proposals WHERE state = 'open' ORDER BY id")?;
            let numbers = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(numbers)
        })
        .await
    }

    /// Adds checked signatures to an open proposal.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn sign_proposal(
        &self,
        id: i64,
        signatures: Vec<Signature>,
        by: String,
        override_reason: Option<String>,
        now: Timestamp,
    ) -> Result<Result<ProposalDetail, ProposalRefusal>, StoreError> {
        self.write(move |connection| {
            let proposal = match open(connection, id)? {
                Ok(proposal) => proposal,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let has = |key: &KeyId| proposal.row.signatures.iter().any(|known| known.keyid == *key);
            if let Some(twice) = signatures.iter().find(|new| has(&new.keyid)) {
                return Ok(Err(ProposalRefusal::Twice(twice.keyid.clone())));
            }
            add(connection, id, &signatures, &by, override_reason.as_deref(), now)?;
            let checks = override_reason.map_or(String::new(), |why| format!(", although the checks failed: {why}"));
            let words = format!("proposal {id}: {} more signatures{checks}", signatures.len());
            note(connection, &proposal.row, EventKind::ProposalSigned, words, &by, now)?;
            Ok(find(connection, id)?.ok_or(ProposalRefusal::Unknown))
        })
        .await
    }

    /// Takes an open proposal back.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn withdraw_proposal(
        &self,
        id: i64,
        by: String,
        reason: String,
        now: Timestamp,
    ) -> Result<Result<ProposalDetail, ProposalRefusal>, StoreError> {
        self.write(move |connection| {
            let proposal = match open(connection, id)? {
                Ok(proposal) => proposal,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let why = format!("by {by}: {reason}");
            end(connection, &proposal.row, ProposalState::Withdrawn, &why, now)?;
            let words = format!("proposal {id}: {reason}");
            note(connection, &proposal.row, EventKind::ProposalWithdrawn, words, &by, now)?;
            Ok(find(connection, id)?.ok_or(ProposalRefusal::Unknown))
        })
        .await
    }

    /// Ends the open proposals of a role that has published this version, with this digest: the one that it is is
    /// published, the others are void.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_proposals(
        &self,
        role: TeamRole,
        version: u64,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = format!(
                "SELECT {SHORT}, signed FROM proposals
                 WHERE team = ?1 AND kind = ?2 AND state = 'open' AND version <= ?3 ORDER BY id"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![role.team.as_str(), role.kind.as_str(), integer(version)])?;
            while let Some(row) = rows.next()? {
                let proposal = from_row(connection, row)?.row;
                let id = proposal.id;
                if (proposal.version, proposal.digest) == (version, digest) {
                    end(connection, &proposal, ProposalState::Published, "enough keys have signed it", now)?;
                    continue;
                }
                let why = format!("version {version} of {role}'s list was published meanwhile");
                end(connection, &proposal, ProposalState::Void, &why, now)?;
                let words = format!("proposal {id}: {why}; its signatures count for nothing");
                note(connection, &proposal, EventKind::ProposalVoid, words, "server", now)?;
            }
            Ok(())
        })
        .await
    }

    /// These versions with who uploaded each; those that were never uploaded are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newcomers(&self, versions: Vec<ModelVersion>) -> Result<Vec<Newcomer>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT published_by FROM versions WHERE team = ?1 AND model_id = ?2 AND version = ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = Vec::new();
            for model in versions {
                let key = params![model.name.team.as_str(), model.name.model.as_str(), model.version.to_string()];
                let by: Option<String> = statement.query_row(key, |row| row.get(0)).optional()?;
                found.extend(by.map(|published_by| Newcomer { model, published_by }));
            }
            Ok(found)
        })
        .await
    }
}

fn propose(
    connection: &Connection,
    new: &NewProposal,
    now: Timestamp,
) -> Result<Result<i64, ProposeRefusal>, StoreError> {
    let team = new.role.team.as_str();
    let same = "SELECT id FROM proposals WHERE team = ?1 AND state = 'open' AND digest = ?2";
    let same = connection.query_row(same, params![team, new.digest.to_string()], |row| row.get(0)).optional()?;
    if let Some(id) = same {
        return Ok(Err(ProposeRefusal::Same(id)));
    }
    let open = "SELECT count(*) FROM proposals WHERE team = ?1 AND state = 'open'";
    let open: i64 = connection.query_row(open, [team], |row| row.get(0))?;
    if natural(open) >= MAX_OPEN as u64 {
        return Ok(Err(ProposeRefusal::TooMany));
    }
    connection.execute(
        "INSERT INTO proposals (team, kind, version, digest, signed, change, author, reason, created, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'open')",
        params![
            team,
            new.role.kind.as_str(),
            integer(new.version),
            new.digest.to_string(),
            to_json(&new.signed).into_bytes(),
            to_json(&new.change),
            new.author,
            new.reason,
            millis(now),
        ],
    )?;
    let id = connection.last_insert_rowid();
    add(connection, id, &new.signatures, &new.author, None, now)?;
    let old = "DELETE FROM proposals WHERE team = ?1 AND state <> 'open' AND id NOT IN
               (SELECT id FROM proposals WHERE team = ?1 AND state <> 'open' ORDER BY id DESC LIMIT ?2)";
    connection.execute(old, params![team, integer(KEPT as u64)])?;
    if let Some(made) = find(connection, id)? {
        let words = format!("proposal {id} of {}'s list version {}: {}", new.role, new.version, new.reason);
        note(connection, &made.row, EventKind::ProposalMade, words, &new.author, now)?;
    }
    Ok(Ok(id))
}

fn add(
    connection: &Connection,
    id: i64,
    signatures: &[Signature],
    by: &str,
    override_reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO proposal_signatures (proposal, key_id, sig, sent_by, sent, override_reason)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = connection.prepare_cached(sql)?;
    for Signature { keyid, sig } in signatures {
        statement.execute(params![id, keyid.0, sig, by, millis(now), override_reason])?;
    }
    Ok(())
}

/// The proposal, if it waits for signatures.
fn open(connection: &Connection, id: i64) -> Result<Result<ProposalDetail, ProposalRefusal>, StoreError> {
    Ok(match find(connection, id)? {
        None => Err(ProposalRefusal::Unknown),
        Some(proposal) if proposal.row.state != ProposalState::Open => Err(ProposalRefusal::Over(Box::new(proposal))),
        Some(proposal) => Ok(proposal),
    })
}

fn end(
    connection: &Connection,
    proposal: &ProposalRow,
    state: ProposalState,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE proposals SET state = ?2, ended = ?3, ended_why = ?4, signed = NULL WHERE id = ?1";
    connection.execute(sql, params![proposal.id, state.as_str(), millis(now), why])?;
    Ok(())
}

/// Records what happened; of the version where the proposal is about one.
fn note(
    connection: &Connection,
    proposal: &ProposalRow,
    kind: EventKind,
    words: String,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let event = NewEvent::new(kind, words).by(by);
    let ListChange { adds, recalls, floors, .. } = &proposal.change;
    let about = adds.iter().chain(recalls.iter().map(|(version, _)| version)).chain(floors).next();
    let event = about.map_or_else(|| event.clone(), |version| event.clone().of_version(version));
    events::insert(connection, &event, now)
}

fn find(connection: &Connection, id: i64) -> Result<Option<ProposalDetail>, StoreError> {
    let sql = format!("SELECT {SHORT}, signed FROM proposals WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| from_row(connection, row)).transpose()
}

fn from_row(connection: &Connection, row: &Row<'_>) -> Result<ProposalDetail, StoreError> {
    let text = |index: usize| row.get::<_, String>(index);
    let id = row.get(0)?;
    let signed: Option<Vec<u8>> = row.get(12)?;
    let row = ProposalRow {
        id,
        team: parse("team", &text(1)?)?,
        role: parse::<RoleKind>("role", &text(2)?)?,
        version: natural(row.get(3)?),
        digest: parse("digest", &text(4)?)?,
        change: from_json("proposal", text(5)?.as_bytes())?,
        author: text(6)?,
        reason: text(7)?,
        created: time(row.get(8)?)?,
        state: parse("state", &text(9)?)?,
        ended: row.get::<_, Option<i64>>(10)?.map(time).transpose()?,
        ended_why: row.get(11)?,
        signatures: signatures(connection, id)?,
        threshold: 0,
        wants: None,
        stuck: None,
    };
    let signed = signed.map(|bytes| from_json("proposal", &bytes)).transpose()?;
    Ok(ProposalDetail { row, signed })
}

fn signatures(connection: &Connection, id: i64) -> Result<Vec<ProposalSignature>, StoreError> {
    let sql = "SELECT key_id, sig, sent_by, sent, override_reason FROM proposal_signatures
               WHERE proposal = ?1 ORDER BY sent, key_id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (keyid, sig, by) = (KeyId(row.get(0)?), row.get(1)?, row.get(2)?);
        let (at, override_reason) = (time(row.get(3)?)?, row.get(4)?);
        found.push(ProposalSignature { keyid, sig, by, at, override_reason });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
