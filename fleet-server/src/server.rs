//! `tern-server`: makes a data folder, or serves one. The start and the shutdown are lists; the work is in the modules.

mod args;
pub mod ca;
mod init;
pub(crate) mod upkeep;

use std::{ffi::OsString, io::IsTerminal, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use jiff::Timestamp;
use tern_protocol::{
    topics::{Channel, DeviceTopic},
    tuf,
    twin::Status,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    broker::{self, Broker, BrokerConfig, SelfTest},
    ca::{Authority, rotation::BUNDLE},
    clock,
    config::Config,
    console, decay,
    director::Director,
    disk::{self, FolderLock, blobs::Blobs},
    fleet::{Fleet, Live, Parts},
    hooks::Hooks,
    http::{
        self,
        listener::{Limits, Listener, TlsSlot},
        rates::Rates,
    },
    ready::{self, Addresses},
    repository::{Keyring, Repository},
    rollout,
    store::{Gone, Store},
    transport::Transport,
};

pub use init::{InitOrder, init};
use init::{adopt, new_key};

/// The whole program: arguments in, exit code out. 0 is success, 1 a failure, 2 wrong usage.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match args::Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come here too; the code tells them apart.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match carry_out(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tern-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: args::Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    match arguments.command {
        args::Command::Init(order) => {
            let order = order.order();
            runtime.block_on(init(&order))?;
            println!("{}", order.words());
            Ok(())
        }
        args::Command::Ca(order) => {
            println!("{}", runtime.block_on(ca::carry_out(&order.order()))?);
            Ok(())
        }
        args::Command::Adopt { ceremony, data_dir } => {
            let versions = adopt(&data_dir, &ceremony, clock::now())?;
            println!("{versions}\nnext: tern-server run --data-dir {}", data_dir.display());
            Ok(())
        }
        args::Command::Keys(args::Keys::New { role, data_dir }) => {
            println!("{}", new_key(&data_dir, role)?.display());
            Ok(())
        }
        args::Command::Run(order) => {
            let config = order.config()?;
            log(&config.log)?;
            runtime.block_on(async {
                let mut server = Server::start(config).await?;
                let ended = tokio::select! {
                    ended = stop_signal() => ended,
                    failure = server.failed() => Err(failure),
                };
                tracing::info!("stopping");
                server.shutdown().await;
                ended
            })
        }
    }
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("log filter {filter:?}: write it like info or info,tern_fleet_server=debug"))?;
    // Colours are for eyes: in a file or a journal they are noise.
    let is_seen = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_seen).with_writer(std::io::stderr);
    // In a test a subscriber may be there already.
    let _ = log.try_init();
    Ok(())
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A running server.
pub struct Server {
    fleet: Arc<Fleet>,
    addresses: Addresses,
    broker: Broker,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    tasks: JoinSet<()>,
    // Last: the folder is let go when nothing writes to it any more.
    _lock: FolderLock,
}

impl Server {
    /// Starts everything; returns when everything listens and the ready-file is written.
    ///
    /// # Errors
    /// Where the data folder is not whole, held by another server, or an address is taken.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let folder = &config.data_dir;
        ensure!(
            folder.join("server.db").exists(),
            "{} holds no server: make one with `tern-server init`",
            folder.display()
        );
        let lock = disk::lock(&folder.join("server.lock"))
            .with_context(|| format!("take {}: is another server running on it?", folder.display()))?;
        let now = clock::now();
        let fleet = open(&config, now).await?;
        let (stop, stopping) = watch::channel(false);

        let tls = TlsSlot::new(fleet.authority.https(&fleet.settings.names, now)?);
        let https = Listener::bind(config.https_listen, Some(tls.clone()), Limits::default()).await?;
        let console = match config.console_listen {
            Some(address) => Some(Listener::bind(address, None, Limits::default()).await?),
            None => None,
        };
        let broker = start_broker(&config, &fleet, now).await?;
        let addresses = Addresses {
            https: https.address()?,
            mqtt: broker.address(),
            console: console.as_ref().map(Listener::address).transpose()?,
        };
        fleet.go_live(live(&config, &fleet, &broker, addresses));

