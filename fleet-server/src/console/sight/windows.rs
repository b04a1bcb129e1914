//! Windows as charts: latency, errors by labels, and how far features lie from their reference. Pure.
//!
//! A window whose sketch cannot be read, or which was counted under another contract than the one that is drawn, has no
//! point; a chart without a point is left out.

use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion},
    report::v1::{Feature, Item, Window},
};

use super::super::chart::{Chart, MAX_POINTS, Series};
use crate::{forms::incident::IncidentRow, profiles::Known, store::Telemetry};

/// Lines of one chart.
const LINES: usize = 4;
/// Features that an incident's page draws.
const FEATURES: usize = 3;

/// Changes of version that a chart marks: the newest.
const CHANGES: usize = 4;
/// A device whose newest window is older than so many of its usual pauses is not in the mean of the others.
const STALE: i32 = 3;

type OfDevices = [(DeviceId, Vec<Telemetry>)];

/// The version of the newest window.
pub(super) fn version(windows: &[Telemetry]) -> Option<ModelVersion> {
    let newest = each(windows).last()?.1;
    Some(ModelVersion { name: newest.model.clone(), version: newest.version.clone() })
}

/// A device's charts of one model.
pub(super) fn of_device(model: &ModelName, windows: &[Telemetry], known: Option<&Known>) -> Vec<Chart> {
    let of = |what: &str| format!("{what} of {}", model.model);
    let id = |what: &str| format!("{what}-{}", model.model);
    let changes = changes(windows);
    let latency = vec![line("p50", windows, |w| quantile(w, 0.5)), line("p95", windows, |w| quantile(w, 0.95))];
    let errors = vec![line("wrong by labels", windows, wrong)];
    let charts = [
        chart(id("latency"), of("Latency"), "ms", latency),
        chart(id("errors"), of("Labels that contradict a prediction"), "%", errors),
        chart(id("inputs"), of("Inputs: mean distance from the reference"), "reference sd", features(windows, known)),
    ];
    let charts = charts.into_iter().filter(|chart| !chart.series.is_empty());
    charts.map(|chart| Chart { moments: changes.clone(), ..chart }).collect()
}

/// Where another version than before closed a window.
fn changes(windows: &[Telemetry]) -> Vec<(Timestamp, String)> {
    let all: Vec<_> = each(windows).collect();
    let changed = all.windows(2).filter(|pair| pair[0].1.version != pair[1].1.version);
    let changed: Vec<_> = changed.map(|pair| (pair[1].0, pair[1].1.version.to_string())).collect();
    changed[changed.len().saturating_sub(CHANGES)..].to_vec()
}

/// Charts of a model over several devices: one line each for the first, all in the words below.
pub(super) fn of_fleet(devices: &OfDevices) -> Vec<Chart> {
    let lines = |value: fn(&Window) -> Option<f64>| {
        devices.iter().take(LINES).map(|(device, windows)| line(device.as_str(), windows, value)).collect::<Vec<_>>()
    };
    let title = |what: &str| match devices.len() {
        n if n > LINES => format!("{what}, the first {LINES} devices by name"),
        _ => what.to_owned(),
    };
    let charts = [
        chart("latency".into(), title("Latency, 95th percentile"), "ms", lines(|w| quantile(w, 0.95))),
        chart("errors".into(), title("Labels that contradict a prediction"), "%", lines(wrong)),
    ];
    charts.into_iter().filter(|chart| !chart.series.is_empty()).collect()
}

