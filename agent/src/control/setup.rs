//! From a configuration to a running control loop: folders, lock, record, identity, sockets, and then the loop.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use ring::rand::SecureRandom;
use serde_json::json;
use sigstore_tuf::Repository;
use tern_protocol::ids::{ModelName, Version};
use tokio::sync::{mpsc, watch};

use super::{
    Control, EVENTS, Wires, figures::FiguresSide, listeners, socket, standings::Standings, telemetry::TelemetrySide,
    worker::WorkerSide,
};
use crate::{
    bundle::{Bundles, Installer},
    clock::{DeviceClock, Moment},
    config::Config,
    disk,
    fetch::Rules,
    http::{Pace, Remote},
    identity::Identity,
    install::Machine,
    link::{self, Figures, Link},
    notify::Beats,
    outbox::{self, Boots, Outbox},
    probe::ProbeLimits,
    renewal::{Keeper, Signs},
    rescue,
    self_exec::SelfExec,
    sources::Sources,
    state::ModelRecord,
    store::{Origin, Store},
    supervisor::{Listener, Supervisor, Timing},
    telemetry::Telemetry,
    tls::Credentials,
    trust::{HttpRepository, Trust},
    vitals::Vitals,
};

/// Runs the agent until it is told to stop.
///
/// # Errors
/// What keeps it from serving at all: no identity, a bad folder, a socket that is taken, another agent.
pub async fn run(config: Config, programs: SelfExec) -> anyhow::Result<()> {
    let (control, wires) = Setup::new(config, programs)?.build().await?;
    control.run(wires).await
}

struct Setup {
    config: Config,
    programs: SelfExec,
    identity: Identity,
    store: Store,
    clock: DeviceClock,
    lock: std::fs::File,
    agent: Version,
}

