//! `tern decay plot`: the window scores of recorded rows against what the profile tolerates, as one SVG.
//!
//! Of each score, what season and level leave, in the unit in which a lasting change counts: `R (1 - phi) / sigma`, so that
//! the tolerance is `tau` either way. Around it the band of two standard deviations that the baseline's windows kept to.
//! Alarms differ by shape as well as by colour.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, ensure};
use maud::{Markup, PreEscaped, html};
use serde::Serialize;
use tern_stats::profile::{FeatureProfile, ScoreProfile};

use super::{
    check_place,
    replay::{Judged, Listener, replay},
    said::{Alarm, Kind, name},
};
use crate::{
    cli::{args::decay::Plot, output::Printer},
    disk::{self, Access},
    wording::{count, size},
};

/// The drawing's width and that of its plots, and the height of one, in pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 930.0;
const HEIGHT: f64 = 84.0;
/// Between plots.
const GAP: f64 = 22.0;
/// Height of the heading.
const HEAD: f64 = 64.0;
/// Most plots of one drawing: about a metre and a half of screen a hundred.
const MOST: usize = 400;
/// Standard deviations of the band that the baseline's windows kept to.
const USUAL: f64 = 2.0;
/// Farthest value that is drawn; beyond lies at the edge.
const EDGE: f64 = 12.0;

/// One plot.
struct Panel {
    title: String,
    /// The score's name, as an alarm gives it before its sign.
    score: String,
    tau: f64,
    usual: f64,
    /// By window; none where it said nothing.
    values: Vec<(u64, f64)>,
    marks: Vec<(u64, Kind)>,
}

/// The result for programs.
#[derive(Debug, Serialize)]
struct Drawn {
    file: String,
    bytes: usize,
    windows: u64,
    plots: usize,
    alarms: usize,
}

/// What a drawing is made of.
struct Collected<'o, 'p, 'w> {
    feature: Option<&'o str>,
    printer: &'p mut Printer<'w>,
    /// By device, feature and score, in the profile's order.
    panels: BTreeMap<(String, usize, usize), Panel>,
    /// Where the plots of a device's feature are, by name.
    names: BTreeMap<(String, String), usize>,
    alarms: usize,
    last: u64,
}

pub(super) fn run(order: &Plot, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let against = &order.against;
    let read = [Some(&against.stream), against.profile.as_ref(), against.reference.as_ref()];
    check_place(&order.out, &read.into_iter().flatten().map(PathBuf::as_path).collect::<Vec<_>>())?;
    let feature = order.feature.as_deref();
    let mut collected =
        Collected { feature, printer, panels: BTreeMap::new(), names: BTreeMap::new(), alarms: 0, last: 0 };
    let outcome = replay(&order.against, false, &mut collected)?;
    if let Some(name) = feature {
        let is_known = outcome.judges.iter().any(|judge| judge.watched().any(|feature| feature.name == name));
        ensure!(is_known, "the profile watches no {name:?}");
    }
    let Collected { panels, alarms, last, .. } = collected;
    ensure!(outcome.windows > 0, "the stream has no whole window: there is nothing to draw");
    ensure!(panels.len() <= MOST, "{} plots are over the limit of {MOST}: choose a column by --feature", panels.len());
    let panels: Vec<_> = panels.into_values().collect();
    let mut bytes = drawing(&panels, last, outcome.windows, alarms).into_string().into_bytes();
    bytes.push(b'\n');
    disk::write(&order.out, &bytes, Access::Public).with_context(|| format!("writing {}", order.out.display()))?;
    let (file, plots) = (order.out.display().to_string(), panels.len());
    let drawn = Drawn { file, bytes: bytes.len(), windows: outcome.windows, plots, alarms };
    printer.result(&drawn, |p| {
        let (plots, alarms) = (count(drawn.plots, "plot"), count(drawn.alarms, "alarm"));
        p.line(&format!(
            "wrote {}, {}: {plots} of {} windows, {alarms}",
            drawn.file,
            size(drawn.bytes as u64),
            drawn.windows
        ))
    })
}

impl Listener for Collected<'_, '_, '_> {
    fn alarm(&mut self, alarm: &Alarm<'_>) -> anyhow::Result<()> {
        let device = alarm.device.unwrap_or("").to_owned();
        let Some(name) = &alarm.feature else {
            self.alarms += usize::from(self.feature.is_none());
            return Ok(());
        };
        if self.feature.is_some_and(|only| only != name) {
            return Ok(());
        }
        self.alarms += 1;
        let Some(index) = self.names.get(&(device.clone(), name.clone())).copied() else { return Ok(()) };
        let own =
            self.panels.range_mut((device.clone(), index, 0)..=(device, index, usize::MAX)).map(|(_, panel)| panel);
        // One sign only: a category's own name may end in one.
        let crossed = alarm.score.strip_suffix(['+', '-']);
        own.filter(|panel| alarm.kind == Kind::Hard || crossed == Some(panel.score.as_str()))
            .for_each(|panel| panel.marks.push((alarm.window, alarm.kind)));
        Ok(())
    }

    fn begins(&mut self, device: &str, features: &mut dyn Iterator<Item = &FeatureProfile>) {
        for (index, feature) in features.enumerate() {
            if self.feature.is_some_and(|only| only != feature.name) {
                continue;
            }
            self.names.insert((device.to_owned(), feature.name.clone()), index);
            for (k, score) in feature.scores.iter().enumerate() {
                self.panels.insert((device.to_owned(), index, k), panel(device, feature, score));
            }
        }
    }

    fn judged(&mut self, judged: &Judged<'_>) {
        let row = judged.judge.profile().row(judged.closed.middle);
        self.last = self.last.max(judged.number);
        for (index, (feature, readings)) in judged.judge.watched().zip(judged.readings).enumerate() {
            for (k, (score, reading)) in feature.scores.iter().zip(readings).enumerate() {
                let panel = self.panels.get_mut(&(judged.device.to_owned(), index, k));
                let (Some(panel), Some(reading)) = (panel, reading) else { continue };
                let value = score.centred(*reading, &row).value * (1.0 - score.phi) / score.sigma;
                if value.is_finite() {
                    panel.values.push((judged.number, value));
                }
            }
        }
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.printer.note(&format!("warning: {text}"))
    }
}

