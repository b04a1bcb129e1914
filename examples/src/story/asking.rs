//! How the story asks: the operator's command line, a device's status, the server's counters; and how it waits.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;
use tern_agent::control::StatusPage;
use tern_fleet_server::forms::{
    DeviceRow, FiguresRow,
    rollouts::{RolloutDetail, RolloutRow},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{MODEL, Teller};
use crate::{clock::Moment, processes::Program, world::Device};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for one answer.
const ASKING: Duration = Duration::from_secs(10);

/// How a rollout ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// In which phase.
    pub(super) phase: String,
    /// Devices by outcome.
    pub(super) outcomes: BTreeMap<String, u64>,
    /// Why, by device.
    pub(super) codes: BTreeMap<String, String>,
}

/// What a device says of its telemetry.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    /// Rows counted, by version.
    pub(super) rows: BTreeMap<String, u64>,
    /// Rows of its outbox that the server has not confirmed.
    pub(super) waiting: u64,
}

/// What the server counted of reports since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) reports: u64,
    pub(super) rows: u64,
    pub(super) again: u64,
    pub(super) quarantined: u64,
}

impl Teller {
    pub(super) async fn devices(&self) -> anyhow::Result<Vec<DeviceRow>> {
        self.list(&["device", "list"]).await
    }

    pub(super) async fn figures(&self) -> anyhow::Result<Vec<FiguresRow>> {
        self.list(&["device", "figures"]).await
    }

    pub(super) async fn list<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<Vec<T>> {
        #[derive(Deserialize)]
        struct List<T> {
            items: Vec<T>,
        }
        Ok(self.world.operator.tern::<List<T>>(args).await?.items)
    }

    /// Waits until `wanted` says so. What it cannot ask right now, under chaos, it asks again.
    pub(super) async fn until<F>(&self, what: &str, mut wanted: F) -> anyhow::Result<()>
    where
        F: AsyncFnMut(&Self) -> anyhow::Result<bool>,
    {
        let started = Moment::now();
        loop {
            let seen = wanted(self).await;
            if matches!(seen, Ok(true)) {
                return Ok(());
            }
            if started.elapsed() > self.limit {
                seen.with_context(|| format!("waiting for {what}"))?;
                bail!("waited {:?} for {what}", self.limit);
            }
            if self.options.chaos.is_none() {
                seen?;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until every device is as wanted.
    pub(super) async fn wait(&self, what: &str, wanted: impl Fn(&DeviceRow) -> bool) -> anyhow::Result<Vec<DeviceRow>> {
        let count = self.world.devices.len();
        let bar = self.bar(count as u64, what);
        let mut rows = Vec::new();
        let waited = self
            .until(what, async |teller: &Self| {
                rows = teller.devices().await?;
                let done = rows.iter().filter(|row| wanted(row)).count();
                bar.set_position(done as u64);
                Ok(done == count)
            })
            .await;
        bar.finish_and_clear();
        if let Err(error) = waited {
            let late: Vec<_> = rows.iter().filter(|row| !wanted(row)).collect();
            return Err(error.context(format!("these devices are late: {late:#?}")));
        }
        Ok(rows)
    }

    /// Waits until a rollout of `version` is there; its name.
    pub(super) async fn rollout_of(&self, version: &str) -> anyhow::Result<String> {
        let mut id = None;
        self.until(&format!("a rollout of {version}"), async |teller: &Self| {
            let rows: Vec<RolloutRow> = teller.list(&["rollout", "list"]).await?;
            id = rows.into_iter().find(|row| row.model.version.to_string() == version).map(|row| row.id.to_string());
            Ok(id.is_some())
        })
        .await?;
        id.context("a rollout that was there a moment ago")
    }

    /// Waits until the rollout is over and has nothing more to demand.
    pub(super) async fn await_rollout(&self, id: &str) -> anyhow::Result<Ended> {
        let mut last = None;
        let waited = self
            .until(&format!("rollout {id} to be over"), async |teller: &Self| {
                let detail: RolloutDetail = teller.world.operator.standing(&["rollout", "status", id]).await?;
                let is_over = detail.row.closed.is_some();
                last = Some(detail);
                Ok(is_over)
            })
            .await;
        if let Err(error) = waited {
            return Err(error.context(format!("the rollout says {last:#?}")));
        }
        let detail = last.context("a rollout that was there a moment ago")?;
        let mut ended = Ended { phase: detail.row.phase.to_string(), ..Ended::default() };
        for row in detail.rows {
            *ended.outcomes.entry(row.stands).or_default() += 1;
            if let Some(code) = row.code {
                ended.codes.insert(row.device.to_string(), code.to_string());
            }
        }
        Ok(ended)
    }

    /// What `tern-agent status` says of rows.
    pub(super) async fn agent_status(&self, device: &Device) -> anyhow::Result<Books> {
        let mut command = self.options.programs.command(Program::Agent);
        command.args(["status", "--json", "--config"]).arg(&device.config);
        let output = tokio::time::timeout(ASKING, command.output()).await.context("asking an agent")??;
        let page: StatusPage =
            serde_json::from_slice(&output.stdout).with_context(|| format!("reading the status of {}", device.name))?;
        let own = page.outbox.counted.into_iter().filter(|(model, _)| model.name.to_string() == MODEL);
        let rows = own.map(|(model, counts)| (model.version.to_string(), counts.rows)).collect();
        Ok(Books { rows, waiting: page.outbox.waiting + page.outbox.offered })
    }

    /// What the server's counters say of reports since its start.
    pub(super) async fn received(&self) -> anyhow::Result<Received> {
        let text =
            tokio::time::timeout(ASKING, get(self.world.console, "/metrics")).await.context("asking for metrics")??;
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
        };
        Ok(Received {
            reports: sum("tern_ingested_total{kind=\"report\"}"),
            rows: sum("tern_report_rows_total "),
            again: sum("tern_report_rows_again_total "),
            quarantined: sum("tern_quarantined_total"),
        })
    }

    /// The folder of a version's bundle.
    pub(super) fn bundle(&self, version: &str) -> PathBuf {
        self.options.assets.join("models/meter-digits").join(version)
    }

    /// The team's release key; on the operator's own machine in the field.
    pub(super) fn release_key(&self) -> PathBuf {
        self.world.server_folder().join("operator/release-demo.key")
    }

    /// Where the terms of rollouts lie.
    pub(super) fn policy_file(&self) -> PathBuf {
        self.world.scratch.join("config/rollout.toml")
    }
}

/// The body of `GET path` on the server's plain loopback listener.
async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.context("connecting")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("asking")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("reading the answer")?;
    Ok(answer)
}