impl Setup {
    fn new(config: Config, programs: SelfExec) -> anyhow::Result<Self> {
        for folder in [&config.state_dir, &config.runtime_dir] {
            disk::make_folder(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let lock = lock(&config.state_dir)?;
        let Some(identity) = Identity::load(&config.identity_dir())? else {
            bail!(
                "this device is not enrolled: run `tern-agent enroll --token …` with a token from `tern device enroll`"
            );
        };
        let store = Store::open(&config.state_dir);
        if store.fault().is_none() {
            // A ticket that was asked for is not needed any more.
            rescue::forget_nonce(&config.state_dir);
        }
        disk::Reserve::new(&config.state_dir).refill();
        // Trust adds what root's online keys vouch for.
        let clock = DeviceClock::new(store.read(|s| s.time_floor));
        let agent = agent_version();
        Ok(Self { config, programs, identity, store, clock, lock, agent })
    }

    async fn build(self) -> anyhow::Result<(Control, Wires)> {
        let (sockets, infer_tcp) = self.bind()?;
        let control_socket = listeners::unix(&self.config.control_socket(), 0o600)?;
        control_socket.set_nonblocking(true)?;
        let control_socket = tokio::net::UnixListener::from_std(control_socket)?;
        let credentials = self.identity.credentials()?;
        let tls = credentials.config(self.clock.clone())?;
        // What is fetched carries signatures of its own. So a time that a thief of an online key carried ahead must not keep
        // the device from the root that takes that key out: files are asked for by what root alone vouches for.
        let files_tls = credentials.config(DeviceClock::new(self.store.read(|s| s.time_floor)))?;
        let installer = Arc::new(self.installer(&files_tls)?);
        let signs = Signs::default();
        let keeper = self.keeper(credentials, &tls, signs.clone(), installer.clone())?;
        let (boot, since) = (random_boot()?, self.clock.now());
        let beats = Beats::default();
        // Full: see EVENTS.
        let (events_in, events) = mpsc::channel(EVENTS);
        // Full: the link waits, and with it the server.
        let (link_in, link_events) = mpsc::channel(16);
        let (twin_out, twin) = watch::channel(Bytes::new());
        let (figures_out, figures) = watch::channel(Figures::new());
        // Full: the feeder waits, and the outbox with it.
        let (reports_in, reports) = mpsc::channel(1);
        let (stop_link, stop) = watch::channel(false);
        let telemetry = self.telemetry().await?;
        let feeder = tokio::spawn(telemetry.outbox.clone().feed(reports_in));
        let enrolment = self.identity.enrolment.clone();
        let options = link::Options {
            fleet: enrolment.fleet.clone(),
            device: enrolment.device.clone(),
            address: enrolment.mqtt_address.clone(),
            tls: Some(tls),
            reconnect_max: Duration::from_secs(self.config.reconnect_max_seconds),
            status: link::status(&boot, &self.agent.to_string(), since),
            signs,
        };
        let link = Link { options, twin, figures, reports, events: link_in, stop, beat: beats.link.clone() };
        let limits = self.config.limits();
        let supervisor = Supervisor::new(self.programs.clone(), limits, Timing::default(), sockets);
        let mut control = Control {
            enrolment,
            boot,
            since,
            started: Moment::now(),
            installer,
            machines: BTreeMap::new(),
            numbers: 0,
            running: BTreeMap::new(),
            worker: WorkerSide::new(supervisor),
            link: super::LinkPage::default(),
            last_error: self.store.read(|s| s.last_error.clone()),
            refusals: BTreeMap::new(),
            sparing: super::Sparing::default(),
            tallies: BTreeMap::new(),
            telemetry,
            standings: Standings::default(),
            figures: FiguresSide::new(figures_out),
            infer_tcp,
            announced: false,
            tended: Moment::now(),
            readmitting: false,
            garbage: true,
            events_in: events_in.clone(),
            twin_out,
            beats,
            config: self.config,
            agent: self.agent,
            clock: self.clock,
            store: self.store,
            _lock: self.lock,
        };
        control.boot_machines().await;
        let link = tokio::spawn(link.run());
        let socket = tokio::spawn(socket::serve(control_socket, events_in));
        let keeper = tokio::spawn(keeper.run());
        Ok((control, Wires { events, link_events, stop_link, link, feeder, socket, keeper }))
    }

    /// Whoever looks after the certificate, with an identity of its own.
    fn keeper(
        &self,
        credentials: Credentials,
        tls: &rustls::ClientConfig,
        signs: Signs,
        installer: Arc<Installer>,
    ) -> anyhow::Result<Keeper> {
        let folder = self.config.identity_dir();
        let identity = Identity::load(&folder)?.context("the identity went away")?;
        let remote = Remote::new(&identity.enrolment.server, tls)?;
        let refresh = Duration::from_secs(self.config.trust_refresh_seconds);
        Ok(Keeper { identity, folder, credentials, remote, clock: self.clock.clone(), signs, installer, refresh })
    }

    /// Opens the outbox, and records that this start did.
    async fn telemetry(&self) -> anyhow::Result<TelemetrySide> {
        let boots = self.store.read(|s| Boots { started: s.boots, opened: s.outbox_boot });
        let options = outbox::Options {
            folder: self.config.state_dir.clone(),
            budget: self.config.outbox_bytes,
            boots,
            clock: self.clock.clone(),
            generation: self.store.read(|s| s.generation()),
            patience: outbox::PATIENCE,
        };
        let opened = tokio::task::spawn_blocking(move || Outbox::open(options)).await;
        let (outbox, opened, thread) = opened.context("the outbox")?.context("a thread for the outbox")?;
        let (boot, is_open) = (opened.boot, opened.is_open);
        let written = self.store.update(move |s| {
            s.boots = boot;
            s.outbox_boot = if is_open { boot } else { s.outbox_boot };
        });
        if let Err(fault) = written.await {
            tracing::warn!(%fault, "this start is not recorded: a copied outbox would not be noticed");
        }
        let interval = Duration::from_secs(self.config.checkpoint_interval_seconds);
        let machine = Telemetry::new(boot, interval, opened.totals);
        Ok(TelemetrySide::new(machine, outbox, thread, Vitals::new(self.config.state_dir.clone())))
    }

    fn bind(&self) -> anyhow::Result<(Vec<Listener>, Option<SocketAddr>)> {
        let mut sockets = vec![Listener::from(listeners::unix(&self.config.infer_socket(), 0o660)?)];
        let Some(address) = self.config.infer_tcp else { return Ok((sockets, None)) };
        let (listener, address) = listeners::tcp(address)?;
        sockets.push(Listener::from(listener));
        Ok((sockets, Some(address)))
    }

    fn installer(&self, tls: &rustls::ClientConfig) -> anyhow::Result<Installer> {
        let others: Vec<String> = self.config.sources.iter().map(|source| source.url.clone()).collect();
        let sources = Sources::over_tls(&others, &self.identity.enrolment.server, tls)?;
        let patience = Duration::from_secs(self.config.source_patience_seconds);
        let repositories = sources.map(|remote| -> Arc<dyn Repository> {
            Arc::new(HttpRepository::new(remote.clone()).at_pace(Pace::of_metadata(patience)))
        });
        let (root, store, clock) = (self.identity.root.clone(), self.store.clone(), self.clock.clone());
        let trust = Trust::open(repositories, &self.config.state_dir, root, store, clock)
            .context("the TUF root of this device's enrolment; enrol it again")?;
        let probe = ProbeLimits {
            memory_bytes: self.config.probe_memory_bytes,
            cpu_seconds: self.config.probe_cpu_seconds,
            wall: Duration::from_secs(self.config.probe_wall_seconds),
            ..ProbeLimits::default()
        };
        Ok(Installer {
            trust,
            sources,
            bundles: Bundles::open(&self.config.state_dir).context("the folder of versions")?,
            class: self.config.device_class.clone(),
            agent: self.agent.clone(),
            disk_bytes: self.config.disk_bytes,
            probe,
            programs: self.programs.clone(),
            rules: Rules::of_patience(patience),
            turn: tokio::sync::Mutex::default(),
        })
    }
}

impl Control {
    /// Makes a machine of each commit record, as the boot table says.
    async fn boot_machines(&mut self) {
        let records = match self.store.origin() {
            Origin::Nowhere => self.last_served().await,
            Origin::Database | Origin::Copy => self.store.read(|s| s.models.clone()),
        };
        for (name, record) in records {
            let before = record.clone();
            let mut cx = super::context(&self.started, &self.clock, (&self.agent, &self.config), &mut self.numbers);
            let standing = self.store.read(|s| s.standing(&name));
            let Some((machine, effects)) = Machine::boot(record, standing, &mut cx) else {
                let forgotten = name.clone();
                if let Err(error) = self.store.update(move |s| drop(s.models.remove(&forgotten))).await {
                    tracing::warn!(%error, model = %name, "a removed model is not forgotten");
                }
                continue;
            };
            self.machines.insert(name.clone(), machine);
            match self.carry_out(&name, effects).await {
                Some(failed) => self.step(&name, failed).await,
                None => self.tell_changes(&name, &before),
            }
        }
        self.tell_silent();
    }

    /// The records to serve by when there are no others; says to everybody that they are all there is.
    async fn last_served(&mut self) -> BTreeMap<ModelName, ModelRecord> {
        let served = Store::last_served(&self.config.state_dir, self.clock.now()).unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "what was served is not known either: nothing is served");
            BTreeMap::new()
        });
        self.note_unreadable().await;
        served
    }
}

/// This agent's version.
pub(crate) fn agent_version() -> Version {
    env!("CARGO_PKG_VERSION").parse().expect("invariant: the package's version is semantic")
}

/// Takes the state folder for this process.
pub(crate) fn lock(state_dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = state_dir.join("lock");
    disk::lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            anyhow::anyhow!("another tern-agent runs on {}: stop it first", state_dir.display())
        }
        _ => anyhow::Error::from(error).context(format!("lock {}", path.display())),
    })
}

fn random_boot() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(hex::encode(bytes))
}

/// Writes the addresses for whoever waits for them.
pub(super) fn write_ready_file(path: &Path, config: &Config, infer_tcp: Option<SocketAddr>) -> std::io::Result<()> {
    let page = json!({
        "pid": std::process::id(),
        "infer_socket": config.infer_socket(),
        "infer_tcp": infer_tcp,
        "control_socket": config.control_socket(),
    });
    disk::write_file(path, page.to_string().as_bytes(), disk::PLAIN)
}