        let mut listeners = JoinSet::new();
        listeners.spawn(https.run(http::router(fleet.clone()), fleet.clone(), stopping.clone()));
        if let Some(console) = console {
            let router =
                console::router(Arc::new(console::Window(fleet.clone()))).merge(http::local_router(fleet.clone()));
            listeners.spawn(console.run(router, fleet.clone(), stopping.clone()));
        }
        let mut tasks = JoinSet::new();
        let sending = fleet.clone();
        tasks.spawn(async move {
            sending.delivery.run(|device| sending.send_desired(device)).await;
        });
        let hooks = Hooks::new(&config.hooks, folder)?;
        tasks.spawn(decay::task::run(fleet.clone(), hooks.policy()));
        for hook in hooks.tasks(&fleet) {
            tasks.spawn(hook);
        }
        let telling = fleet.clone();
        tasks.spawn(async move { telling.ingest.watermarks.run(&telling).await });
        tasks.spawn(upkeep::forget(fleet.clone(), config.telemetry_life()));
        tasks.spawn(upkeep::run(fleet.clone(), tls, broker.handle()));
        tasks.spawn(rollout::reconciler::run(fleet.clone()));
        if let Some(path) = &config.ready_file {
            ready::write(path, addresses)?;
        }
        tracing::info!(fleet = %fleet.settings.fleet, https = %addresses.https, mqtt = %addresses.mqtt, "serving");
        Ok(Self { fleet, addresses, broker, stop, listeners, tasks, _lock: lock })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The fleet that it serves.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Waits until a task dies, which is a bug: without it the server would go on and look healthy. Whoever started the
    /// process starts it again.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Err(died)) => return anyhow::Error::new(died).context("a task of the server died"),
                Some(Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops in order: listeners, broker (wills are published and stored), tasks, store.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        self.broker.shutdown().await;
        self.tasks.shutdown().await;
        self.fleet.retire();
        if let Err(error) = self.fleet.accesses.settle(true).await {
            tracing::error!(%error, "counts of refused requests were not recorded");
        }
        self.fleet.store.close().await;
    }
}

/// Lays the CA bundle of a rotation out. Devices keep what they have where that fails.
fn lay_authorities(repository: &Repository, ca: &Path, now: Timestamp) -> anyhow::Result<()> {
    let bundle = disk::read(&ca.join(BUNDLE), tuf::MAX_CA_BUNDLE_BYTES).context("read the CA bundle")?;
    let Some(pem) = bundle else { return Ok(()) };
    match repository.put_authorities(&pem, now) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!("targets do not list ca/{BUNDLE} as it is: no device trusts it before a ceremony does")
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "the CA bundle was not laid out"),
    }
    Ok(())
}

/// Opens what the data folder holds, mending what a crash left.
async fn open(config: &Config, now: Timestamp) -> anyhow::Result<Arc<Fleet>> {
    let folder = &config.data_dir;
    let store = Store::open(&folder.join("server.db")).context("open server.db")?;
    let settings = store.settings().await.context("read the fleet's settings")?;
    let tuf = folder.join("tuf");
    ensure!(
        tuf.join("metadata").exists(),
        "no ceremony was adopted yet: hold one with the public keys in {0}/public, then run `tern-server adopt FOLDER \
         --data-dir {0}`",
        folder.display()
    );
    let keyring = Keyring::open(&folder.join("keys")).context("open the server's keys")?;
    let repository = Repository::open(&tuf, keyring, now).context("open the TUF repository")?;
    lay_authorities(&repository, &folder.join("ca"), now)?;
    let keys = repository.director().context("open the director's keys")?;
    let director = Director::new(keys, settings.fleet.clone(), config.desired_life()).with_settings(config.settings());
    let fleet = Fleet::new(Parts {
        rates: Rates::new(config.requests_at_once),
        authority: Authority::open(&folder.join("ca"))
            .context("open the certificate authority")?
            .with_device_life(config.certificate_life()),
        blobs: Blobs::open(&folder.join("blobs")).context("open the blobs")?,
        resend: Duration::from_secs(u64::from(config.desired_resend_seconds)),
        settings,
        store,
        repository,
        director,
    });
    // Devices keep their models and their reports come in, whatever has expired; upkeep tries again.
    upkeep::freshen(&fleet, now).await;
    for team in fleet.repository.teams() {
        fleet.reconcile(&team, "server", now).await?;
    }
    http::proposal_routes::resume(&fleet).await.context("go on with proposals")?;
    upkeep::settle(&fleet, now).await?;
    fleet.store.offline(None, Gone::ServerStarted, now).await.context("mark devices as offline")?;
    Ok(fleet)
}

