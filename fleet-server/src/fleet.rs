//! What the routes, the transport and the tasks share: one fleet's records, keys and connections, each behind its own
//! module. Here is only what takes two of them.

use std::{
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, TeamId},
    manifest::Manifest,
    topics::{Channel, DeviceTopic},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    accesses::Accesses,
    broker::{BrokerHandle, Qos},
    ca::Authority,
    clock,
    decay::Bells,
    devices::delivery::Delivery,
    director::Director,
    disk::blobs::Blobs,
    events::EventKind,
    http::{rates::Rates, wires::Wires},
    ingest::Ingest,
    metrics::{Gauges, Metrics},
    profiles::Profiles,
    proposals,
    repository::{Repository, TeamRole},
    rollout::pulse::Pulse,
    store::{FleetSettings, NewEvent, NewVersion, SignState, SignedVersion, Store},
};

mod muting;
use muting::Muting;

/// The same refusal of the same party is recorded once in this time; all are counted.
const MUTED: Duration = Duration::from_secs(60);
/// Nor is the renewal of one device's certificate for so long.
const RENEWALS_MUTED: Duration = Duration::from_secs(3600);
/// Most readers of `/api/v1/stream` at once.
pub const MAX_STREAMS: usize = 64;

/// One fleet.
#[derive(Debug)]
pub struct Fleet {
    /// What `init` fixed.
    pub settings: FleetSettings,
    /// The records.
    pub store: Arc<Store>,
    /// Who read what, and who was refused.
    pub accesses: Accesses,
    /// The blobs.
    pub blobs: Arc<Blobs>,
    /// The TUF repository.
    pub repository: Arc<Repository>,
    /// The certificate authority.
    pub authority: Authority,
    /// The director.
    pub director: Arc<Director>,
    /// The schedule of sends.
    pub delivery: Delivery,
    /// What reports are taken with.
    pub ingest: Ingest,
    /// What windows are held against.
    pub profiles: Profiles,
    /// The counters.
    pub metrics: Metrics,
    /// Places for readers of `/api/v1/stream`.
    pub streams: Arc<Semaphore>,
    /// Wakes streams when a token was revoked.
    pub revocations: watch::Sender<()>,
    /// What wakes the reconciler of rollouts.
    pub pulse: Pulse,
    /// Who wakes on what was committed.
    pub bells: Bells,
    /// How often devices and newcomers may ask.
    pub rates: Rates,
    /// The HTTPS connections of devices.
    pub wires: Arc<Wires>,
    live: RwLock<Option<Arc<Live>>>,
    refused: Muting<(EventKind, String)>,
    used: Muting<String>,
    renewed: Muting<DeviceId>,
    runtime: tokio::runtime::Handle,
}

/// What is known once everything listens.
pub struct Live {
    /// The broker.
    pub broker: BrokerHandle,
    /// Base address of HTTPS for devices.
    pub https_url: String,
    /// Address of MQTT for devices, `host:port`.
    pub mqtt_address: String,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({}, {})", self.https_url, self.mqtt_address)
    }
}

/// The parts that a fleet is put together from.
pub struct Parts {
    /// What `init` fixed.
    pub settings: FleetSettings,
    /// The records.
    pub store: Store,
    /// The blobs.
    pub blobs: Blobs,
    /// The TUF repository.
    pub repository: Repository,
    /// The certificate authority.
    pub authority: Authority,
    /// The director.
    pub director: Director,
    /// First delay before a desired state is sent again.
    pub resend: Duration,
    /// How often devices and newcomers may ask.
    pub rates: Rates,
}

