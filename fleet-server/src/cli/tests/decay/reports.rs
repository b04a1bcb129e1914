//! The same rows by two ways: `tern decay replay`, and hourly reports of devices to the server's detectors. What one finds the
//! other finds.

use std::{collections::BTreeMap, sync::Arc};

use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, ModelVersion},
    report::v1::{self, Clock, Item, System, Violations},
};
use tern_stats::{
    calendar::DAY,
    course::skipped,
    labels::Labels,
    profile::Profile,
    recorder::{Recorder, Value as Cell},
};

use super::*;
use crate::{
    decay::{
        detector::{Committed, Detector, Standard, Subject, Touched},
        incidents::{Change, Incident},
        keeping::{self, Policy},
        marks::Mark,
        watch::Errors,
    },
    forms::incident::{IncidentKind, Layer},
    store::{DetectorState, OpenIncident},
};

const HOUR: f64 = 3600.0;
const SLACK: f64 = 300.0;

/// A report and when the server received it, in seconds since 1970.
#[derive(Clone)]
struct Sent {
    device: DeviceId,
    window: v1::Window,
    received: f64,
}

/// What one device's agent would report of rows of a time, a temperature and perhaps a state.
struct Agent {
    device: DeviceId,
    recorder: Recorder,
    labels: Vec<Labels>,
    step: f64,
    start: f64,
    last: Option<f64>,
    sent: Vec<Sent>,
}

impl Agent {
    fn new(device: &str, profile: &Profile) -> Self {
        let step = profile.calendar.and_then(|calendar| calendar.step).unwrap_or(f64::INFINITY);
        let device = device.parse().unwrap();
        let labels = vec![Labels::default(); profile.label_bins()];
        Self { device, recorder: Recorder::of(profile), labels, step, start: 0.0, last: None, sent: Vec::new() }
    }

    /// A row of watched cells; with a label whether it was an error, and how sure the model was.
    fn row(&mut self, time: f64, cells: &[&str], answer: Option<(bool, f64)>) {
        // A window opens with a row, and closes an hour later.
        if time >= self.start + HOUR {
            self.close();
            self.start = time;
        }
        if self.last.is_some_and(|last| skipped(self.step, time - last, 1, 1) > 0) {
            self.recorder.break_sequence();
        }
        self.last = Some(time);
        for (at, cell) in cells.iter().enumerate() {
            let value = if at == 0 { Cell::Number(cell.parse().ok()) } else { Cell::Category(Some(cell)) };
            self.recorder.feature(at, value);
        }
        let bin = self.recorder.end_row(answer.map(|(_, confidence)| confidence));
        if let (Some(labels), Some((wrong, _))) = (self.labels.get_mut(bin), answer) {
            *labels = Labels { n: labels.n + 1, errors: labels.errors + u64::from(wrong) };
        }
    }

    fn close(&mut self) {
        if self.recorder.rows() == 0 {
            return;
        }
        let window = self.recorder.take();
        let ms = |seconds: f64| (seconds * 1000.0) as i64;
        let window = v1::Window {
            number: self.sent.len() as u64 + 1,
            model: model().name,
            version: model().version,
            contract: Digest::of(b"contract"),
            boot: 1,
            start_ms: ms(self.start),
            end_ms: ms(self.start + HOUR),
            clock: Clock::Trusted,
            inferences: window.rows,
            rows: window.rows,
            errors: Vec::new(),
            violations: Violations::default(),
            latency: Vec::new(),
            features: window.features.into_iter().map(Into::into).collect(),
            outputs: Vec::new(),
            confidence: window.confidence,
            feedback: self.labels.iter_mut().map(std::mem::take).map(Into::into).collect(),
            system: System::default(),
        };
        self.sent.push(Sent { device: self.device.clone(), window, received: self.start + HOUR + SLACK });
    }
}

fn model() -> ModelVersion {
    "plant/pump@1.0.0".parse().unwrap()
}

