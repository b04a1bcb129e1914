//! The world of a story: a scratch folder, one server, some devices and an operator, all real processes on loopback.
//!
//! Ports are chosen once, so that a process that is started again is found where it was.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tern_fleet_server::forms::EnrolmentTicket;
use tokio::sync::Mutex;

use crate::{
    cable::Cable,
    cameras::Address,
    clock::Moment,
    hardships::{Hardships, SmallDisk, clock_at_1970},
    operator::Operator,
    processes::{Daemon, Program, Programs},
};

/// The fleet of the stories.
pub const FLEET: &str = "quickstart";
/// The team of the stories.
pub const TEAM: &str = "demo";
/// Longest time a process may take to end when asked.
const GRACE: Duration = Duration::from_secs(15);

/// The processes that are running.
#[derive(Default)]
pub struct Processes {
    /// The server.
    pub server: Option<Daemon>,
    /// The agents, in the order of the devices.
    pub agents: Vec<Daemon>,
}

/// One device of a story.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its config file.
    pub config: PathBuf,
    /// Where its inference API is.
    pub address: Address,
}

/// A running world.
pub struct World {
    /// The programs.
    pub programs: Programs,
    /// Where everything lies.
    pub scratch: PathBuf,
    /// The processes.
    pub processes: Arc<Mutex<Processes>>,
    /// The devices.
    pub devices: Vec<Device>,
    /// The operator.
    pub operator: Operator,
    /// Where the server's page is.
    pub console: SocketAddr,
    /// The cables of each device, HTTPS and MQTT, in the order of the devices; none where hardships leave them out.
    pub cables: Arc<Vec<[Cable; 2]>>,
    /// The small disk, where one device has it.
    pub small_disk: Option<SmallDisk>,
    /// How long devices' certificates live, where that is not a year.
    pub certificate_life_seconds: Option<u32>,
    hardships: Hardships,
    https: SocketAddr,
    mqtt: SocketAddr,
    patience: Duration,
}

impl World {
    /// An empty world in `scratch`, for `count` devices. `patience` is how long commands that fail are tried again.
    ///
    /// # Errors
    /// Where the folder, a port, a cable or the small disk cannot be had.
    pub async fn new(
        programs: Programs,
        scratch: &Path,
        count: usize,
        patience: Duration,
        hardships: Hardships,
    ) -> anyhow::Result<Self> {
        for folder in ["logs", "config", "run"] {
            std::fs::create_dir_all(scratch.join(folder)).context("making the scratch folder")?;
        }
        let operator = Operator { programs: programs.clone(), config: scratch.join("config/operator.toml"), patience };
        let ports = free_ports(count + 3)?;
        let (https, mqtt, console) = (ports[0], ports[1], ports[2]);
        let devices = ports[3..].iter().enumerate().map(|(index, port)| {
            let name = format!("cam-{}", index + 1);
            let socket = scratch.join(format!("run/{name}/infer.sock"));
            let address = if index % 2 == 0 { Address::Unix(socket) } else { Address::Tcp(*port) };
            let config = scratch.join(format!("config/{name}.toml"));
            Device { name, config, address }
        });
        let devices: Vec<Device> = devices.collect();
        let mut cables = Vec::new();
        for _ in devices.iter().filter(|_| hardships.cables) {
            cables.push([Cable::new(https).await?, Cable::new(mqtt).await?]);
        }
        let small_disk = hardships.small_disk.and_then(|index| devices.get(index)).map(|device| {
            let folder = scratch.join("devices").join(&device.name);
            std::fs::create_dir_all(&folder).context("making a folder for the small disk")?;
            SmallDisk::mount(&folder)
        });
        Ok(Self {
            devices,
            programs,
            scratch: scratch.into(),
            processes: Arc::default(),
            operator,
            console,
            cables: Arc::new(cables),
            small_disk: small_disk.transpose()?,
            certificate_life_seconds: None,
            hardships,
            https,
            mqtt,
            patience,
        })
    }

    /// The server's folder.
    pub fn server_folder(&self) -> PathBuf {
        self.scratch.join("server")
    }