/// How the features that an incident names went, on the devices that it names and in the mean of the others. The windows
/// are of the incident's version, around its time.
pub(super) fn of_incident(row: &IncidentRow, devices: &OfDevices, known: Option<&Known>) -> Vec<Chart> {
    let named = |device: &DeviceId| row.devices.contains(device);
    let mut charts = Vec::new();
    for (index, feature) in row.features.iter().take(FEATURES).enumerate() {
        let Some((side, place)) = known.and_then(|known| place(known, feature)) else { continue };
        let distance = |w: &Window| fits(w, known).then(|| side(w).get(place).and_then(location)).flatten();
        let title = format!("{feature}: mean distance from the reference");
        charts.push(chart(format!("score-{index}"), title, "reference sd", compare(devices, named, distance)));
    }
    if charts.is_empty() {
        charts.push(chart(
            "score-errors".into(),
            "Labels that contradict a prediction".into(),
            "%",
            compare(devices, named, wrong),
        ));
    }
    charts.retain(|chart| !chart.series.is_empty());
    let ended = row.resolved.map(|at| (at, "resolved".to_owned()));
    let moments: Vec<_> = [(row.since, "since".to_owned())].into_iter().chain(ended).collect();
    charts.into_iter().map(|chart| Chart { moments: moments.clone(), ..chart }).collect()
}

/// A line for each named device, as far as there is room, and one for the mean of the others.
fn compare(
    devices: &OfDevices,
    named: impl Fn(&DeviceId) -> bool,
    value: impl Fn(&Window) -> Option<f64>,
) -> Vec<Series> {
    let (accused, others): (Vec<_>, Vec<_>) = devices.iter().partition(|(device, _)| named(device));
    let mut lines: Vec<Series> =
        accused.into_iter().take(LINES - 1).map(|(device, windows)| line(device.as_str(), windows, &value)).collect();
    let mut points = mean(&others, value);
    // What nobody is held against says nothing.
    let accused = || lines.iter().flat_map(|line| line.points.iter().map(|(at, _)| *at));
    if let (Some(first), Some(last)) = (accused().min(), accused().max()) {
        points.retain(|(at, _)| (first..=last).contains(at));
    }
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let points = points.into_iter().step_by(every).collect();
    lines.push(Series { name: "mean of other devices".into(), points });
    lines
}

/// The mean over the newest windows of these devices, anew whenever one of them closes a window: devices report at
/// different seconds, and each counts with what it last said.
fn mean(devices: &[&(DeviceId, Vec<Telemetry>)], value: impl Fn(&Window) -> Option<f64>) -> Vec<(Timestamp, f64)> {
    let mut closes = Vec::new();
    for (device, (_, windows)) in devices.iter().enumerate() {
        let lasts = pause(windows).saturating_mul(STALE);
        closes.extend(each(windows).filter_map(|(at, window)| {
            let stale = at.saturating_add(lasts).unwrap_or(Timestamp::MAX);
            Some((at, device, value(window)?, stale))
        }));
    }
    closes.sort_by_key(|(at, ..)| *at);
    let mut newest: Vec<Option<(f64, Timestamp)>> = vec![None; devices.len()];
    let mut points: Vec<(Timestamp, f64)> = Vec::new();
    for (at, device, value, stale) in closes {
        newest[device] = Some((value, stale));
        let counted = newest.iter().flatten().filter(|(_, stale)| *stale >= at);
        let (sum, count) = counted.fold((0.0, 0u32), |(sum, count), (value, _)| (sum + value, count + 1));
        points.pop_if(|(before, _)| *before == at);
        points.push((at, sum / f64::from(count)));
    }
    points
}

/// The usual time between two windows of a device: that between their commits on average, and no less than one lasts.
fn pause(windows: &[Telemetry]) -> SignedDuration {
    let lasts = each(windows).map(|(_, window)| window.end_ms.saturating_sub(window.start_ms)).max().unwrap_or(0);
    let (first, last) = (each(windows).next(), each(windows).next_back());
    let spanned = first.zip(last).map(|((first, _), (last, _))| last.duration_since(first)).unwrap_or_default();
    let between = i32::try_from(each(windows).count().saturating_sub(1)).unwrap_or(i32::MAX).max(1);
    (spanned / between).max(SignedDuration::from_millis(lasts))
}