/// The reports of a file's rows, in the order in which the server receives them.
fn reports(text: &str, profile: &Profile) -> Vec<Sent> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let (has_device, has_answer) = (names[0] == "device", names.ends_with(&["label", "prediction", "confidence"]));
    let mut agents: BTreeMap<String, Agent> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let (device, cells) = if has_device { (cells[0], &cells[1..]) } else { ("d0", &cells[..]) };
        let agent = agents.entry(device.to_owned()).or_insert_with(|| Agent::new(device, profile));
        let time = cells[0].parse::<jiff::Timestamp>().unwrap().as_second() as f64;
        match cells[1..] {
            [ref cells @ .., label, prediction, confidence] if has_answer => {
                agent.row(time, cells, Some((label != prediction, confidence.parse().unwrap())));
            }
            ref cells => agent.row(time, cells, None),
        }
    }
    let mut sent: Vec<Sent> = agents
        .into_values()
        .flat_map(|mut agent| {
            agent.close();
            agent.sent
        })
        .collect();
    sent.sort_by(|a, b| a.received.total_cmp(&b.received));
    sent
}

/// An alarm as both ways tell it: window, device, feature, kind, score; and its evidence.
type Heard = (u64, Option<String>, String, &'static str, String);

/// The server's detectors, as they run in its task.
struct Server {
    profile: Arc<Profile>,
    detector: Detector,
    id: i64,
    heard: BTreeMap<Heard, f64>,
    log: Vec<(IncidentKind, Incident, Change)>,
    /// Whether it is killed and started after each row.
    is_killed: bool,
}

impl Server {
    fn new(profile: &Profile) -> Self {
        let profile = Arc::new(profile.clone());
        let mut detector = Detector::default();
        detector.subjects.insert(model(), Subject::new(Standard::Profile(profile.clone())));
        let (heard, log) = (BTreeMap::new(), Vec::new());
        Self { profile, detector, id: 0, heard, log, is_killed: false }
    }

    /// Takes reports in; between them and for a day and a half after them time passes hour by hour.
    fn run(&mut self, sent: &[Sent]) {
        let mut clock = sent[0].received;
        for sent in sent {
            while sent.received - clock > HOUR {
                clock += HOUR;
                self.pass(clock);
            }
            clock = sent.received;
            self.take(sent);
        }
        (0..36).for_each(|hour| self.pass(clock + f64::from(hour) * HOUR));
    }

    fn take(&mut self, sent: &Sent) {
        self.id += 1;
        let item = Some(Item::Window(Box::new(sent.window.clone())));
        let received = (sent.received * 1000.0) as i64;
        let row = Committed { id: self.id, device: sent.device.clone(), model: model(), received, item };
        self.act(received, |detector, touched| detector.take(row, touched));
    }

    fn pass(&mut self, at: f64) {
        let at = (at * 1000.0) as i64;
        self.act(at, |detector, touched| detector.pass(at, touched));
    }

    fn act(&mut self, at: i64, act: impl FnOnce(&mut Detector, &mut Touched)) {
        let before = (self.figures().rounds, self.windows());
        let mut touched = Touched::default();
        act(&mut self.detector, &mut touched);
        if self.is_killed {
            self.kill(&touched);
        }
        self.log.extend(touched.changes.into_iter().map(|(_, kind, incident, change, _)| (kind, incident, change)));
        let round = self.figures().rounds;
        assert!(round <= before.0 + 1, "one day at a time, or marks are said over");
        let Some((_, watch)) = &self.detector.subjects[&model()].watching else { panic!("a watch") };
        let mut all: Vec<(Heard, f64)> = Vec::new();
        for (device, own) in &watch.devices {
            if own.windows > before.1.get(device).copied().unwrap_or(0) {
                let marks = own.marks.iter().filter(|(_, _, mark)| mark.last == own.windows);
                all.extend(marks.map(|mark| self.told(own.windows - 1, Some(device), mark)));
            }
        }
        if round > before.0 {
            let marks = watch.marks.iter().filter(|(_, _, mark)| mark.last == before.0);
            all.extend(marks.map(|mark| self.told(before.0, None, mark)));
            for (kind, score, errors) in
                [("calibration", "errors-by-confidence+", &watch.broken), ("slo", "errors+", &watch.breached)]
            {
                let new = errors.iter().filter(|errors| errors.at == at);
                let strength = |errors: &Errors| errors.ground.strength.unwrap();
                all.extend(new.map(|new| ((before.0, None, String::new(), kind, score.to_owned()), strength(new))));
            }
        }
        self.heard.extend(all);
    }

    fn told(
        &self,
        window: u64,
        device: Option<&DeviceId>,
        (feature, layer, mark): (usize, Layer, &Mark),
    ) -> (Heard, f64) {
        let kind = match layer {
            Layer::Hard => "hard",
            Layer::Step => "step",
            Layer::Concurrent => "concurrent",
            Layer::Pooled => "pooled",
            Layer::Estimate => "estimate",
            other => panic!("{other:?}"),
        };
        let ground = &mark.ground;
        let sign = if ground.direction == Some(tern_stats::step::Direction::Down) { '-' } else { '+' };
        let score = ground.measure.replace("category-0", "category:off").replace("category-1", "category:on");
        let share = || Some((ground.share? / ground.limit?).log10());
        let evidence = ground.strength.or_else(share).unwrap();
        let feature = if kind == "estimate" { String::new() } else { self.profile.features[feature].name.clone() };
        ((window, device.map(|device| device.to_string()), feature, kind, format!("{score}{sign}")), evidence)
    }

    fn figures(&self) -> crate::forms::incident::WatchFigures {
        self.detector.subjects[&model()].figures()
    }

    fn windows(&self) -> BTreeMap<DeviceId, u64> {
        let watch = self.detector.subjects[&model()].watching.as_ref();
        watch.iter().flat_map(|(_, watch)| &watch.devices).map(|(name, own)| (name.clone(), own.windows)).collect()
    }

    /// Only what was written down is left: that of before, and what this step touched.
    fn kill(&mut self, touched: &Touched) {
        let mut all = Touched { versions: [model()].into(), ..Touched::default() };
        let devices: Vec<_> = self.windows().into_keys().map(|device| (model(), device)).collect();
        all.devices.extend(devices);
        all.runs.extend(self.detector.runs.keys().cloned());
        assert!(touched.devices.is_subset(&all.devices));
        let policy: Policy = Arc::new(|_, _, _| Vec::new());
        let step = keeping::advance(&self.detector, 0, all, &policy);
        let bytes = step.devices.iter().filter_map(|device| device.state.as_ref()).map(|(_, bytes)| bytes.len()).max();
        assert!(bytes.unwrap_or(0) < 12_000, "{bytes:?} bytes a device of two features");
        let open = self.detector.subjects[&model()].open.iter();
        let open =
            open.map(|(kind, incident)| OpenIncident { model: model(), kind: *kind, incident: incident.clone() });
        let state = DetectorState {
            cursor: step.cursor,
            versions: step.versions,
            devices: step.devices,
            runs: step.runs,
            open: open.collect(),
        };
        let profile = self.profile.clone();
        self.detector = keeping::restore(state, |_| Standard::Profile(profile.clone()));
    }
}

/// What a replay says, of a feature's hard rules the first alone, as the server has it.
fn replayed(outcome: &Outcome, is_one: bool) -> (BTreeMap<Heard, f64>, u64) {
    let (alarms, summary) = lines(outcome);
    let mut heard: BTreeMap<Heard, f64> = BTreeMap::new();
    for alarm in alarms {
        let text = |key: &str| alarm[key].as_str().map(str::to_owned);
        let known = ["hard", "step", "concurrent", "pooled", "calibration", "slo", "estimate"];
        let kind = known.into_iter().find(|kind| alarm["kind"] == *kind).unwrap();
        let device = if is_one { Some("d0".to_owned()) } else { text("device") };
        let feature = text("feature").unwrap_or_default();
        let key = (alarm["window"].as_u64().unwrap(), device, feature, kind, text("score").unwrap());
        let is_second =
            |known: &Heard| kind == "hard" && (known.0, &known.1, &known.2, known.3) == (key.0, &key.1, &key.2, kind);
        if !heard.keys().any(is_second) {
            heard.insert(key, alarm["evidence"].as_f64().unwrap());
        }
    }
    (heard, summary["windows"].as_u64().unwrap())
}

fn agree(ours: &BTreeMap<Heard, f64>, theirs: &BTreeMap<Heard, f64>) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (heard, evidence) in ours {
        assert!((evidence - theirs[heard]).abs() < 1e-6, "{heard:?}: {evidence}, replayed {}", theirs[heard]);
    }
}

