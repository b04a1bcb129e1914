//! Who or what is to blame: from the marks at the end of a round to verdicts. Pure.
//!
//! Policy, in order:
//! 1. More than half of the active devices lack values of a feature or send unknown ones: **data quality** of the supply.
//! 2. More than half are off in other features, by whichever detector; or the mean over all is, while neither a minority
//!    that its cohort sets apart nor devices that are off by themselves explain it: **population change**. Devices answer a
//!    change with different strengths, so its features accuse no device while it lasts. A device that is off by itself
//!    explains the mean for three rounds, in which concurrent control has time to set it apart, and after that only if it did.
//! 3. A minority that concurrent control sets apart, or that breaks hard rules which its cohort of eight keeps: **device
//!    fault**, naming exactly those. That they are also off alone, or pull the fleet's mean, adds nothing.
//! 4. A minority that breaks hard rules where there is no cohort: **data quality**, cause unattributed.
//! 5. A minority that is off alone only: a notice, local or seasonal.
//! 6. Labels against confidence: **model broken**. Labels against the publisher's rate: **objective breached**, beside whatever
//!    else there is: it says what users suffer and not why. Failing inferences: **latency or errors**, between rounds too.
//!
//! A change that comes to all begins in the middle of a round: some of its windows closed before. So a mark accuses a device
//! or the fleet's mean only one round after it was first made; rule 1 and 2 by majority need no such wait. Marks last for
//! ten windows of their device, so verdicts last as long as evidence keeps coming, and ten windows longer; a device that
//! falls silent proves nothing, and stays accused. Majorities are of the devices that are active.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tern_protocol::ids::DeviceId;
use tern_stats::cohort;

use super::{
    device::DeviceWatch,
    judge::Judge,
    marks::{Ground, Mark},
    watch::{Errors, Watch},
};
use crate::forms::incident::{Cause, Evidence, IncidentKind, Layer, Severity};

/// Pieces of evidence that an incident carries.
const MOST_EVIDENCE: usize = 24;
/// Rounds that a device of a cohort is off alone before that is said: concurrent control needs as long to say more.
const PATIENCE: u64 = 3;

/// What holds at the end of a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What it is.
    pub kind: IncidentKind,
    /// How much it asks for a person.
    pub severity: Severity,
    /// The likely cause.
    pub cause: Cause,
    /// Devices, by name.
    pub devices: Vec<DeviceId>,
    /// Devices under watch.
    pub of: usize,
    /// Features, most devices first.
    pub features: Vec<String>,
    /// When the first window that shows it came.
    pub since: i64,
    /// The strongest evidence.
    pub evidence: Vec<Evidence>,
}

/// A device and one of its marks.
struct Sign<'a> {
    device: Option<&'a DeviceId>,
    feature: usize,
    layer: Layer,
    mark: &'a Mark,
}

/// The fleet at the end of a round.
struct Scene<'a> {
    judge: &'a Judge,
    round: u64,
    /// Devices under watch; whether each has a cohort.
    devices: Vec<(&'a DeviceId, &'a DeviceWatch, bool)>,
    /// How many of them are active.
    active: usize,
    changed: &'a [usize],
}

