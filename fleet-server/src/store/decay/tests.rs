//! Detection over kills: what is read back from a real file goes on as if nothing had happened.
//!
//! Rows go the way of reports, through ingest's transaction into telemetry; batches are what the server's task has of them. A
//! kill leaves the file and its write-ahead log as they are at that moment, and everything in memory is gone.

use std::{collections::BTreeMap, sync::Arc};

use tern_protocol::report::v1::{Item, Stream};

use super::*;
use crate::{
    decay::{
        detector::{Committed, Detector, Standard, Subject},
        incidents::Change,
        keeping::{self, Policy},
        simulation::fleet::{Fleet, Harm, Rng, version},
    },
    forms::incident::{IncidentKind, IncidentRow},
    ingest::Entry,
    store::{Batch, Content, NewRow, Paging},
};

const DEVICES: usize = 8;
const MODEL: &str = "vision/digits@1.0.0";
/// Rows of a batch: it ends between the reports of one window.
const ROWS: u32 = 7;
/// One batch in so many ends with a kill.
const KILLS: f64 = 6.0;

/// A server's store and detector, as often as they are started.
struct Server {
    store: Store,
    folder: tempfile::TempDir,
    detector: Detector,
    fleet: Fleet,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("server.db")).unwrap();
        let demand = |connection: &Connection| {
            let sql = "INSERT INTO demanded (device, team, model_id, version) VALUES (?1, 'vision', 'digits', '1.0.0')";
            let mut devices = (0..DEVICES).map(|device| format!("cam-{device}"));
            devices.try_for_each(|device| connection.execute(sql, [device]).map(drop)).map_err(StoreError::from)
        };
        store.write(demand).await.unwrap();
        let fleet = Fleet::new(160, DEVICES);
        let mut server = Self { store, folder, detector: Detector::default(), fleet };
        server.read_back().await;
        server
    }

    fn standard(&self) -> Standard {
        Standard::Profile(Arc::clone(&self.fleet.profile))
    }

    async fn read_back(&mut self) {
        let standard = self.standard();
        self.detector = keeping::restore(self.store.detector().await.unwrap(), |_| standard.clone());
        let model = version(MODEL);
        if !self.detector.knows(&model) {
            self.detector.subjects.insert(model, Subject::new(standard));
        }
    }

    /// What a kill leaves, and a start from that.
    async fn kill(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server.db", "server.db-wal"] {
            let from = self.folder.path().join(name);
            if from.exists() {
                std::fs::copy(from, folder.path().join(name)).unwrap();
            }
        }
        self.store = Store::open(&folder.path().join("server.db")).unwrap();
        self.folder = folder;
        self.read_back().await;
    }

    /// One window of each device, in reports of their own.
    async fn report(&mut self, harm: impl Fn(usize) -> Harm) {
        for device in 0..DEVICES {
            let rows = (0..4).map(|_| self.fleet.report(device, harm(device))).collect();
            self.commit(device, rows).await;
        }
    }

    /// Commits rows of one device as those of a report.
    async fn commit(&mut self, device: usize, rows: Vec<Committed>) {
        let at = Timestamp::from_millisecond(rows[0].received).unwrap();
        let (count, device, stream) = (rows.len() as u64, rows[0].device.clone(), Stream([device as u8; 16]));
        let batch = Batch { device, stream, rows: rows.into_iter().map(row).collect() };
        assert_eq!(self.store.commit_report(batch, at).await.unwrap().unwrap().new, count);
    }

    /// Works through what was reported; `kill` says after which steps everything is lost. Returns how often it was.
    async fn detect(&mut self, mut kill: impl FnMut() -> Option<Kill>) -> usize {
        let policy: Policy = Arc::new(|_, _, change| match change {
            Change::Opened => vec![("notify", "opened")],
            _ => Vec::new(),
        });
        let mut kills = 0;
        loop {
            let (rows, _) = self.store.detector_rows(self.detector.cursor, ROWS).await.unwrap();
            if rows.is_empty() {
                return kills;
            }
            let at = Timestamp::from_millisecond(rows[rows.len() - 1].received).unwrap();
            let step = keeping::batch(&mut self.detector, rows, None, &policy);
            let fate = kill();
            kills += usize::from(fate.is_some());
            match fate {
                Some(Kill::Before) => self.kill().await,
                fate => {
                    self.store.advance(step, "f".parse().unwrap(), at).await.unwrap();
                    if fate.is_some() {
                        self.kill().await;
                    }
                }
            }
        }
    }

    async fn incidents(&self) -> Vec<IncidentRow> {
        self.store.incidents(None, Paging { after: String::new(), limit: 99 }).await.unwrap()
    }
}

