//! The chapters in which every device refuses something, and the one that puts things right.

use anyhow::{Context, ensure};
use tern_fleet_server::forms::{DeviceRow, VersionDetail};
use tern_protocol::{
    ids::Generation,
    manifest::{FileRole, Manifest},
    refusal::RefusalCode,
    twin::LastError,
};

use super::{MODEL, Teller, digits::answers};
use crate::facts::RefusalFact;

impl Teller {
    pub(super) async fn tampered_version(&mut self) -> anyhow::Result<()> {
        let clock = self.begin("1.0.1 is published, then one byte of it changes on the server's disk");
        self.publish("1.0.1").await?;
        self.flip_a_byte("1.0.1").await?;
        self.assign("1.0.1", "a better model").await?;
        self.refused_version("1.0.1", "a model with one byte flipped on the server", RefusalCode::BlobDigest).await?;
        self.end(clock, "every device refused it: its bytes are not those that were signed".into());
        Ok(())
    }

    pub(super) async fn replayed_orders(&mut self) -> anyhow::Result<()> {
        let clock = self.begin("each device's signed orders are replayed to its neighbour");
        let before = self.devices().await?.iter().map(|row| row.generation).max().context("no devices")?;
        self.world.stop_server().await?;
        self.rotate_orders(before)?;
        self.world.start_server().await?;
        let is_refused = |row: &DeviceRow| {
            row.last_error.as_ref().is_some_and(|e| e.code == RefusalCode::WrongDevice) && answers_still(row)
        };
        let rows = self.wait("every device to refuse its neighbour's orders", is_refused).await?;
        ensure!(rows.iter().all(|row| row.generation <= before), "a device took foreign orders over");
        self.note_refusal("signed orders of another device", RefusalCode::WrongDevice, &rows, |row| {
            row.last_error.as_ref()
        });
        self.end(clock, "every device refused them: they name another device".into());
        Ok(())
    }

    pub(super) async fn recovery(&mut self) -> anyhow::Result<()> {
        let clock = self.begin("the operator assigns 1.0.0 again");
        let before = self.devices().await?.iter().map(|row| row.generation).max().context("no devices")?;
        self.assign("1.0.0", "back to what works").await?;
        let settled = |row: &DeviceRow| {
            answers(row, "1.0.0") && row.generation > before && row.generation == row.desired_generation
        };
        self.wait("newer orders to be taken over", settled).await?;
        self.end(clock, "every device took the newer orders over".into());
        Ok(())
    }

    async fn refused_version(&mut self, version: &str, attempt: &str, code: RefusalCode) -> anyhow::Result<()> {
        let error = |row: &DeviceRow| -> Option<LastError> {
            let model = row.models.iter().find(|m| m.model.to_string() == MODEL)?;
            model.last_error.clone().filter(|e| e.version.as_ref().is_some_and(|v| v.to_string() == version))
        };
        let is_refused = |row: &DeviceRow| error(row).is_some_and(|e| e.code == code) && answers_still(row);
        let rows = self.wait(&format!("every device to refuse {version}"), is_refused).await?;
        self.note_refusal(attempt, code, &rows, |row| row.models.iter().find_map(|m| m.last_error.as_ref()));
        Ok(())
    }

    fn note_refusal(
        &mut self,
        attempt: &str,
        expected: RefusalCode,
        rows: &[DeviceRow],
        error: impl Fn(&DeviceRow) -> Option<&LastError>,
    ) {
        let code = |row: &DeviceRow| error(row).map_or_else(String::new, |e| e.code.to_string());
        self.facts.refusals.push(RefusalFact {
            attempt: attempt.into(),
            expected: expected.to_string(),
            devices: rows.iter().map(|row| (row.device.to_string(), code(row))).collect(),
            still_answers: "1.0.0".into(),
        });
    }

    /// What somebody with write access to the server's disk could do to a model.
    async fn flip_a_byte(&self, version: &str) -> anyhow::Result<()> {
        let name = format!("{MODEL}@{version}");
        let detail: VersionDetail = self.world.operator.tern(&["model", "show", &name]).await?;
        let manifest: Manifest = serde_json::from_value(detail.manifest_json).context("reading the manifest")?;
        let model = manifest.files.iter().find(|f| f.role == FileRole::Model).context("no model file")?;
        let blob = self.world.server_folder().join("blobs/sha256").join(model.sha256.to_string());
        let mut bytes = std::fs::read(&blob).with_context(|| format!("reading {}", blob.display()))?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        tamper(&blob, &bytes)
    }

    /// What somebody with write access to the server's database could do while it is down: every device gets the signed
    /// orders of its neighbour, under a number that makes the server send them.
    fn rotate_orders(&self, newest: Generation) -> anyhow::Result<()> {
        let database =
            rusqlite::Connection::open(self.world.server_folder().join("server.db")).context("opening the database")?;
        let rows: Vec<(String, Vec<u8>)> = database
            .prepare("SELECT device, desired FROM devices ORDER BY device")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()
            .context("reading the orders")?;
        let number = i64::try_from(newest.0 + 1)?;
        for (index, (device, _)) in rows.iter().enumerate() {
            let foreign = &rows[(index + 1) % rows.len()].1;
            database
                .execute(
                    "UPDATE devices SET desired = ?1, generation = ?2 WHERE device = ?3",
                    (foreign, number, device),
                )
                .context("replaying orders")?;
        }
        Ok(())
    }
}

fn answers_still(row: &DeviceRow) -> bool {
    row.models
        .iter()
        .any(|m| m.model.to_string() == MODEL && m.version.as_ref().is_some_and(|v| v.to_string() == "1.0.0"))
}

#[expect(clippy::disallowed_methods, reason = "an attacker does not use the server's door to its disk")]
fn tamper(blob: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(blob, bytes).with_context(|| format!("tampering with {}", blob.display()))
}