/// The inputs that lie farthest from their reference in the newest window.
fn features(windows: &[Telemetry], known: Option<&Known>) -> Vec<Series> {
    let (Some(known), Some((_, newest))) = (known, each(windows).last()) else { return Vec::new() };
    if known.profile().is_none() || !fits(newest, Some(known)) {
        return Vec::new();
    }
    let names: Vec<String> = known.contract.watched_inputs().into_iter().map(|watched| watched.name).collect();
    let mut order: Vec<(usize, f64)> =
        newest.features.iter().enumerate().filter_map(|(n, f)| Some((n, location(f)?.abs()))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let one = |(n, _): (usize, f64)| {
        // Another version has another reference: its distances are none of this one's.
        let is_same = |w: &Window| w.version == newest.version && fits(w, Some(known));
        let value = |w: &Window| is_same(w).then(|| w.features.get(n).and_then(location)).flatten();
        Some(line(names.get(n)?, windows, value))
    };
    order.into_iter().take(LINES).filter_map(one).collect()
}

type Side = fn(&Window) -> &[Feature];

/// Where windows of this version keep what is watched under `feature`.
fn place(known: &Known, feature: &str) -> Option<(Side, usize)> {
    let inputs: Side = |w| &w.features;
    let outputs: Side = |w| &w.outputs;
    let find = |watched: Vec<tern_protocol::contract::Watched>| watched.iter().position(|w| w.name == feature);
    let input = find(known.contract.watched_inputs()).map(|place| (inputs, place));
    input.or_else(|| find(known.contract.watched_outputs()).map(|place| (outputs, place)))
}

fn fits(window: &Window, known: Option<&Known>) -> bool {
    known.is_some_and(|known| known.contract_digest == window.contract)
}

/// The mean distance from the reference median, in reference standard deviations; none of categories.
fn location(feature: &Feature) -> Option<f64> {
    match feature {
        Feature::Numeric(sums) if sums.n > 0 => Some(sums.s1 / sums.n as f64),
        _ => None,
    }
}

/// A quantile of the latency, in milliseconds.
fn quantile(window: &Window, rank: f64) -> Option<f64> {
    if window.latency.is_empty() {
        return None;
    }
    window.latencies().ok()?.quantile(rank).map(|microseconds| f64::from(microseconds) / 1000.0)
}

/// The share of labels that contradict a prediction, in percent.
fn wrong(window: &Window) -> Option<f64> {
    let (n, errors) = window.feedback.iter().fold((0, 0), |(n, e), f| (n + f.n, e + f.errors));
    (n > 0).then(|| errors as f64 / n as f64 * 100.0)
}

fn each(windows: &[Telemetry]) -> impl DoubleEndedIterator<Item = (Timestamp, &Window)> {
    windows.iter().filter_map(|telemetry| match &telemetry.item {
        // By the server's clock: a device's own may stand at 1970.
        Item::Window(window) => Some((Timestamp::from_millisecond(telemetry.received).ok()?, &**window)),
        Item::Correction(_) | Item::Event(_) => None,
    })
}

fn line(name: &str, windows: &[Telemetry], value: impl Fn(&Window) -> Option<f64>) -> Series {
    let points = each(windows).filter_map(|(at, window)| Some((at, value(window)?))).collect();
    Series { name: name.to_owned(), points }
}

fn chart(id: String, title: String, unit: &'static str, series: Vec<Series>) -> Chart {
    let series = series.into_iter().filter(|line| !line.points.is_empty()).collect();
    Chart { id, title, unit, series, limit: None, moments: Vec::new() }
}

#[cfg(test)]
mod tests {
    use tern_protocol::{
        contract::{Contract, DataType, Derived, TensorContract, Violation},
        digest::Digest,
        report::v1::{Clock, Feedback, Numeric, System},
    };
    use tern_stats::{
        numeric::Accumulator,
        profile::{Baseline, Kind, Profile, Spec, fit},
        window::{Sums, Window as Counted},
    };

    use super::*;
    use crate::profiles::Reference;

    fn known() -> Known {
        let input = TensorContract {
            name: "image".into(),
            datatype: DataType::Fp32,
            shape: vec![-1, 8, 8],
            range: None,
            nan: Violation::Reject,
            features: vec![],
            derive: vec![Derived::Mean],
        };
        let contract = Contract { inputs: vec![input], outputs: vec![], prediction: None };
        Known::new(contract, Digest::of(b"contract"), Reference::Absent)
    }

    fn profile() -> Profile {
        let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
        let spec = Spec::numeric("mean(image)", &values).unwrap();
        let Kind::Numeric(ruler) = &spec.kind else { panic!("numbers") };
        let mut sums = Accumulator::new(ruler.clone());
        let windows = values.chunks(10).map(|chunk| {
            chunk.iter().for_each(|value| sums.update(Some(*value)));
            Counted { rows: 10, features: vec![Sums::Numeric(sums.take())], ..Counted::default() }
        });
        fit(&Baseline::new(&[spec], &windows.collect::<Vec<_>>())).unwrap()
    }

    fn window(second: i64, s1: f64, feedback: Vec<Feedback>) -> Telemetry {
        let window = Window {
            number: 1,
            model: "demo/m".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            contract: Digest::of(b"contract"),
            boot: 1,
            start_ms: 0,
            end_ms: 0,
            clock: Clock::Floored,
            inferences: 10,
            rows: 10,
            errors: vec![],
            violations: Default::default(),
            latency: vec![],
            features: vec![Feature::Numeric(Numeric { n: 10, s1, ..Numeric::default() })],
            outputs: vec![],
            confidence: vec![],
            feedback,
            system: System::default(),
        };
        Telemetry { id: second, received: second * 1000, item: Item::Window(Box::new(window)) }
    }

    fn incident(features: &[&str]) -> IncidentRow {
        serde_json::from_value(serde_json::json!({
            "number": 1, "model": "demo/m@1.0.0", "kind": "device-fault", "severity": "alarm", "state": "open",
            "cause": "device", "summary": "", "devices": ["a"], "features": features, "since": "2026-06-01T00:00:00Z",
            "opened": "2026-06-01T00:00:00Z", "updated": "2026-06-01T00:00:00Z", "evidence": [], "actions": []
        }))
        .unwrap()
    }

    fn device(name: &str, values: &[f64]) -> (DeviceId, Vec<Telemetry>) {
        let windows = values.iter().enumerate().map(|(n, value)| window(n as i64 * 10, *value, vec![]));
        (name.parse().unwrap(), windows.collect())
    }

    fn values(series: &Series) -> Vec<f64> {
        series.points.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn an_accused_device_stands_beside_the_mean_of_the_others() {
        let fleet = [device("a", &[0.0, 30.0]), device("b", &[10.0, 20.0]), device("c", &[30.0, 0.0])];
        let charts = of_incident(&incident(&["mean(image)", "unknown"]), &fleet, Some(&known()));
        assert_eq!(charts.len(), 1, "a feature that no contract knows has no chart");
        let [accused, others] = &charts[0].series[..] else { panic!("two lines") };
        assert_eq!((accused.name.as_str(), values(accused)), ("a", vec![0.0, 3.0]));
        assert_eq!((others.name.as_str(), values(others)), ("mean of other devices", vec![2.0, 1.0]));
    }

    #[test]
    fn the_mean_of_the_others_turns_when_they_do() {
        // Each closes a window every ten seconds, three seconds after the one before it.
        let late = |name: &str, seconds: i64, values: &[f64]| {
            let (name, mut windows) = device(name, values);
            windows.iter_mut().for_each(|window| window.received += seconds * 1000);
            (name, windows)
        };
        let fleet = [
            device("a", &[0.0, 0.0, 50.0, 50.0, 50.0]),
            late("b", 3, &[0.0, 0.0, 0.0, 20.0]),
            late("c", 6, &[0.0, 0.0, 0.0, 40.0]),
        ];
        let charts = of_incident(&incident(&["mean(image)"]), &fleet, Some(&known()));
        let others = &charts[0].series[1];
        let told: Vec<_> = others.points.iter().map(|(at, value)| (at.as_second(), *value)).collect();
        assert_eq!(told[told.len() - 3..], [(26, 0.0), (33, 1.0), (36, 3.0)], "as they are, at each close");
        assert!(told.iter().all(|(at, _)| (0..=40).contains(at)), "within the windows of the accused");
    }

    #[test]
    fn a_device_that_fell_silent_leaves_the_mean_and_long_series_stay_whole() {
        let long = vec![10.0; MAX_POINTS];
        let fleet = [device("a", &long), device("b", &long), device("c", &[70.0, 70.0])];
        let charts = of_incident(&incident(&["mean(image)"]), &fleet, Some(&known()));
        let others = &charts[0].series[1].points;
        assert_eq!(
            (others[0].1, others[4].1, others[5].1),
            (4.0, 4.0, 1.0),
            "three pauses of ten seconds after its last"
        );
        let twice = [device("a", &long), device("b", &long), device("c", &long)];
        let mut twice = twice;
        twice[2].1.iter_mut().for_each(|window| window.received += 5000);
        let charts = of_incident(&incident(&["mean(image)"]), &twice, Some(&known()));
        let others = &charts[0].series[1].points;
        assert!(others.len() <= MAX_POINTS && others[0].0.as_second() == 0, "thinned, not cut");
    }

    #[test]
    fn an_incident_says_when_it_began_and_ended() {
        let mut row = incident(&["mean(image)"]);
        row.resolved = Some(row.since + SignedDuration::from_hours(1));
        let charts = of_incident(&row, &[device("a", &[1.0])], Some(&known()));
        let named: Vec<_> = charts[0].moments.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(named, ["since", "resolved"]);
    }

    #[test]
    fn a_change_of_version_is_marked_and_distances_are_of_the_version_that_answers() {
        let (_, mut windows) = device("a", &[10.0, 20.0, 30.0]);
        let feedback = vec![Feedback { n: 4, errors: 1 }];
        for (place, telemetry) in windows.iter_mut().enumerate() {
            let Item::Window(window) = &mut telemetry.item else { panic!("a window") };
            window.feedback = feedback.clone();
            if place > 0 {
                window.version = "1.1.0".parse().unwrap();
            }
        }
        let model = "demo/m".parse().unwrap();
        let known = Known::new(known().contract, Digest::of(b"contract"), Reference::Fits(Box::new(profile())));
        let charts = of_device(&model, &windows, Some(&known));
        let [errors, inputs] = &charts[..] else { panic!("two charts: {charts:?}") };
        assert_eq!(errors.series[0].points.len(), 3);
        assert_eq!(values(&inputs.series[0]), [2.0, 3.0]);
        for chart in [errors, inputs] {
            assert_eq!(chart.moments, [(Timestamp::from_second(10).unwrap(), "1.1.0".to_owned())]);
        }
    }

    #[test]
    fn windows_of_another_contract_are_left_out() {
        let mut fleet = [device("a", &[10.0, 20.0])];
        let Item::Window(first) = &mut fleet[0].1[0].item else { panic!("a window") };
        first.contract = Digest::of(b"another");
        let charts = of_incident(&incident(&["mean(image)"]), &fleet, Some(&known()));
        assert_eq!(values(&charts[0].series[0]), [2.0]);
        assert!(of_incident(&incident(&["mean(image)"]), &fleet, None).is_empty(), "nor is there one without labels");
    }

    #[test]
    fn a_device_has_charts_of_what_it_reported_and_no_others() {
        let feedback = vec![Feedback { n: 4, errors: 1 }, Feedback { n: 6, errors: 4 }];
        let charts = of_device(&"demo/m".parse().unwrap(), &[window(5, 1.0, feedback)], None);
        assert_eq!(charts.len(), 1, "no latency was reported, no reference is known");
        assert_eq!(values(&charts[0].series[0]), [50.0]);
        assert!(of_device(&"demo/m".parse().unwrap(), &[], None).is_empty());
    }
}