/// When everything is lost.
enum Kill {
    /// Before a batch is written down: its rows come again.
    Before,
    /// After that.
    After,
}

fn row(row: Committed) -> NewRow {
    let item = row.item.unwrap();
    let Item::Window(window) = &item else { panic!("a window") };
    let (sequence, entry) = (window.number, Box::new(Entry::from(&**window)));
    NewRow { sequence, content: Content::Counted { entry, bytes: postcard::to_stdvec(&item).unwrap() } }
}

/// A clean stretch in which the cohort is learned, two devices at fault, a change of all with a broken model, and quiet.
async fn play(kills: Option<u64>) -> (Server, usize) {
    let mut server = Server::start().await;
    let mut rng = kills.map(Rng::new);
    let mut killed = 0;
    let off = Harm { shift: 2.0, ..Harm::default() };
    let phases: [(usize, Harm, &[usize]); 4] = [
        (54, Harm::default(), &[]),
        (6, off, &[2, 5]),
        (6, Harm { broken: 0.3, ..off }, &[0, 1, 2, 3, 4, 5, 6, 7]),
        (12, Harm::default(), &[]),
    ];
    for (rounds, harm, on) in phases {
        for _ in 0..rounds {
            server.report(|device| if on.contains(&device) { harm } else { Harm::default() }).await;
            let fate = || {
                let rng = rng.as_mut()?;
                let drawn = (rng.uniform() * 2.0 * KILLS) as usize;
                [Kill::Before, Kill::After].into_iter().nth(drawn)
            };
            killed += server.detect(fate).await;
        }
    }
    (server, killed)
}

type Kept<K, S> = BTreeMap<K, S>;

/// What is written down, in an order of its own.
async fn kept(server: &Server) -> (Kept<String, VersionState>, Kept<String, DeviceState>, Kept<String, RunState>) {
    let state = server.store.detector().await.unwrap();
    assert_eq!(state.cursor, server.detector.cursor);
    (
        state.versions.into_iter().map(|version| (version.model.to_string(), version)).collect(),
        state.devices.into_iter().map(|device| (device.device.to_string(), device)).collect(),
        state.runs.into_iter().map(|run| (run.device.to_string(), run)).collect(),
    )
}

#[tokio::test]
async fn detection_that_is_killed_at_any_batch_goes_on_to_the_same_incidents() {
    let (whole, none) = play(None).await;
    let (cut, killed) = play(Some(7)).await;
    assert!(none == 0 && killed > 20, "{killed} kills");
    let incidents = whole.incidents().await;
    let kinds: Vec<_> = incidents.iter().rev().map(|incident| incident.kind).collect();
    let expected = [
        IncidentKind::DeviceFault,
        IncidentKind::PopulationChange,
        IncidentKind::ObjectiveBreached,
        IncidentKind::ModelBroken,
    ];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert_eq!(cut.incidents().await, incidents, "numbers, times, evidence and hooks");
    assert_eq!(kept(&cut).await, kept(&whole).await, "and what comes next");
}

#[tokio::test]
async fn an_outage_is_an_incident_of_its_own_from_reports_without_a_value() {
    for is_blind in [false, true] {
        let mut server = Server::start().await;
        for number in 0..4 {
            for device in 0..DEVICES {
                let rows = vec![server.fleet.failed(device, 50, is_blind)];
                server.commit(device, rows).await;
            }
            // What each batch counted is there after a kill.
            server.detect(|| (number % 2 == 0).then_some(Kill::After)).await;
        }
        let incidents = server.incidents().await;
        let [incident] = &incidents[..] else { panic!("blind {is_blind}: {incidents:?}") };
        assert_eq!((incident.kind, incident.devices.len()), (IncidentKind::LatencyOrErrors, DEVICES));
        assert_eq!(incident.summary, "inferences fail on 8 of 8 devices");
        assert_eq!((incident.evidence[0].share, incident.evidence[0].of), (Some(1.0), Some(50)));
    }
}
