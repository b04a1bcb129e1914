//! Windows as charts: latency, errors by labels, and how far features lie from their reference. Pure.
//!
//! A window whose sketch cannot be read, or which was counted under another contract than the one that is drawn, has no
//! point; a chart without a point is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion},
    report::v1::{Feature, Item, Window},
};

use super::super::chart::{Chart, Series};
use crate::{forms::incident::IncidentRow, profiles::Known, store::Telemetry};

/// Lines of one chart.
const LINES: usize = 4;
/// Features that an incident's page draws.
const FEATURES: usize = 3;

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
    let latency = vec![line("p50", windows, |w| quantile(w, 0.5)), line("p95", windows, |w| quantile(w, 0.95))];
    let errors = vec![line("wrong by labels", windows, wrong)];
    let charts = [
        chart(id("latency"), of("Latency"), "ms", latency),
        chart(id("errors"), of("Labels that contradict a prediction"), "%", errors),
        chart(id("inputs"), of("Inputs: mean distance from the reference"), "reference sd", features(windows, known)),
    ];
    charts.into_iter().filter(|chart| !chart.series.is_empty()).collect()
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

/// How the features that an incident names went, on the devices that it names and in the mean of the others.
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
    charts
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
    let mut at: BTreeMap<Timestamp, (f64, u32)> = BTreeMap::new();
    for (when, window) in others.iter().flat_map(|(_, windows)| each(windows)) {
        if let Some(value) = value(window) {
            // Devices report at different seconds: they are held against each other by the ten seconds.
            let second = when.as_second().div_euclid(10) * 10;
            let (sum, count) = at.entry(Timestamp::from_second(second).unwrap_or(when)).or_default();
            *sum += value;
            *count += 1;
        }
    }
    let points: Vec<_> = at.into_iter().map(|(at, (sum, count))| (at, sum / f64::from(count))).collect();
    lines.push(Series { name: "mean of other devices".into(), points });
    lines
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
        let value = |w: &Window| fits(w, Some(known)).then(|| w.features.get(n).and_then(location)).flatten();
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
    Chart { id, title, unit, series, limit: None }
}

#[cfg(test)]
mod tests {
    use tern_protocol::{
        contract::{Contract, DataType, Derived, TensorContract, Violation},
        digest::Digest,
        report::v1::{Clock, Feedback, Numeric, System},
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