impl<'a> Scene<'a> {
    fn of(watch: &'a Watch, judge: &'a Judge) -> Self {
        let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, device) in watch.active() {
            *classes.entry(&device.class).or_default() += 1;
        }
        let in_cohort =
            |device: &DeviceWatch| classes.get(device.class.as_str()).is_some_and(|size| *size >= cohort::MIN_DEVICES);
        let devices = watch.devices.iter().map(|(name, device)| (name, device, in_cohort(device))).collect();
        Self { judge, round: watch.round, devices, active: watch.active().count(), changed: &watch.changed }
    }

    fn is_majority(&self, count: usize) -> bool {
        count >= 2 && 2 * count > self.active
    }

    /// Whether a mark is old enough to accuse. A device that is alone is compared with nobody.
    fn is_settled(&self, mark: &Mark) -> bool {
        self.active == 1 || mark.first_round < self.round
    }

    /// Signs on inputs and outputs that `wanted` picks.
    fn signs(&self, wanted: impl Fn(&Sign<'_>, bool) -> bool) -> Vec<Sign<'a>> {
        let mut signs = Vec::new();
        for (name, watch, in_cohort) in &self.devices {
            let all =
                watch.marks.iter().map(|(feature, layer, mark)| Sign { device: Some(*name), feature, layer, mark });
            signs.extend(all.filter(|sign| wanted(sign, *in_cohort)));
        }
        signs
    }

    fn verdict(&self, kind: IncidentKind, severity: Severity, cause: Cause, signs: &[Sign<'_>]) -> Option<Verdict> {
        let since = signs.iter().map(|sign| sign.mark.since).min()?;
        let mut evidence: Vec<_> = signs.iter().map(|sign| self.evidence(sign)).collect();
        evidence.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        evidence.truncate(MOST_EVIDENCE);
        let (devices, features) = (devices(signs), self.features(signs));
        let of = self.active.max(devices.len());
        Some(Verdict { kind, severity, cause, devices, of, features, since, evidence })
    }

    fn evidence(&self, sign: &Sign<'_>) -> Evidence {
        let feature = self.judge.watched().nth(sign.feature).map(|feature| feature.name.clone());
        let feature = feature.filter(|_| !matches!(sign.layer, Layer::Service | Layer::Estimate));
        evidence(sign.layer, sign.device, feature, &sign.mark.ground, sign.mark.at)
    }

    fn features(&self, signs: &[Sign<'_>]) -> Vec<String> {
        let mut on: BTreeMap<usize, Vec<Option<&DeviceId>>> = BTreeMap::new();
        for sign in signs.iter().filter(|sign| !matches!(sign.layer, Layer::Service | Layer::Estimate)) {
            let devices = on.entry(sign.feature).or_default();
            if !devices.contains(&sign.device) {
                devices.push(sign.device);
            }
        }
        let mut order: Vec<_> = on.into_iter().map(|(feature, devices)| (feature, devices.len())).collect();
        order.sort_by_key(|(feature, devices)| (std::cmp::Reverse(*devices), *feature));
        let name = |(feature, _): (usize, usize)| Some(self.judge.watched().nth(feature)?.name.clone());
        order.into_iter().filter_map(name).collect()
    }
}

/// Verdicts on inputs and outputs.
pub fn on_inputs(watch: &Watch, judge: &Judge) -> Vec<Verdict> {
    let scene = Scene::of(watch, judge);
    let supply = short_supply(&scene);
    let is_fed = |sign: &Sign<'_>| !supply.contains(&sign.feature);
    let mut verdicts = Vec::new();
    let signs = scene.signs(|sign, _| sign.layer == Layer::Hard && !is_fed(sign));
    verdicts.extend(scene.verdict(IncidentKind::DataQuality, Severity::Alarm, Cause::Pipeline, &signs));

    let change = population_change(watch, &scene, &supply);
    // In the round in which a change ends, what is left of it is nobody's fault yet: its marks are forgotten then.
    let mut changed = scene.changed.to_vec();
    changed.extend(change.iter().flat_map(|verdict| indices(judge, &verdict.features)));
    let is_calm = changed.is_empty();
    verdicts.extend(change);
    let is_open = |sign: &Sign<'_>| {
        is_fed(sign)
            && !watch.short.contains(&sign.feature)
            && !changed.contains(&sign.feature)
            && scene.is_settled(sign.mark)
    };

    let apart = scene.signs(|sign, in_cohort| {
        let begins = scene.changed.is_empty() && !is_calm;
        let accuses = match sign.layer {
            // Everything changed in this very round: what set a device apart before says nothing any more.
            Layer::Concurrent => !begins,
            Layer::Hard => in_cohort,
            _ => false,
        };
        accuses && is_open(sign)
    });
    let broken = scene.signs(|sign, in_cohort| sign.layer == Layer::Hard && !in_cohort && is_open(sign));
    let blamed = devices(&apart);
    let is_blamed = |sign: &Sign<'_>| sign.device.is_some_and(|device| blamed.contains(device));
    if blamed.is_empty() {
        let accused = devices(&broken);
        let alone = scene.signs(|sign, in_cohort| {
            let is_known = sign.device.is_some_and(|device| accused.contains(device));
            let is_waiting = in_cohort && sign.mark.first_round + PATIENCE > scene.round;
            is_calm && sign.layer == Layer::Step && !is_known && !is_waiting && is_open(sign)
        });
        let cause = Cause::LocalOrSeasonal;
        verdicts.extend(scene.verdict(IncidentKind::DeviceFault, Severity::Notice, cause, &alone));
    } else {
        // All that these devices show belongs to the fault.
        let theirs = scene.signs(|sign, _| is_blamed(sign) && is_open(sign));
        verdicts.extend(scene.verdict(IncidentKind::DeviceFault, Severity::Alarm, Cause::Device, &theirs));
    }
    if supply.is_empty() {
        verdicts.extend(scene.verdict(IncidentKind::DataQuality, Severity::Alarm, Cause::Unattributed, &broken));
    }
    verdicts
}

/// Devices that concurrent control may yet set apart: those that began to be off, or far out, within [`PATIENCE`]. Where more than
/// half are off there is no minority: all have changed, and nobody is waited for.
pub fn pending(watch: &Watch, judge: &Judge) -> Vec<DeviceId> {
    let scene = Scene::of(watch, judge);
    let is_fresh = |first_round: u64| first_round + PATIENCE > scene.round;
    let is_over = |feature| watch.changed.contains(&feature) || watch.short.contains(&feature);
    let is_pending = |device: &DeviceWatch| {
        let mut marks = device.marks.iter().filter(|(feature, ..)| !is_over(*feature));
        marks.any(|(.., mark)| is_fresh(mark.first_round)) || device.far().is_some_and(is_fresh)
    };
    let off = watch.active().filter(|(_, device)| !device.marks.is_empty() || device.far().is_some()).count();
    if scene.is_majority(off) {
        return Vec::new();
    }
    let pending = scene.devices.iter().filter(|(_, device, in_cohort)| *in_cohort && is_pending(device));
    pending.map(|(name, ..)| (*name).clone()).collect()
}

/// Features that more than half of the devices lack values of, or send unknown ones.
fn short_supply(scene: &Scene<'_>) -> Vec<usize> {
    let signs = scene.signs(|sign, _| sign.mark.is_supply);
    let lacking = |feature: &usize| signs.iter().filter(|sign| sign.feature == *feature).count();
    (0..scene.judge.features()).filter(|feature| scene.is_majority(lacking(feature))).collect()
}

fn population_change(watch: &Watch, scene: &Scene<'_>, supply: &[usize]) -> Option<Verdict> {
    let is_active = |sign: &Sign<'_>| watch.active().any(|(name, _)| Some(name) == sign.device);
    let off = scene.signs(|sign, _| !supply.contains(&sign.feature) && is_active(sign));
    let off_devices = devices(&off);
    let apart = devices(&scene.signs(|sign, _| sign.layer == Layer::Concurrent));
    let has_cohort = scene.devices.iter().any(|(_, _, in_cohort)| *in_cohort);
    // A minority pulls the mean: devices that their cohort sets apart, and those that are off by themselves, for as long as
    // concurrent control may yet set them apart; where there is no cohort, for good.
    let is_explained = |feature: usize| {
        let showing = || off.iter().filter(|sign| sign.feature == feature && sign.layer != Layer::Concurrent);
        let pulling: BTreeSet<_> = showing().filter_map(|sign| sign.device).chain(&apart).collect();
        let is_pending = |sign: &Sign<'_>| {
            let is_apart = sign.device.is_some_and(|device| apart.contains(device));
            is_apart || !has_cohort || sign.mark.first_round + PATIENCE > scene.round
        };
        !pulling.is_empty() && !scene.is_majority(pulling.len()) && showing().all(is_pending)
    };
    let means = watch.marks.iter().filter(|(feature, layer, mark)| {
        *layer == Layer::Pooled && !supply.contains(feature) && scene.is_settled(mark) && !is_explained(*feature)
    });
    let mut signs: Vec<Sign<'_>> =
        means.map(|(feature, layer, mark)| Sign { device: None, feature, layer, mark }).collect();
    let is_majority = scene.is_majority(off_devices.len());
    if signs.is_empty() && !is_majority {
        return None;
    }
    let on_mean: Vec<usize> = signs.iter().map(|sign| sign.feature).collect();
    let shared = |feature: usize| {
        let on: Vec<_> = off.iter().filter(|sign| sign.feature == feature).collect();
        on_mean.contains(&feature) || on.iter().any(|a| on.iter().any(|b| a.device != b.device))
    };
    let theirs = scene.signs(|sign, _| !supply.contains(&sign.feature) && sign.layer != Layer::Concurrent);
    signs.extend(theirs.into_iter().filter(|sign| shared(sign.feature)));
    signs.extend(
        watch.marks.iter().filter(|(_, layer, _)| *layer == Layer::Estimate).map(|(feature, layer, mark)| Sign {
            device: None,
            feature,
            layer,
            mark,
        }),
    );
    scene.verdict(IncidentKind::PopulationChange, Severity::Alarm, Cause::Population, &signs)
}

/// Verdicts on answers: labels, and inferences that failed.
pub fn on_answers(watch: &Watch, judge: &Judge) -> Vec<Verdict> {
    let scene = Scene::of(watch, judge);
    let mut verdicts = Vec::new();
    let of_labels = [
        (&watch.broken, Layer::Calibration, IncidentKind::ModelBroken, Severity::Critical),
        (&watch.breached, Layer::Slo, IncidentKind::ObjectiveBreached, Severity::Alarm),
    ];
    for (errors, layer, kind, severity) in of_labels {
        verdicts.extend(errors.as_ref().map(|errors| on_labels(errors, layer, kind, severity, scene.active)));
    }
    verdicts.extend(on_calls(watch, judge));
    verdicts
}

/// The verdict on inferences that failed. It asks for no device that is active: where none answers, none is.
pub fn on_calls(watch: &Watch, judge: &Judge) -> Option<Verdict> {
    if watch.devices.values().all(|device| device.calls.marks.is_empty()) {
        return None;
    }
    let scene = Scene::of(watch, judge);
    let marks = scene.devices.iter().flat_map(|(name, device, _)| device.calls.marks.iter().map(|mark| (*name, mark)));
    let signs: Vec<_> =
        marks.map(|(name, (feature, layer, mark))| Sign { device: Some(name), feature, layer, mark }).collect();
    let verdict = scene.verdict(IncidentKind::LatencyOrErrors, Severity::Alarm, Cause::Service, &signs)?;
    Some(Verdict { of: scene.devices.len(), ..verdict })
}

/// More errors than allowed, with the devices that returned most of them.
fn on_labels(errors: &Errors, layer: Layer, kind: IncidentKind, severity: Severity, of: usize) -> Verdict {
    let mut pieces = vec![evidence(layer, None, None, &errors.ground, errors.at)];
    let worst = errors.devices.iter().filter(|(_, labels)| labels.errors > 0).take(MOST_EVIDENCE - 1);
    pieces.extend(worst.clone().map(|(device, labels)| {
        let share = labels.errors as f64 / labels.n.max(1) as f64;
        let ground = Ground { limit: None, ..Ground::of_share("errors", share, 0.0, labels.n) };
        evidence(layer, Some(device), None, &ground, errors.at)
    }));
    let mut devices: Vec<_> = worst.map(|(device, _)| device.clone()).collect();
    devices.sort();
    let (cause, since) = (Cause::Model, errors.since);
    Verdict { kind, severity, cause, devices, of, features: Vec::new(), since, evidence: pieces }
}

fn devices(signs: &[Sign<'_>]) -> Vec<DeviceId> {
    let mut devices: Vec<_> = signs.iter().filter_map(|sign| sign.device.cloned()).collect();
    devices.sort();
    devices.dedup();
    devices
}

/// The numbers of features by name.
pub fn indices<'a>(judge: &'a Judge, features: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    features.iter().filter_map(|name| judge.watched().position(|feature| feature.name == *name))
}

/// What stands first: by how far it is over its threshold or limit.
fn weight(evidence: &Evidence) -> f64 {
    let over = evidence.share.zip(evidence.limit).map(|(share, limit)| share - limit);
    evidence.strength.or(over).unwrap_or(0.0)
}

fn evidence(layer: Layer, device: Option<&DeviceId>, feature: Option<String>, ground: &Ground, at: i64) -> Evidence {
    let Ground { measure, direction, strength, share, limit, of } = ground.clone();
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    Evidence { layer, device: device.cloned(), feature, measure, direction, strength, share, limit, of, at }
}
