//! A `tern-server` that is killed again and again while devices report and it judges: a real process, over real MQTT, comes to
//! the end of one that ran through.
//!
//! What "at least once" allows: reports come again until their watermark covers them, and count once; a hook may run again
//! under the same number. Nothing else may differ but times: numbers, words and evidence of incidents, the events that tell of
//! them, and every bit of the detectors.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tern_fleet_server::{
    config::Config,
    decay::{device::DeviceWatch, watch::Watch},
    disk,
    forms::{
        Assigned, Page,
        incident::{IncidentKind, IncidentRow},
    },
    ready::Ready,
};
use tern_protocol::{
    report::v1::{Feedback, Item},
    watermark::Watermark,
};
use tern_stats::profile::Profile;

use super::{
    MODEL, assign,
    decay::Camera,
    ingest::{contract, profile, report, watching},
    rig::{Enrolled, Mqtt, Rig, eventually},
};

const DEVICES: usize = 8;
/// Members that hold the server's time.
const TIMES: [&str; 8] =
    [" since: ", " at: ", " seen: ", " ended: ", " usual: ", " opened: ", " updated: ", " resolved: Some("];

/// What the devices of a phase do.
#[derive(Clone, Copy)]
enum Deed {
    Well,
    /// The sensors of these stand still.
    Stuck(&'static [usize]),
    /// All stand still, and half of their sure answers are wrong.
    Wrong,
    /// Every inference of these fails.
    Failing(&'static [usize]),
}

const PHASES: [(usize, Deed); 5] =
    [(6, Deed::Well), (5, Deed::Stuck(&[2, 5])), (5, Deed::Wrong), (13, Deed::Well), (4, Deed::Failing(&[3]))];

fn item(camera: &mut Camera, device: usize, deed: Deed) -> Item {
    let errors = if matches!(deed, Deed::Wrong) { 5 } else { 0 };
    camera.answers = (vec![0, 10], vec![Feedback::default(), Feedback { n: 10, errors }]);
    match deed {
        Deed::Well => camera.window(false),
        Deed::Stuck(on) => camera.window(on.contains(&device)),
        Deed::Wrong => camera.window(true),
        Deed::Failing(on) if on.contains(&device) => camera.failed(),
        Deed::Failing(_) => camera.window(false),
    }
}

/// A server as a process of its own, and the devices' sessions with it.
struct Killable {
    rig: Rig,
    process: Child,
    devices: Vec<Enrolled>,
    sessions: Vec<Option<Mqtt>>,
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

impl Killable {
    /// A fleet of eight and the version that they report of.
    async fn new() -> (Self, Vec<Camera>) {
        let mut rig = Rig::start().await;
        let promised = Profile { objective: Some(0.2), ..profile() };
        let uploads = watching(&serde_json::to_vec(&promised).unwrap());
        let cameras = (0..DEVICES).map(|_| Camera::new(contract(&uploads))).collect();
        rig.publish_bundle(MODEL, uploads).await.reply.empty();
        let mut devices = Vec::new();
        for number in 1..=DEVICES {
            devices.push(rig.enrol(&format!("cam-{number}")).await);
        }
        assign(&rig, MODEL, "*").await.ok::<Assigned>();
        rig.stop().await;
        let heard = rig.folder.path().join("heard");
        let script = rig.folder.path().join("notify.sh");
        let words = format!("cat > /dev/null; echo $TERN_INCIDENT >> {}\n", heard.display());
        disk::write(&script, words.as_bytes(), disk::Access::Private).unwrap();
        let file =
            format!("[hooks]\nnotify_command = [\"/bin/sh\", {:?}]\nretry_seconds = 1\n", script.display().to_string());
        disk::write(&rig.folder.path().join("server.toml"), file.as_bytes(), disk::Access::Private).unwrap();
        let process = start(&mut rig).await;
        let sessions = (0..DEVICES).map(|_| None).collect();
        (Self { rig, process, devices, sessions }, cameras)
    }

    /// Kills it where it stands, and starts it again.
    async fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = start(&mut self.rig).await;
        self.sessions.iter_mut().for_each(|session| *session = None);
    }

    /// Sends a report until its watermark covers it, as an outbox does; the server is killed some time after it went first.
    async fn send(&mut self, device: usize, number: u64, item: Item, mut kill: Option<Duration>) {
        let payload = report([(number, item)]);
        loop {
            let Some(mut mqtt) = self.session(device).await else { continue };
            let topic = self.devices[device].topic("report");
            mqtt.client.publish(topic, rumqttc::QoS::AtLeastOnce, false, payload.clone()).await.unwrap();
            if let Some(moment) = kill.take() {
                tokio::time::sleep(moment).await;
                self.kill().await;
                continue;
            }
            let covered = mqtt.seek(|incoming| match incoming {
                rumqttc::Incoming::Publish(publish) => {
                    Some(serde_json::from_slice::<Watermark>(&publish.payload).unwrap())
                }
                _ => None,
            });
            if covered.await.is_ok_and(|watermark| watermark.sequence >= number) {
                self.sessions[device] = Some(mqtt);
                return;
            }
        }
    }

    async fn session(&mut self, device: usize) -> Option<Mqtt> {
        if let Some(session) = self.sessions[device].take() {
            return Some(session);
        }
        let mut mqtt = self.rig.mqtt(&self.devices[device]);
        mqtt.client.subscribe(self.devices[device].topic("watermark"), rumqttc::QoS::AtLeastOnce).await.ok()?;
        let subscribed = mqtt.seek(|incoming| matches!(incoming, rumqttc::Incoming::SubAck(_)).then_some(())).await;
        subscribed.is_ok().then_some(mqtt)
    }

    /// Everything that is to be the same, once all that was reported is judged and every hook has run.
    async fn end(mut self) -> End {
        eventually(async || (self.rig.metric("tern_detector_rows_behind").await == 0).then_some(())).await;
        let incidents = eventually(async || {
            let page: Page<IncidentRow> = self.rig.admin().get("/api/v1/incidents").await.ok();
            let is_told = |row: &IncidentRow| row.actions.iter().all(|action| action.state == "done");
            page.items.iter().all(is_told).then_some(page.items)
        })
        .await;
        let events: Value = self.rig.admin().get("/api/v1/events?limit=1000").await.ok();
        let events = events["items"].as_array().unwrap().iter();
        let events = events.filter(|event| event["kind"].as_str().unwrap().starts_with("incident-"));
        let events = events.map(|event| format!("{} {}", event["kind"], event["message"])).collect();
        let figures = self.rig.admin().get("/api/v1/figures").await.ok::<Page<tern_fleet_server::forms::FiguresRow>>();
        let rows = figures.items.iter().map(|figures| (figures.rows, figures.windows)).collect();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let heard = std::fs::read_to_string(self.rig.folder.path().join("heard")).unwrap();
        let mut heard: Vec<u64> = heard.lines().map(|line| line.parse().unwrap()).collect();
        heard.sort_unstable();
        heard.dedup();
        let kinds = incidents.iter().rev().map(|row| row.kind).collect();
        let incidents =
            incidents.iter().map(|row| timeless(&format!("{:?}", IncidentRow { actions: vec![], ..row.clone() })));
        End { incidents: incidents.collect(), kinds, events, rows, detectors: detectors(&self.rig), heard }
    }
}

async fn start(rig: &mut Rig) -> Child {
    let Config { data_dir, ready_file, .. } = rig.config();
    let ready_file = ready_file.unwrap();
    // It may be left from a process that was killed.
    let _ = std::fs::remove_file(&ready_file);
    let log = File::options().create(true).append(true).open(rig.folder.path().join("server.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern-server"));
    command.arg("run").arg("--data-dir").arg(data_dir).arg("--ready-file").arg(&ready_file);
    command.arg("--config").arg(rig.folder.path().join("server.toml"));
    command.args(["--https-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let ready = eventually(async || serde_json::from_slice::<Ready>(&std::fs::read(&ready_file).ok()?).ok()).await;
    rig.elsewhere = Some(ready.addresses);
    process
}

/// The same text without what the clock said.
fn timeless(text: &str) -> String {
    let is_time = |c: char| c.is_ascii_digit() || "-:.TZ".contains(c);
    TIMES.iter().fold(text.to_owned(), |text, key| {
        let mut parts = text.split(key);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |out, part| out + key + part.trim_start_matches(is_time))
    })
}

/// The detectors as they are written down, all but times.
fn detectors(rig: &Rig) -> Vec<String> {
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    let read = |sql: &str| -> Vec<Vec<u8>> {
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let versions = read("SELECT state FROM detector_versions ORDER BY version");
    let versions = versions.iter().map(|bytes| format!("{:?}", postcard::from_bytes::<Watch>(bytes).unwrap()));
    let devices = read("SELECT state FROM detector_devices ORDER BY device");
    let devices = devices.iter().map(|bytes| format!("{:?}", postcard::from_bytes::<DeviceWatch>(bytes).unwrap()));
    versions.chain(devices).map(|text| timeless(&text)).collect()
}

/// What a run comes to.
#[derive(Debug, PartialEq)]
struct End {
    incidents: Vec<String>,
    kinds: Vec<IncidentKind>,
    events: Vec<String>,
    rows: Vec<(u64, u64)>,
    detectors: Vec<String>,
    /// Incidents that the hook heard of, each once or more.
    heard: Vec<u64>,
}

/// All phases, a report after the other; about one in `one_in` is followed by a kill within milliseconds.
async fn play(one_in: Option<u64>) -> (End, usize) {
    let (mut server, mut cameras) = Killable::new().await;
    // xorshift64 (Marsaglia 2003).
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut drawn = |below: u64| {
        for shift in [-13, 7, -17] {
            seed ^= if shift < 0 { seed << -shift } else { seed >> shift };
        }
        seed % below
    };
    let mut kills = 0;
    for (rounds, deed) in PHASES {
        for _ in 0..rounds {
            for (device, camera) in cameras.iter_mut().enumerate() {
                let item = item(camera, device, deed);
                let kill = one_in.filter(|one_in| drawn(*one_in) == 0).map(|_| Duration::from_micros(drawn(6_000)));
                kills += usize::from(kill.is_some());
                server.send(device, camera.number, item, kill).await;
            }
        }
    }
    (server.end().await, kills)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_judges_comes_to_the_same_incidents_and_detectors() {
    let ((whole, none), (cut, kills)) = (play(None).await, play(Some(14)).await);
    assert!(none == 0 && kills >= 12, "{kills} kills");
    let expected = [
        IncidentKind::DeviceFault,
        IncidentKind::PopulationChange,
        IncidentKind::ObjectiveBreached,
        IncidentKind::ModelBroken,
        IncidentKind::LatencyOrErrors,
    ];
    assert!(expected.iter().all(|kind| whole.kinds.contains(kind)), "{:?}", whole.kinds);
    assert_eq!((whole.heard.len(), whole.detectors.len()), (whole.kinds.len(), 1 + DEVICES));
    assert_eq!(cut.events, whole.events);
    assert_eq!(cut, whole);
}
