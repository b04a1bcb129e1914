//! A small fleet of real processes: two devices that answer, each behind cables of its own, and ways to wait for the
//! server's word.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use tern_agent::control::StatusPage;
use tern_examples::{
    cameras::{Address, Digit, read_digits},
    clock::Moment,
    hardships::Hardships,
    processes::{Daemon, Program, Programs},
    witness::Witness,
    world::{Device, World},
};
use tern_fleet_server::forms::{DeviceRow, EventRow, FiguresRow};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(180);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);
const VERSION: &str = "1.0.0";

/// A running fleet. Its folder is kept after a failure: the logs in it say what happened.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) digits: Vec<Digit>,
    pub(crate) scratch: PathBuf,
    programs: Programs,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

impl Town {
    /// A server whose devices' certificates live so many seconds, and two devices on which a version answers.
    pub(crate) async fn start(certificate_life_seconds: u32) -> Self {
        let scratch = tempfile::Builder::new().prefix("tern-").tempdir().expect("a temporary folder").keep();
        let assets = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"));
        let programs = Programs::new(env!("CARGO_BIN_EXE_tern-under-test"));
        let hardships = Hardships { cables: true, ..Hardships::default() };
        let mut world = World::new(programs.clone(), &scratch, 2, Duration::ZERO, hardships).await.unwrap();
        world.certificate_life_seconds = Some(certificate_life_seconds);
        world.init_server().await.unwrap();
        world.start_server().await.unwrap();
        world.log_in().await.unwrap();
        for (index, device) in world.devices.iter().enumerate() {
            world.start_device(device, index).await.unwrap();
        }
        let digits = read_digits(&assets.join("data/played.csv")).unwrap();
        let town = Self { world, digits, scratch, programs };
        let key = town.world.server_folder().join("operator/release-demo.key");
        let bundle = assets.join("models/meter-digits").join(VERSION);
        town.tern(&["model", "publish", path(&bundle), "--key", path(&key)]).await;
        let terms = ["--probation-inferences", "5", "--probation-seconds", "1"];
        let model = format!("demo/meter-digits@{VERSION}");
        town.tern(&[&["assign", &model, "--to", "*", "--reason", "first"][..], &terms].concat()).await;
        for device in ["cam-1", "cam-2"] {
            town.device(device, "answers", |row| row.models.iter().any(|model| model.version.is_some())).await;
        }
        town
    }

    /// Cameras that ask both devices all the time.
    pub(crate) fn witness(&self) -> Witness {
        Witness::start(self.world.devices.iter().map(|d| (d.name.clone(), d.address.clone())), &self.digits)
    }