fn fitted(bench: &Bench, more: &str) -> Profile {
    let outcome = bench.decay(&format!("fit --reference ref.csv --time-column time -o p.json{more}"));
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    serde_json::from_slice(&bench.read("p.json").unwrap()).unwrap()
}

/// 120 days of hours with a bias, rows that are missing within days, whole days without any, a sensor that is stuck; days by a
/// clock that is `ahead` hours ahead. A hole ends no more than six hours after a day or week: else a replay, which sees the next
/// row, counts in the day before what the server cannot know yet.
fn eventful(ahead: i64) -> impl Fn(i64, f64) -> Option<String> {
    move |hour, value| {
        let (day, hour) = ((hour + ahead).div_euclid(24), (hour + ahead).rem_euclid(24));
        let is_away = (767..770).contains(&day) || ((775..777).contains(&day) && (3..15).contains(&hour));
        let value = if (790..815).contains(&day) { value + 3.0 } else { value };
        (!is_away).then(|| if day >= 835 { "21.5".into() } else { format!("{value:.3}") })
    }
}

#[test]
fn hourly_reports_raise_the_alarms_of_a_replay() {
    let reference = hourly(3, 0, 730, plain);
    for (more, ahead) in [("", 0), (" --utc-offset +05:30", 5), (" --window week", 0)] {
        let live = hourly(4, 730, 120, eventful(ahead));
        let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
        let profile = fitted(&bench, more);
        let replay = bench.decay("replay --profile p.json --stream live.csv --time-column time --json");
        let (theirs, windows) = replayed(&replay, true);
        let kinds: Vec<_> = theirs.keys().map(|heard| (heard.3, heard.4.as_str())).collect();
        assert!(kinds.contains(&("hard", "flat+")) || !more.is_empty(), "{kinds:?}");
        assert!(
            kinds.iter().any(|(kind, score)| *kind == "step" && matches!(*score, "mean+" | "location+")),
            "{kinds:?}"
        );

        let mut server = Server::new(&profile);
        let sent = reports(&live, &profile);
        server.run(&sent);
        agree(&server.heard, &theirs);
        assert_eq!((server.detector.subjects[&model()].windows(), server.figures().late), (windows, 0));
        let opened: Vec<_> =
            server.log.iter().filter(|(_, _, change)| *change == Change::Opened).map(|o| o.0).collect();
        assert!(opened.contains(&IncidentKind::DataQuality), "{opened:?}");

        // In weeks what was missing is still said when the bias begins.
        assert!(opened.contains(&IncidentKind::DeviceFault) || more.contains("week"), "{more}: {opened:?}");

        // Reports that come up to five hours later, in another order, change nothing; nor do kills.
        let mut noise = Noise(29);
        let mut shuffled = sent;
        shuffled.iter_mut().for_each(|sent| sent.received += (noise.normal().abs() * 2.0).min(4.5) * HOUR);
        shuffled.sort_by(|a, b| a.received.total_cmp(&b.received));
        let mut again = Server { is_killed: true, ..Server::new(&profile) };
        again.run(&shuffled);
        agree(&again.heard, &server.heard);
        let said = |server: &Server| -> Vec<_> {
            server.log.iter().filter(|(_, _, change)| *change != Change::Refreshed).map(|l| (l.0, l.2)).collect()
        };
        assert_eq!(said(&again), said(&server));
    }
}