async fn start_broker(config: &Config, fleet: &Arc<Fleet>, now: Timestamp) -> anyhow::Result<Broker> {
    let retained = fleet.store.retained().await.context("read retained messages")?;
    let foreign = |channel| {
        let device = "self-test".parse().expect("invariant: a valid name");
        DeviceTopic { fleet: fleet.settings.fleet.clone(), device, channel }.to_string()
    };
    let broker = BrokerConfig {
        listen: config.mqtt_listen,
        tls: fleet.authority.mqtt(&fleet.settings.names, now)?,
        initial_retained: retained.into_iter().map(|(topic, payload)| as_restarted(topic, payload)).collect(),
        self_test: SelfTest { topic: foreign(Channel::Status), filter: foreign(Channel::Desired) },
        limits: broker::Limits::default(),
        clock: Arc::new(|| clock::now().into()),
    };
    Broker::start(broker, Arc::new(Transport::new(fleet.clone()))).await.context("start the MQTT broker")
}

/// A retained message as it is true after a restart: nobody is connected yet.
fn as_restarted(topic: String, payload: Vec<u8>) -> (String, Bytes) {
    let is_status = DeviceTopic::parse(&topic).is_ok_and(|topic| topic.channel == Channel::Status);
    let status = is_status.then(|| serde_json::from_slice::<Status>(&payload).ok()).flatten();
    let offline = status.and_then(|status| serde_json::to_vec(&Status { online: false, ..status }).ok());
    (topic, offline.unwrap_or(payload).into())
}

fn live(config: &Config, fleet: &Fleet, broker: &Broker, addresses: Addresses) -> Live {
    let first = fleet.settings.names.first().map_or("localhost", String::as_str);
    let host = config.public_host.as_deref().unwrap_or(first);
    // An IPv6 address stands in brackets where a port follows.
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    Live {
        broker: broker.handle(),
        https_url: format!("https://{host}:{}", addresses.https.port()),
        mqtt_address: format!("{host}:{}", addresses.mqtt.port()),
    }
}

/// Installs what must be there before TUF metadata or TLS is touched.
fn prepare() {
    tuf::install_provider();
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    disk::create_folder(path).with_context(|| format!("create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    async fn data_folder(scratch: &tempfile::TempDir) -> Config {
        let data_dir = scratch.path().join("data");
        let order = InitOrder {
            data_dir: data_dir.clone(),
            fleet: "f".parse().unwrap(),
            solo: Some(vec!["demo".parse().unwrap()]),
            names: vec!["localhost".into()],
        };
        init(&order).await.unwrap();
        Config { data_dir, ..Config::default() }
    }

    #[tokio::test]
    async fn a_server_starts_years_later_and_signs_targets_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let config = data_folder(&scratch).await;
        let later = clock::now() + SignedDuration::from_hours(2 * 365 * 24);
        let fleet = open(&config, later).await.unwrap();
        assert!(fleet.repository.expires() > later);
        assert!(fleet.repository.metadata("2.targets.json").unwrap().is_some());
        fleet.store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_task_that_dies_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let config = Config { https_listen: free, mqtt_listen: free, ready_file: None, ..data_folder(&scratch).await };
        let mut server = Server::start(config).await.unwrap();
        server.tasks.spawn(async { panic!("a bug") });
        let failure = tokio::time::timeout(Duration::from_secs(30), server.failed()).await.unwrap();
        assert_eq!(failure.to_string(), "a task of the server died");
        server.shutdown().await;
    }

    #[tokio::test]
    async fn a_server_that_cannot_sign_targets_starts_and_says_so() {
        let scratch = tempfile::tempdir().unwrap();
        let config = data_folder(&scratch).await;
        disk::remove(&config.data_dir.join("keys/targets-1.key")).unwrap();
        let later = clock::now() + SignedDuration::from_hours(2 * 365 * 24);
        let fleet = open(&config, later).await.unwrap();
        let events = fleet.store.newest_events(9).await.unwrap();
        let said = events.iter().find(|event| event.kind == "metadata-expiring").unwrap();
        assert!(said.message.contains("expired"), "{}", said.message);
        fleet.store.close().await;
    }

    #[test]
    fn after_a_restart_nobody_is_online() {
        let text = br#"{"online":true,"boot":"b","agent_version":"1","since":"2026-06-01T00:00:00Z"}"#;
        let (_, payload) = as_restarted("tern/v1/f/d/status".into(), text.to_vec());
        assert!(!serde_json::from_slice::<Status>(&payload).unwrap().online);
        let (_, twin) = as_restarted("tern/v1/f/d/twin".into(), text.to_vec());
        assert_eq!(twin.as_ref(), text);
        assert_eq!(as_restarted("tern/v1/f/d/status".into(), b"x".to_vec()).1.as_ref(), b"x");
    }
}