    /// What `tern ARGS` prints.
    pub(crate) async fn tern(&self, args: &[&str]) -> serde_json::Value {
        let text = self.world.operator.run(args).await.unwrap_or_else(|error| self.fail(&format!("{error:#}")));
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn list<T: DeserializeOwned>(&self, args: &[&str]) -> Vec<T> {
        serde_json::from_value::<List<T>>(self.tern(args).await).expect("a list").items
    }

    /// Every event so far, oldest first.
    pub(crate) async fn events(&self) -> Vec<EventRow> {
        self.list(&["events", "--last", "10000"]).await
    }

    /// Waits until `wanted` finds something.
    pub(crate) async fn until<T>(&self, what: &str, mut wanted: impl AsyncFnMut() -> Option<T>) -> T {
        let started = Moment::now();
        loop {
            if let Some(found) = wanted().await {
                return found;
            }
            if started.elapsed() > LIMIT {
                self.fail(&format!("waited {LIMIT:?} until {what}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the server's row of a device is as wanted.
    pub(crate) async fn device(&self, name: &str, what: &str, wanted: impl Fn(&DeviceRow) -> bool) -> DeviceRow {
        self.until(&format!("{name} {what}"), async || {
            let row = self.row(name).await;
            wanted(&row).then_some(row)
        })
        .await
    }

    /// What the server says of a device.
    pub(crate) async fn row(&self, name: &str) -> DeviceRow {
        serde_json::from_value(self.tern(&["device", "show", name]).await).expect("a device")
    }

    /// Waits until there is an event of this kind about this device after the event `after`.
    pub(crate) async fn event(&self, device: &str, kind: &str, after: i64) -> EventRow {
        let about = |event: &EventRow| event.device.as_ref().is_some_and(|d| d.as_str() == device);
        self.until(&format!("{kind} of {device} after {after}"), async || {
            self.events().await.into_iter().find(|event| event.id > after && event.kind == kind && about(event))
        })
        .await
    }

    /// The sum of a counter of the server over every label.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.world.console).await.expect("the server's own listener");
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let lines = answer.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Takes both cables of a device out, or plugs them in.
    pub(crate) fn plug(&self, index: usize, is_in: bool) {
        self.world.cables[index].iter().for_each(|cable| cable.plug(is_in));
    }

    /// The process of each agent.
    pub(crate) async fn pids(&self) -> Vec<Option<u32>> {
        self.world.processes.lock().await.agents.iter().map(Daemon::pid).collect()
    }

    /// Waits until the devices and the server have counted so many rows, all of them reported.
    pub(crate) async fn counted(&self, rows: u64) {
        self.until(&format!("both sides have counted {rows} rows"), async || {
            let (mut own, mut waiting) = (0, 0);
            for device in &self.world.devices {
                let page = self.status(device).await?;
                own += page.outbox.counted.values().map(|counts| counts.rows).sum::<u64>();
                waiting += page.outbox.waiting + page.outbox.offered;
            }
            let server: u64 =
                self.list::<FiguresRow>(&["device", "figures"]).await.into_iter().map(|row| row.rows).sum();
            ((own, server, waiting) == (rows, rows, 0)).then_some(())
        })
        .await;
    }

    async fn status(&self, device: &Device) -> Option<StatusPage> {
        let mut command = self.programs.command(Program::Agent);
        command.args(["status", "--json", "--config"]).arg(&device.config);
        serde_json::from_slice(&command.output().await.ok()?.stdout).ok()
    }

    /// Runs `tern-agent ARGS` on a device to its end; its output.
    pub(crate) async fn agent(&self, device: &Device, args: &[&str]) -> std::process::Output {
        let mut command = self.programs.command(Program::Agent);
        command.args(args).arg("--config").arg(&device.config);
        tokio::time::timeout(LIMIT, command.output())
            .await
            .expect("a command that ends")
            .expect("a command that starts")
    }

    /// Ends the agent of a device and starts another after `between`.
    pub(crate) async fn restarted(&self, index: usize, between: impl AsyncFnOnce()) {
        let agent = self.world.processes.lock().await.agents.remove(index);
        agent.stop(Duration::from_secs(15)).await.expect("an agent that ends when asked");
        between().await;
        let daemon = self.daemon(&self.world.devices[index]);
        self.world.processes.lock().await.agents.insert(index, daemon);
    }

    /// A machine beside the devices, whose agent does not run: its folders are `name`'s.
    pub(crate) fn machine(&self, name: &str) -> Device {
        let at = |place: String| self.scratch.join(place).to_str().expect("a path in UTF-8").to_owned();
        let text = format!(
            "state_dir = {:?}\nruntime_dir = {:?}\ndevice_class = \"camera\"\nreconnect_max_seconds = 1\nthreads = 1\n",
            at(format!("devices/{name}")),
            at(format!("run/{name}"))
        );
        let config = self.write(&format!("config/{name}.toml"), &text);
        let address = Address::Unix(self.scratch.join(format!("run/{name}/infer.sock")));
        Device { name: name.into(), config, address }
    }

    /// Writes a file of the scratch folder; where it is.
    #[expect(clippy::disallowed_methods, reason = "a scratch folder need not outlive a power cut")]
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let place = self.scratch.join(name);
        std::fs::write(&place, text).unwrap();
        place
    }

    /// Starts the agent of a machine that has an identity.
    pub(crate) async fn start_agent(&mut self, machine: Device) {
        let daemon = self.daemon(&machine);
        self.world.processes.lock().await.agents.push(daemon);
        self.world.devices.push(machine);
    }

    fn daemon(&self, device: &Device) -> Daemon {
        let (programs, file) = (self.programs.clone(), device.config.clone());
        let make = move || {
            let mut command = programs.command(Program::Agent);
            command.args(["run", "--config"]).arg(&file);
            command
        };
        let log = self.scratch.join(format!("logs/{}.log", device.name));
        Daemon::start(&device.name, &log, make).expect("an agent that starts")
    }

    /// The end of a device's certificate as the device has it, by the server's record of it.
    pub(crate) async fn certificate_end(&self, name: &str) -> Timestamp {
        self.row(name).await.certificate_expires
    }

    /// Ends everything; the folder goes.
    pub(crate) async fn stop(self) {
        self.world.stop().await.expect("every process ends when asked");
        std::fs::remove_dir_all(&self.scratch).expect("the scratch folder goes");
    }

    fn fail(&self, what: &str) -> ! {
        panic!("logs in {}: {what}", self.scratch.display())
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