    /// What the server runs when a model has to be trained anew.
    pub fn retrain_hook(&self) -> PathBuf {
        self.scratch.join("config/retrain.sh")
    }

    /// Makes the server's keys and folders.
    ///
    /// # Errors
    /// Where `tern-server init` fails.
    pub async fn init_server(&self) -> anyhow::Result<()> {
        let mut command = self.programs.command(Program::Server);
        command.args(["init", "--solo", "--data-dir"]).arg(self.server_folder());
        command.args(["--fleet", FLEET, "--team", TEAM, "--name", "localhost", "--name", "127.0.0.1"]);
        succeed(command, "tern-server init").await
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// Where it does not within a minute.
    pub async fn start_server(&self) -> anyhow::Result<()> {
        let (programs, folder, ready) =
            (self.programs.clone(), self.server_folder(), self.scratch.join("run/server.json"));
        // Policy stands in a file only: the hook runs when labels say that the model is broken.
        let config = self.scratch.join("config/server.toml");
        let hook = text(&self.retrain_hook())?;
        write(&config, &format!("[hooks]\nretrain_command = [{hook:?}]\nretrain_on = [\"model-broken\"]\n"))?;
        let (https, mqtt, console) = (self.https.to_string(), self.mqtt.to_string(), self.console.to_string());
        let life = self.certificate_life_seconds;
        // The file may be left from a server that was stopped.
        let _ = std::fs::remove_file(&ready);
        let ready_file = ready.clone();
        let make = move || {
            let mut command = programs.command(Program::Server);
            command.arg("run").arg("--data-dir").arg(&folder).arg("--ready-file").arg(&ready_file);
            command.args(["--public-host", "localhost", "--desired-resend-seconds", "1"]);
            command.args(["--report-interval-seconds", "1", "--window-seconds", "1"]).arg("--config").arg(&config);
            command.args(["--https-listen", &https, "--mqtt-listen", &mqtt, "--console-listen", &console]);
            command.args(life.iter().flat_map(|life| ["--certificate-life-seconds".into(), life.to_string()]));
            command
        };
        let daemon = Daemon::start("tern-server", &self.scratch.join("logs/server.log"), make)?;
        let waited = wait_for_file(&ready).await;
        let tail = daemon.log_tail();
        self.processes.lock().await.server = Some(daemon);
        waited.with_context(|| format!("starting the server; its log ends with:\n{tail}"))
    }

    /// Asks the server to end and waits.
    ///
    /// # Errors
    /// Where it does not end cleanly.
    pub async fn stop_server(&self) -> anyhow::Result<()> {
        let server = self.processes.lock().await.server.take();
        server.context("no server is running")?.stop(GRACE).await
    }

    /// Logs the operator in.
    ///
    /// # Errors
    /// Where `tern login` fails.
    pub async fn log_in(&self) -> anyhow::Result<()> {
        let folder = self.server_folder().join("operator");
        let server = format!("https://localhost:{}", self.https.port());
        let (ca, token) = (text(&folder.join("ca.pem"))?, text(&folder.join("token"))?);
        self.operator.run(&["login", "--server", &server, "--ca", &ca, "--token-file", &token]).await.map(drop)
    }

    /// Enrols a device and starts its agent.
    ///
    /// # Errors
    /// Where the order, the enrolment or the start fails.
    pub async fn start_device(&self, device: &Device, index: usize) -> anyhow::Result<()> {
        let config = self.agent_config(device, index)?;
        write(&device.config, &config)?;
        let hall = format!("hall={}", index % 2 + 1);
        let started = Moment::now();
        loop {
            // A server that was killed in between has used the token up: a new order is then what an operator would make.
            let ticket: EnrolmentTicket =
                self.operator.tern(&["device", "enroll", &device.name, "--label", &hall]).await?;
            let mut command = self.programs.command(Program::Agent);
            command.args(["enroll", "--token", &ticket.token, "--config"]).arg(&device.config);
            match succeed(command, "tern-agent enroll").await {
                Ok(()) => break,
                Err(error) if started.elapsed() < self.patience => tracing::info!(%error, "enrolling again"),
                Err(error) => return Err(error),
            }
        }
        self.lay_cables(device, index)?;
        let (programs, file) = (self.programs.clone(), device.config.clone());
        let clock = (self.hardships.clock_at_1970 == Some(index)).then(clock_at_1970).transpose()?;
        let make = move || {
            let mut command = programs.command(Program::Agent);
            command.args(["run", "--config"]).arg(&file);
            command.envs(clock.iter().flatten().map(|(key, value)| (key, value)));
            command
        };
        let daemon = Daemon::start(&device.name, &self.scratch.join(format!("logs/{}.log", device.name)), make)?;
        let waited = wait_for_file(&self.scratch.join(format!("run/{}.json", device.name))).await;
        let tail = daemon.log_tail();
        self.processes.lock().await.agents.push(daemon);
        waited.with_context(|| format!("starting {}; its log ends with:\n{tail}", device.name))
    }

    /// Puts the device behind its own cables: what enrolment settled names the server's address.
    fn lay_cables(&self, device: &Device, index: usize) -> anyhow::Result<()> {
        let Some([https, mqtt]) = self.cables.get(index) else { return Ok(()) };
        let path = self.scratch.join("devices").join(&device.name).join("identity/enrolment.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut enrolment: serde_json::Value = serde_json::from_str(&text).context("reading what enrolment settled")?;
        enrolment["server"] = format!("https://localhost:{}", https.address.port()).into();
        enrolment["mqtt_address"] = format!("localhost:{}", mqtt.address.port()).into();
        write(&path, &enrolment.to_string())
    }

    fn agent_config(&self, device: &Device, index: usize) -> anyhow::Result<String> {
        let path = |name: &str| text(&self.scratch.join(name));
        let mut config = format!(
            "state_dir = {:?}\nruntime_dir = {:?}\nready_file = {:?}\ndevice_class = \"camera\"\n\
             reconnect_max_seconds = 1\nthreads = 1\ncheckpoint_interval_seconds = 1\nlabels = {{ lens = \"l{}\" }}\n",
            path(&format!("devices/{}", device.name))?,
            path(&format!("run/{}", device.name))?,
            path(&format!("run/{}.json", device.name))?,
            index + 1
        );
        if let Address::Tcp(address) = &device.address {
            config.push_str(&format!("infer_tcp = \"{address}\"\n"));
        }
        Ok(config)
    }

    /// Stops everything, agents first.
    ///
    /// # Errors
    /// Where a process did not end cleanly.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let mut processes = self.processes.lock().await;
        let mut ended = Ok(());
        for agent in processes.agents.drain(..) {
            ended = ended.and(agent.stop(GRACE).await);
        }
        match processes.server.take() {
            Some(server) => ended.and(server.stop(GRACE).await),
            None => ended,
        }
    }
}

async fn succeed(mut command: tokio::process::Command, what: &str) -> anyhow::Result<()> {
    let output =
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("waiting for a command")??;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{what} ended with {}: {out}{err}", output.status);
    }
    Ok(())
}

async fn wait_for_file(file: &Path) -> anyhow::Result<()> {
    let started = Moment::now();
    while !file.exists() {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("it was not ready within a minute");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Loopback ports that were free a moment ago, all different. They lie below those that the kernel gives to whoever asks
/// for any, so that nobody is given one while its server is down; other worlds begin elsewhere.
fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 20_000;
    static WORLDS: AtomicU32 = AtomicU32::new(0);
    let before = WORLDS.fetch_add(1, Ordering::Relaxed).wrapping_mul(101);
    let begin = std::process::id().wrapping_mul(7_919).wrapping_add(before) % COUNT;
    let ports = (0..COUNT).filter_map(|step| u16::try_from((begin + step) % COUNT).ok()).map(|offset| FIRST + offset);
    let free = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let listeners: Vec<_> = free.take(count).collect();
    ensure!(listeners.len() == count, "fewer than {count} ports between {FIRST} and 32,000 are free");
    listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a scratch folder need not outlive a power cut")]
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
