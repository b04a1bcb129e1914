//! The last chapter: what the devices counted is what the server counted, row for row.
//!
//! A device counts a row once its increment is on the disk, so what was killed in between is in nobody's figures. Both
//! sides are asked once the cameras have stopped, until they agree or patience ends.

use super::{MODEL, Teller};
use crate::facts::{AccountsFact, CountFact};

impl Teller {
    pub(super) async fn accounts(&mut self) -> anyhow::Result<()> {
        let clock = self.begin("devices and server compare their books");
        let mut accounts = AccountsFact::default();
        let agreed = self
            .until("both to have counted the same rows", async |teller: &Self| {
                accounts = teller.read_books().await?;
                Ok(accounts.differences().is_empty() && accounts.waiting == 0)
            })
            .await;
        if let Err(error) = agreed {
            self.fault(format!("{error:#}; they differ in {:#?}", accounts.differences()));
        }
        let (devices, server) = accounts.totals();
        accounts.lost = devices.saturating_sub(server);
        self.end(
            clock,
            format!(
                "{devices} images on the devices, {server} on the server; {} reports came, {} of their {} rows again",
                accounts.reports, accounts.duplicates, accounts.received
            ),
        );
        self.facts.accounts = accounts;
        Ok(())
    }

    async fn read_books(&self) -> anyhow::Result<AccountsFact> {
        let mut accounts = AccountsFact::default();
        for device in &self.world.devices {
            let status = self.agent_status(device).await?;
            accounts.waiting += status.waiting;
            for (version, rows) in status.rows {
                accounts.count(&device.name, &version).on_device = rows;
            }
        }
        for row in self.figures().await?.into_iter().filter(|row| row.model.name.to_string() == MODEL) {
            accounts.count(row.device.as_str(), &row.model.version.to_string()).on_server = row.rows;
        }
        let metrics = self.received().await?;
        accounts.reports = metrics.reports;
        (accounts.received, accounts.duplicates) = (metrics.rows + metrics.again, metrics.again);
        accounts.quarantined = metrics.quarantined;
        Ok(accounts)
    }
}

impl AccountsFact {
    fn count(&mut self, device: &str, version: &str) -> &mut CountFact {
        let same = |c: &CountFact| c.device == device && c.version == version;
        let index = self.counts.iter().position(same).unwrap_or_else(|| {
            self.counts.push(CountFact { device: device.into(), version: version.into(), ..CountFact::default() });
            self.counts.len() - 1
        });
        &mut self.counts[index]
    }

    fn differences(&self) -> Vec<&CountFact> {
        self.counts.iter().filter(|c| c.on_device != c.on_server).collect()
    }

    fn totals(&self) -> (u64, u64) {
        self.counts.iter().fold((0, 0), |(d, s), c| (d + c.on_device, s + c.on_server))
    }
}