impl Fleet {
    /// A fleet that nobody is connected to yet. Must be called inside the server's runtime.
    pub fn new(parts: Parts) -> Arc<Self> {
        let store = Arc::new(parts.store);
        Arc::new(Self {
            settings: parts.settings,
            accesses: Accesses::new(store.clone()),
            store,
            blobs: Arc::new(parts.blobs),
            repository: Arc::new(parts.repository),
            authority: parts.authority,
            director: Arc::new(parts.director),
            delivery: Delivery::new(parts.resend),
            ingest: Ingest::default(),
            profiles: Profiles::default(),
            metrics: Metrics::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            revocations: watch::channel(()).0,
            pulse: Pulse::new(clock::now()),
            bells: Bells::default(),
            rates: parts.rates,
            wires: Arc::default(),
            live: RwLock::default(),
            refused: Muting::new(MUTED),
            used: Muting::new(MUTED),
            renewed: Muting::new(RENEWALS_MUTED),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Tells the fleet that everything listens.
    pub fn go_live(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(live));
    }

    /// Tells the fleet that nothing listens any more. The broker's policy holds the fleet and the fleet the broker's
    /// handle; without this neither would ever be dropped.
    pub fn retire(&self) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn current(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known once everything listens.
    ///
    /// # Errors
    /// Before that, and once it stops.
    pub fn live(&self) -> anyhow::Result<Arc<Live>> {
        self.current().context("the server is starting or stopping")
    }

    /// Whether the device has a connection.
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.current().is_some_and(|live| live.broker.live(device.as_str()) > 0)
    }

    /// Cuts every connection that the device has, MQTT and HTTPS; says how many there were. Whatever keeps it out must be
    /// on record before, or it is back at once.
    pub fn cut(&self, device: &DeviceId) -> usize {
        self.delivery.settled(device);
        let sessions = self.current().map_or(0, |live| live.broker.cut(device.as_str()));
        sessions + self.wires.cut(device)
    }

    /// Runs `work`, which blocks, where it may.
    ///
    /// # Errors
    /// Where it panicked.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Fleet) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let fleet = self.clone();
        self.runtime.spawn_blocking(move || work(&fleet)).await.context("blocking work died")
    }

    /// Records a refusal that concerns the fleet, unless the same party's same refusal was just recorded.
    pub fn record_refusal(self: &Arc<Self>, party: &str, event: NewEvent) {
        if !self.refused.is_due((event.kind, format!("{party} {}", event.code))) {
            self.metrics.events_muted.fetch_add(1, Relaxed);
            return;
        }
        let fleet = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = fleet.store.record(event, clock::now()).await {
                tracing::error!(%error, "an event was not recorded");
            }
        });
    }

    /// Whether a renewal of this device's certificate is worth an event, which nothing deletes: one an hour is.
    pub fn renewal_is_news(&self, device: &DeviceId) -> bool {
        self.renewed.is_due(device.clone())
    }

    /// Notes that a token is in use, once a minute for each.
    pub fn token_used(self: &Arc<Self>, name: &str) {
        if !self.used.is_due(name.to_owned()) {
            return;
        }
        let (fleet, name) = (self.clone(), name.to_owned());
        self.spawn(async move {
            if let Err(error) = fleet.store.token_used(name, clock::now()).await {
                tracing::error!(%error, "the use of a token was not noted");
            }
        });
    }

    /// Runs `task` on the server's runtime: for hooks that must not wait.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// How states are signed inside the store's transactions.
    pub fn signer(&self) -> SignState {
        let director = self.director.clone();
        Arc::new(move |device, generation, models, now| director.sign(device, generation, models, now))
    }

    /// Sends the device what the row demands of it, if it still lags and is there.
    pub async fn send_desired(&self, device: DeviceId) {
        if let Err(error) = self.try_send_desired(&device).await {
            tracing::warn!(%device, error = format!("{error:#}"), "a desired state was not sent");
        }
    }

    async fn try_send_desired(&self, device: &DeviceId) -> anyhow::Result<()> {
        let demand = self.store.demand(device.clone()).await.context("read the demand")?;
        let Some(demand) = demand.filter(|demand| demand.lags && self.is_connected(device)) else {
            self.delivery.settled(device);
            return Ok(());
        };
        let fleet = self.settings.fleet.clone();
        let topic = DeviceTopic { fleet, device: device.clone(), channel: Channel::Desired }.to_string();
        self.live()?.broker.publish_local(topic, demand.bytes, Qos::AtLeastOnce, false).await?;
        self.metrics.desired_sent.fetch_add(1, Relaxed);
        tracing::debug!(%device, generation = %demand.generation, "desired state sent");
        Ok(())
    }

    /// Keeps `json` as what the server says on `topic`, and publishes it; none clears the topic. It is durable before it
    /// is sent, and what could not be sent is published at the next start.
    ///
    /// # Errors
    /// Where the store fails, or the broker does not take it; before everything listens there is nobody to send it to.
    pub async fn publish_retained(&self, topic: String, json: Option<Vec<u8>>) -> anyhow::Result<()> {
        let payload = json.unwrap_or_default();
        self.store.retain(topic.clone(), payload.clone()).await.context("keep a retained message")?;
        self.state(topic, payload).await
    }

    /// Publishes what is kept already on a retained topic.
    ///
    /// # Errors
    /// Where the broker does not take it; before everything listens there is nobody to send it to.
    pub async fn state(&self, topic: String, payload: Vec<u8>) -> anyhow::Result<()> {
        match self.current() {
            Some(live) => Ok(live.broker.publish_local(topic, payload, Qos::AtLeastOnce, true).await?),
            None => Ok(()),
        }
    }

    /// Takes over what the repository lists into the catalog: after a publication, and after a crash in one.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn reconcile(self: &Arc<Self>, team: &TeamId, actor: &str, now: Timestamp) -> anyhow::Result<()> {
        for role in self.repository.roles().into_iter().filter(|role| role.team == *team) {
            self.reconcile_role(&role, actor, now).await.with_context(|| format!("role {role}"))?;
        }
        let standings = self.repository.listing(&TeamRole::release(team.clone())).standings;
        let changed = self.store.set_standings(team.clone(), standings, actor.to_owned(), now).await;
        if changed.context("record what a team says of its models")? {
            self.settle_demands(team, now).await.context("settle demands of versions that may not run")?;
            self.pulse.ring();
        }
        Ok(())
    }

    /// Demands something else of every device of which a version is demanded that may not run any more.
    async fn settle_demands(self: &Arc<Self>, team: &TeamId, now: Timestamp) -> anyhow::Result<()> {
        let mut after = Some(String::new());
        while let Some(from) = after {
            let settled = self.store.settle_demands(team.clone(), from, self.signer(), now).await?;
            for (device, generation) in settled.devices.iter().filter(|(device, _)| self.is_connected(device)) {
                self.delivery.lags(device, *generation);
            }
            after = settled.next;
        }
        Ok(())
    }

    async fn reconcile_role(self: &Arc<Self>, role: &TeamRole, actor: &str, now: Timestamp) -> anyhow::Result<()> {
        let record = async || {
            let listed = self.repository.listing(role).versions;
            let recorded = self.store.set_signed(role.clone(), listed, actor.to_owned(), now).await;
            recorded.context("record what is published")
        };
        let kind = role.kind;
        // Another upload may have taken a version's place between its signature and now. What is signed counts.
        for SignedVersion { model, manifest: digest } in record().await? {
            let (of, restored) = (model.clone(), format!("restore the manifest of {model}"));
            let bytes = self.blocking(move |fleet| fleet.repository.manifest(&of, &digest, kind)).await?;
            let bytes = bytes.context(restored.clone())?.with_context(|| format!("the manifest of {model} is gone"))?;
            let manifest = Manifest::from_target(&bytes, &model, &digest).context(restored)?;
            let version = NewVersion::new(model, digest, &manifest, bytes, actor.to_owned());
            self.store.restore_manifest(version, now).await.context("record a manifest")?;
        }
        record().await?;
        let (signed, version) = self.repository.signed_part(role);
        if let Some(signed) = signed {
            let digest = proposals::digest(&signed).context("read what is published")?;
            self.store.settle_proposals(role.clone(), version, digest, now).await.context("settle proposals")?;
        }
        Ok(())
    }

    /// The counters as text.
    pub fn metrics_page(&self) -> String {
        let live = self.current();
        let gauges = Gauges {
            commits: self.store.commits(),
            store_waiting: self.store.waiting(),
            lagging: self.delivery.lagging(),
            mqtt_connections: live.as_ref().map_or(0, |live| live.broker.connections()),
            metadata_seconds_left: self.repository.expires().as_second() - clock::now().as_second(),
        };
        self.metrics.render(live.as_ref().map(|live| live.broker.counters()), gauges) + &self.pulse.page()
    }
}