fn panel(device: &str, feature: &FeatureProfile, score: &ScoreProfile) -> Panel {
    let name = name(feature, score.score);
    let device = if device.is_empty() { String::new() } else { format!("{device} ") };
    // A stationary AR(1) varies by sigma / sqrt(1 - phi^2).
    let usual = USUAL * (1.0 - score.phi) / (1.0 - score.phi * score.phi).sqrt();
    Panel {
        title: format!("{device}{}: {name}", feature.name),
        score: name,
        tau: score.tau,
        usual,
        values: Vec::new(),
        marks: Vec::new(),
    }
}

fn drawing(panels: &[Panel], last: u64, windows: u64, alarms: usize) -> Markup {
    let height = HEAD + panels.len() as f64 * (HEIGHT + GAP) + GAP;
    let across = |window: u64| LEFT + window as f64 / last.max(1) as f64 * (RIGHT - LEFT);
    html! {
        (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"))
        svg xmlns="http://www.w3.org/2000/svg" viewBox={"0 0 " (WIDTH) " " (height)} role="img"
            font-family="sans-serif" font-size="11" {
            title { "Window scores of " (windows) " windows, " (alarms) " alarms" }
            rect width=(WIDTH) height=(height) fill="#ffffff" {}
            text x="16" y="24" font-size="15" { "Window scores: " (windows) " windows, " (alarms) " alarms" }
            text x="16" y="44" fill="#555555" {
                "dark band: tolerated change; light band: two standard deviations of the baseline; triangle: sequential alarm; "
                "square: hard rule. Quiet is never “no decay”."
            }
            @for (at, panel) in panels.iter().enumerate() {
                (plot(panel, HEAD + at as f64 * (HEIGHT + GAP), across))
            }
            text x=(LEFT) y=(height - 8.0) { "0" }
            text x=(RIGHT) y=(height - 8.0) text-anchor="end" { "window " (last) }
        }
    }
}

fn plot(panel: &Panel, top: f64, across: impl Fn(u64) -> f64) -> Markup {
    let farthest = panel.values.iter().fold(panel.usual.max(panel.tau), |far, (_, value)| far.max(value.abs()));
    let scale = (farthest * 1.1).clamp(1e-9, EDGE);
    let place = |value: f64| top + HEIGHT / 2.0 * (1.0 - (value / scale).clamp(-1.0, 1.0));
    let band = |half: f64, fill: &str| {
        html! {
            rect x=(LEFT) width=(RIGHT - LEFT) y=(fixed(place(half))) height=(fixed(place(-half) - place(half))) fill=(fill) {}
        }
    };
    let points: Vec<_> =
        panel.values.iter().map(|(at, value)| format!("{},{}", fixed(across(*at)), fixed(place(*value)))).collect();
    let bottom = top + HEIGHT;
    html! {
        text x=(LEFT - 8.0) y=(fixed(top + HEIGHT / 2.0 + 4.0)) text-anchor="end" { (short(&panel.title)) }
        (band(panel.usual, "#eef2f7"))
        (band(panel.tau, "#cfdcec"))
        rect x=(LEFT) y=(fixed(top)) width=(RIGHT - LEFT) height=(HEIGHT) fill="none" stroke="#999999" stroke-width="0.5" {}
        polyline points=(points.join(" ")) fill="none" stroke="#1f4e79" stroke-width="1" {}
        @for (at, kind) in &panel.marks {
            @if *kind == Kind::Hard {
                rect x=(fixed(across(*at) - 3.0)) y=(fixed(bottom - 7.0)) width="6" height="6" fill="#b00020" {}
            } @else {
                polygon points={
                    (fixed(across(*at))) "," (fixed(top)) " " (fixed(across(*at) - 4.0)) "," (fixed(top - 8.0)) " "
                    (fixed(across(*at) + 4.0)) "," (fixed(top - 8.0))
                } fill="#b00020" {}
            }
        }
    }
}

/// The end of a title, where it is too long for its place.
fn short(title: &str) -> String {
    const MOST_LETTERS: usize = 24;
    let letters = title.chars().count();
    if letters <= MOST_LETTERS {
        title.to_owned()
    } else {
        format!("…{}", title.chars().skip(letters - MOST_LETTERS + 1).collect::<String>())
    }
}

fn fixed(x: f64) -> String {
    format!("{x:.1}")
}
