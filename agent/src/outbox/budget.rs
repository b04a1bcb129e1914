//! The disk budget: what goes, and what is merged, when the outbox outgrows it.
//!
//! Precedence: rows that the server has covered go, oldest first; then windows without a sequence are merged, version by
//! version, into hours, into days, into one. Events never are merged away, and an offered row never changes: where only
//! those are left, the outbox is full and takes no more of them until the server has covered some. Counts may use
//! half as much again: windows go on being merged, so events that pile up cost no counts.

use rusqlite::params;
use tern_protocol::{
    ids::ModelVersion,
    report::v1::{Correction, Feedback, Item, Window},
};

use super::{
    database::{Database, Failure, Kind, wait},
    rows,
};
use crate::telemetry::merge;

/// Merged windows last so long, in milliseconds; each step only if the one before was not enough.
const STEPS: [i64; 3] = [3_600_000, 86_400_000, i64::MAX];
/// Relief goes on down to this share of the budget, so that it is not sought for every row: nine tenths.
const LOW: (u64, u64) = (9, 10);
/// Covered rows that go at once.
const CHUNK: i64 = 64;

impl Database {
    /// Brings the outbox below its budget where it is above it.
    ///
    /// # Errors
    /// [`Failure::Full`] where that cannot be.
    pub(super) fn keep_within(&mut self, budget: u64) -> Result<(), Failure> {
        if self.bytes()? <= budget {
            return Ok(());
        }
        let low = budget / LOW.1 * LOW.0;
        while self.bytes()? > low {
            let gone = self.change(|transaction| {
                let sql = "DELETE FROM offered WHERE sequence IN
                    (SELECT sequence FROM offered WHERE covered IS NOT NULL ORDER BY sequence LIMIT ?1)";
                Ok(transaction.execute(sql, [CHUNK])?)
            })?;
            if gone == 0 {
                break;
            }
        }
        for step in STEPS {
            if self.bytes()? <= low {
                break;
            }
            self.merge_windows(step)?;
        }
        if self.bytes()? > budget { Err(Failure::Full) } else { Ok(()) }
    }

    /// Merges waiting windows of one subject whose starts lie in one period of `step` milliseconds.
    fn merge_windows(&mut self, step: i64) -> Result<(), Failure> {
        let sql = "SELECT subject, start / ?1, min(id) FROM waiting WHERE kind = ?2
            GROUP BY subject, start / ?1 HAVING count(*) > 1 ORDER BY min(id)";
        let groups: Vec<(String, i64)> = {
            let mut statement = self.connection.prepare(sql)?;
            let found =
                statement.query_map(params![step, Kind::Window as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            found.collect::<Result<_, _>>()?
        };
        for (subject, period) in groups {
            self.merge_group(&subject, period, step)?;
        }
        Ok(())
    }

    fn merge_group(&mut self, subject: &str, period: i64, step: i64) -> Result<(), Failure> {
        self.change(|transaction| {
            let sql = "SELECT id, boot, bytes, seal FROM waiting
                WHERE kind = ?1 AND subject = ?2 AND start / ?3 = ?4 ORDER BY id";
            let mut statement = transaction.prepare_cached(sql)?;
            let mut found = statement.query(params![Kind::Window as i64, subject, step, period])?;
            let mut sum: Option<(u64, Window)> = None;
            let mut numbers = Vec::new();
            while let Some(row) = found.next()? {
                let (id, boot): (i64, i64) = (row.get(0)?, row.get(1)?);
                let (bytes, seal): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
                let Some(Item::Window(window)) = rows::decode(&bytes, &seal) else { continue };
                numbers.push(window.number);
                transaction.prepare_cached("DELETE FROM waiting WHERE id = ?1")?.execute([id])?;
                match &mut sum {
                    None => sum = Some((boot.max(0) as u64, *window)),
                    Some((_, sum)) => merge(sum, &window),
                }
            }
            let Some((boot, mut sum)) = sum else { return Ok(()) };
            fold_corrections(transaction, &mut sum, &numbers)?;
            wait(transaction, boot, Item::Window(Box::new(sum)))
        })
    }
}

/// Labels that wait for a window which is merged go into the sum: nobody would find its number any more.
fn fold_corrections(transaction: &rusqlite::Transaction<'_>, sum: &mut Window, numbers: &[u64]) -> Result<(), Failure> {
    let version = ModelVersion { name: sum.model.clone(), version: sum.version.clone() };
    // The subject of a correction begins with its version.
    let sql = "SELECT id, bytes, seal FROM waiting WHERE kind = ?1 AND substr(subject, 1, length(?2)) = ?2";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut found = statement.query(params![Kind::Correction as i64, format!("{version} ")])?;
    while let Some(row) = found.next()? {
        let (id, bytes, seal): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(Item::Correction(correction)) = rows::decode(&bytes, &seal) else { continue };
        if numbers.contains(&correction.window) {
            add_labels(sum, &correction);
            transaction.prepare_cached("DELETE FROM waiting WHERE id = ?1")?.execute([id])?;
        }
    }
    Ok(())
}

fn add_labels(sum: &mut Window, correction: &Correction) {
    let last = sum.feedback.len().max(1) - 1;
    sum.feedback.resize(last + 1, Feedback::default());
    let bin = &mut sum.feedback[(correction.bin as usize).min(last)];
    bin.n = bin.n.saturating_add(correction.n);
    bin.errors = bin.errors.saturating_add(correction.errors);
}