#[test]
fn windows_by_rows_with_times_raise_the_alarms_of_a_replay() {
    let (reference, live) = (hourly(7, 0, 730, plain), hourly(8, 730, 120, eventful(0)));
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let profile = fitted(&bench, " --window rows:48");
    let replay = bench.decay("replay --profile p.json --stream live.csv --time-column time --json");
    let (theirs, windows) = replayed(&replay, true);
    assert!(!theirs.is_empty());
    let mut server = Server::new(&profile);
    server.run(&reports(&live, &profile));
    assert_eq!(server.detector.subjects[&model()].windows(), windows);
    assert_eq!(server.heard.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    // The middle of a window lies half an hour later, by the end of its last report.
    assert!(server.heard.iter().all(|(heard, evidence)| (evidence - theirs[heard]).abs() < 0.05));
}

#[test]
fn devices_are_held_against_one_another_day_by_day() {
    let bias = |device: usize, day: i64| match (device, day) {
        (3, 395..) => 2.0,
        (_, 425..) => 6.0,
        _ => 0.0,
    };
    let (reference, live) = (fleet(14, 10, 0, 240, |_, _| 0.0), fleet(15, 10, 365, 90, bias));
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let profile = fitted(&bench, " --device-column device");
    let line = "replay --profile p.json --stream live.csv --time-column time --device-column device --cohort --json";
    let (theirs, windows) = replayed(&bench.decay(line), false);
    let mut server = Server::new(&profile);
    server.run(&reports(&live, &profile));
    assert_eq!(server.detector.subjects[&model()].windows(), windows);
    assert!(theirs.keys().any(|heard| heard.3 == "concurrent" && heard.1.as_deref() == Some("d3")));
    assert!(theirs.keys().any(|heard| heard.3 == "pooled"));
    agree(&server.heard, &theirs);
    let faults: Vec<_> = server.log.iter().filter(|(_, _, change)| *change == Change::Opened).collect();
    let [(fault, incident, _), (change, ..)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((*fault, *change), (IncidentKind::DeviceFault, IncidentKind::PopulationChange));
    assert_eq!(incident.devices, ["d3".parse().unwrap()]);
}

/// Rows with answers of ten devices: one in ten is wrong, and of a device and day that `errs` more.
fn answers(
    seed: u64,
    from: i64,
    days: i64,
    bias: impl Fn(usize, i64) -> f64,
    errs: impl Fn(usize, i64) -> f64,
) -> String {
    let mut noise = Noise(seed + 50);
    let rows = fleet(seed, 10, from, days, bias);
    let mut lines = rows.lines();
    let mut text = format!("{},label,prediction,confidence\n", lines.next().unwrap());
    let row = |at: usize| ((at % 10), from + (at / 240) as i64);
    for (at, line) in lines.enumerate() {
        let (device, day) = row(at);
        let (sure, normal) = (0.5 + 0.09 * (at % 5) as f64, noise.normal());
        // Wrong in a tenth of the cases: beyond 1.28 deviations.
        let label = if normal > 1.28 - errs(device, day) { "2" } else { "1" };
        writeln!(text, "{line},{label},1,{sure:.2}").unwrap();
    }
    text
}

#[test]
fn labels_are_weighed_over_the_fleet_by_a_replay_as_by_the_server() {
    // Two are off, and most of their answers are wrong; later those of all are wrong more often.
    let bias = |device: usize, day: i64| if day >= 395 && matches!(device, 3 | 4) { 2.0 } else { 0.0 };
    let errs = |device: usize, day: i64| match (day, device) {
        (440.., 0..=2 | 5..) => 0.7,
        (395.., 3 | 4) => 1.5,
        // One device alone, whose inputs are as ever.
        (370..380, 7) => 3.0,
        _ => 0.0,
    };
    let reference = answers(14, 0, 240, |_, _| 0.0, |_, _| 0.0);
    let live = answers(15, 365, 100, bias, errs);
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    for confidences in [" --confidence-column confidence", " --ignore confidence"] {
        let columns =
            format!(" --device-column device --label-column label --prediction-column prediction{confidences}");
        let profile = fitted(&bench, &columns);
        let line = format!("replay --profile p.json --stream live.csv --time-column time{columns} --cohort --json");
        let (theirs, windows) = replayed(&bench.decay(&line), false);
        let mut server = Server::new(&profile);
        let mut sent = reports(&live, &profile);
        if profile.confidence.is_none() {
            sent.iter_mut().for_each(|sent| sent.window.confidence.clear());
        }
        server.run(&sent);
        assert_eq!(server.detector.subjects[&model()].windows(), windows);
        let of_labels: Vec<_> = theirs.keys().filter(|heard| matches!(heard.3, "slo" | "calibration")).collect();
        println!("{confidences}: {of_labels:?}");
        for heard in theirs.keys().filter(|heard| heard.1.is_some()) {
            println!("  {heard:?}");
        }
        agree(&server.heard, &theirs);
        let rounds =
            |kind: &str| of_labels.iter().filter(|heard| heard.3 == kind).map(|heard| heard.0).collect::<Vec<_>>();
        assert!(rounds("slo").iter().any(|round| (75..85).contains(round)), "all: {:?}", rounds("slo"));
        assert!(rounds("slo").iter().all(|round| *round >= 30), "one alone breaks nothing: {:?}", rounds("slo"));
        assert_eq!(rounds("calibration").is_empty(), profile.confidence.is_none());
        for (kind, incident, change) in server.log.iter().filter(|l| l.2 != Change::Refreshed) {
            println!("  {kind:?} {change:?} {}", incident.summary);
        }
    }
}

#[test]
fn rows_that_come_after_a_day_is_final_are_no_evidence_and_not_missing() {
    let reference = hourly(7, 0, 400, plain);
    // Day 410 is stuck, and its device offline until the day after is nearly over.
    let live = hourly(8, 400, 30, |hour, value| if hour / 24 == 410 { Some("9.9".into()) } else { plain(hour, value) });
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let profile = fitted(&bench, "");
    let first = 1_609_459_200.0;
    let run = |from: i64, to: i64| {
        let mut sent = reports(&live, &profile);
        let back = first + to as f64 * HOUR;
        let is_away = |sent: &Sent| (first + from as f64 * HOUR..back).contains(&sent.received);
        sent.iter_mut().filter(|sent| is_away(sent)).for_each(|sent| sent.received = back);
        sent.sort_by(|a, b| a.received.total_cmp(&b.received));
        let mut server = Server::new(&profile);
        server.run(&sent);
        server
    };
    let online = run(0, 0);
    let stuck = |server: &Server| server.heard.keys().any(|heard| heard.0 == 10 && heard.4 == "flat+");
    assert!(stuck(&online) && online.figures().late == 0);
    // Back five hours after its end: nothing is lost.
    let soon = run(410 * 24 + 2, 411 * 24 + 5);
    agree(&soon.heard, &online.heard);
    // Back an hour later: the day is judged by the hour that came, and the others are neither evidence nor missing.
    let late = run(410 * 24 + 2, 411 * 24 + 7);
    assert!(!stuck(&late) && late.heard.is_empty(), "{:?}", late.heard);
    assert_eq!((late.figures().late, late.detector.subjects[&model()].windows()), (23, 30));
    // Away for days: they are no windows, and the one that follows lacks nothing.
    let days = run(412 * 24, 416 * 24 + 12);
    assert!(days.heard.keys().all(|heard| heard.4 != "missing+"), "{:?}", days.heard);
    assert!(days.detector.subjects[&model()].windows() < 30 && days.figures().late > 3 * 24);
}

#[test]
fn devices_that_do_not_know_the_date_are_held_to_hard_rules() {
    let reference = hourly(7, 0, 400, plain);
    let live =
        hourly(8, 400, 40, |hour, value| if hour >= 430 * 24 { Some("9.9".into()) } else { plain(hour, value + 12.0) });
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let profile = fitted(&bench, "");
    let run = |change: fn(&mut Sent)| {
        let mut sent = reports(&live, &profile);
        sent.iter_mut().for_each(change);
        let mut server = Server::new(&profile);
        server.run(&sent);
        server
    };
    let floored = run(|sent| sent.window.clock = Clock::Floored);
    let ahead = run(|sent| {
        sent.window.start_ms += 400 * DAY as i64 * 1000;
        sent.window.end_ms += 400 * DAY as i64 * 1000;
    });
    for server in [&floored, &ahead] {
        assert_eq!(server.detector.subjects[&model()].windows(), 40);
        let heard: Vec<_> = server.heard.keys().map(|heard| (heard.0, heard.3, heard.4.as_str())).collect();
        assert!(heard.contains(&(30, "hard", "flat+")), "{heard:?}");
        assert!(heard.iter().all(|heard| heard.1 == "hard"), "12 degrees more may be another season: {heard:?}");
        let opened = server.log.iter().filter(|(_, _, change)| *change == Change::Opened);
        assert_eq!(opened.map(|opened| opened.0).collect::<Vec<_>>(), [IncidentKind::DataQuality]);
    }
    assert!(run(|_| ()).heard.keys().any(|heard| heard.3 == "step" && heard.0 < 5), "with a date it is found at once");
}
