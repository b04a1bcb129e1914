//! How a version's manifest differs from the one before, line by line, for whoever is to sign it. Pure.

use std::{collections::BTreeMap, fmt::Debug};

use tern_protocol::{
    contract::{Feature, TensorContract},
    ids::ByteCount,
    manifest::{Budget, Manifest},
};

use crate::wording::size;

/// What `new` says that `old` did not, and the other way round; where there is no version before, what it says at all.
pub(super) fn difference(old: Option<&Manifest>, new: &Manifest) -> Vec<String> {
    let Some(old) = old else { return first(new) };
    let mut lines = Lines::default();
    lines.changed("parent", &shown(old.parent.as_ref()), &shown(new.parent.as_ref()));
    lines.changed("minimum agent", &old.minimum_agent.to_string(), &new.minimum_agent.to_string());
    lines.changed("device classes", &listed(&old.device_classes), &listed(&new.device_classes));
    let tolerance =
        |m: &Manifest| format!("{} + {} relative", m.golden_tolerance.absolute, m.golden_tolerance.relative);
    lines.changed("golden tolerance", &tolerance(old), &tolerance(new));
    contract(old, new, &mut lines);
    metrics("", &old.training.metrics, &new.training.metrics, &mut lines);
    for slice in
        old.training.slices.keys().chain(new.training.slices.keys().filter(|s| !old.training.slices.contains_key(*s)))
    {
        let none = BTreeMap::new();
        let of = |m: &Manifest| m.training.slices.get(slice).unwrap_or(&none).clone();
        metrics(&format!("{slice}: "), &of(old), &of(new), &mut lines);
    }
    training(old, new, &mut lines);
    let total = |m: &Manifest| m.total_bytes().0;
    if total(old) != total(new) {
        let change = 100.0 * (total(new) as f64 - total(old) as f64) / (total(old) as f64).max(1.0);
        lines.say(format!("size: {} → {} ({change:+.1} %)", size(total(old)), size(total(new))));
    }
    budgets(&old.budgets, &new.budgets, &mut lines);
    files(old, new, &mut lines);
    lines.0
}

/// The lines of a version that has none before it.
fn first(new: &Manifest) -> Vec<String> {
    let mut lines = Lines::default();
    let side = |tensors: &[TensorContract]| {
        tensors.iter().map(|t| format!("{} {} {:?}", t.name, t.datatype.name(), t.shape)).collect::<Vec<_>>().join(", ")
    };
    lines.say("it is the first version".into());
    lines.say(format!("inputs: {}", side(&new.contract.inputs)));
    lines.say(format!("outputs: {}", side(&new.contract.outputs)));
    lines.say(format!("data: {}", new.training.data_origin));
    for (name, value) in &new.training.metrics {
        lines.say(format!("{name}: {value}"));
    }
    for (slice, found) in &new.training.slices {
        found.iter().for_each(|(name, value)| lines.say(format!("{slice}: {name}: {value}")));
    }
    budgets(&BTreeMap::new(), &new.budgets, &mut lines);
    lines.say(format!("{} files, {}", new.files.len(), size(new.total_bytes().0)));
    lines.0
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn say(&mut self, line: String) {
        self.0.push(line);
    }

    fn changed(&mut self, name: &str, old: &str, new: &str) {
        if old != new {
            self.say(format!("{name}: {old} → {new}"));
        }
    }
}

fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map_or("none".into(), ToString::to_string)
}

fn listed<T: ToString>(values: &[T]) -> String {
    if values.is_empty() { "all".into() } else { values.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

fn contract(old: &Manifest, new: &Manifest, lines: &mut Lines) {
    tensors("input", &old.contract.inputs, &new.contract.inputs, lines);
    tensors("output", &old.contract.outputs, &new.contract.outputs, lines);
    let prediction = |m: &Manifest| {
        let p = m.contract.prediction.as_ref();
        p.map_or("none".to_owned(), |p| format!("{} sure by {}", p.label, p.confidence.as_deref().unwrap_or("nothing")))
    };
    lines.changed("contract: prediction", &prediction(old), &prediction(new));
}

fn tensors(side: &str, old: &[TensorContract], new: &[TensorContract], lines: &mut Lines) {
    let names = |tensors: &[TensorContract]| tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>().join(", ");
    if names(old) != names(new) {
        lines.say(format!("contract: {side}s {} → {}", names(old), names(new)));
    }
    for after in new {
        let Some(before) = old.iter().find(|before| before.name == after.name) else { continue };
        let name = format!("contract: {side} {}", after.name);
        lines.changed(&format!("{name}: type"), before.datatype.name(), after.datatype.name());
        lines.changed(&format!("{name}: shape"), &text(&before.shape), &text(&after.shape));
        lines.changed(&format!("{name}: range"), &text(&before.range), &text(&after.range));
        lines.changed(&format!("{name}: NaN"), &text(&before.nan), &text(&after.nan));
        lines.changed(&format!("{name}: derived"), &text(&before.derive), &text(&after.derive));
        features(&name, &before.features, &after.features, lines);
    }
}

fn features(tensor: &str, old: &[Feature], new: &[Feature], lines: &mut Lines) {
    let lacks = |features: &[Feature], name: &str| features.iter().all(|feature| feature.name != name);
    for gone in old.iter().filter(|feature| lacks(new, &feature.name)) {
        lines.say(format!("{tensor}: feature {} is gone", gone.name));
    }
    for feature in new {
        match old.iter().find(|before| before.name == feature.name) {
            None => lines.say(format!("{tensor}: feature {} is new", feature.name)),
            Some(before) if before != feature => {
                lines.changed(
                    &format!("{tensor}: feature {}: range", feature.name),
                    &text(&before.range),
                    &text(&feature.range),
                );
                let categories = |f: &Feature| f.categories.join(", ");
                lines.changed(
                    &format!("{tensor}: feature {}: categories", feature.name),
                    &categories(before),
                    &categories(feature),
                );
            }
            Some(_) => {}
        }
    }
    let order = |features: &[Feature]| features.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
    let same_set = old.len() == new.len() && new.iter().all(|feature| !lacks(old, &feature.name));
    if same_set && order(old) != order(new) {
        lines.say(format!("{tensor}: its features come in another order"));
    }
}

fn text<T: Debug>(value: &T) -> String {
    format!("{value:?}")
}

fn metrics(slice: &str, old: &BTreeMap<String, f64>, new: &BTreeMap<String, f64>, lines: &mut Lines) {
    for (name, before) in old {
        match new.get(name) {
            None => lines.say(format!("{slice}{name}: {before} → not given any more")),
            Some(after) if after != before => {
                let arrow = if after > before { "↑" } else { "↓" };
                lines.say(format!("{slice}{name}: {before} → {after} {arrow} {:+.4}", after - before));
            }
            Some(_) => {}
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        lines.say(format!("{slice}{name}: {after}, new"));
    }
}

fn training(old: &Manifest, new: &Manifest, lines: &mut Lines) {
    let (old, new) = (&old.training, &new.training);
    lines.changed("data", &old.data_origin, &new.data_origin);
    lines.changed("data rows", &shown(old.data_rows.as_ref()), &shown(new.data_rows.as_ref()));
    lines.changed("data digest", &shown(old.data_sha256.as_ref()), &shown(new.data_sha256.as_ref()));
    lines.changed("code", &shown(old.code_revision.as_ref()), &shown(new.code_revision.as_ref()));
    lines.changed("seed", &shown(old.seed.as_ref()), &shown(new.seed.as_ref()));
    lines.changed("evaluated on", &shown(old.evaluated_on.as_ref()), &shown(new.evaluated_on.as_ref()));
    lines.changed("its digest", &shown(old.evaluated_sha256.as_ref()), &shown(new.evaluated_sha256.as_ref()));
}

fn budgets(old: &BTreeMap<String, Budget>, new: &BTreeMap<String, Budget>, lines: &mut Lines) {
    let words = |budget: Option<&Budget>| {
        let Some(budget) = budget else { return "none".to_owned() };
        let bytes = |bytes: Option<ByteCount>| bytes.map(|bytes| size(bytes.0));
        let parts = [
            budget.p95_latency_ms.map(|ms| format!("{ms} ms")),
            bytes(budget.peak_rss_bytes).map(|size| format!("{size} of memory")),
            bytes(budget.disk_bytes).map(|size| format!("{size} on disk")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    for class in old.keys().chain(new.keys().filter(|class| !old.contains_key(*class))) {
        lines.changed(&format!("budget on {class}"), &words(old.get(class)), &words(new.get(class)));
    }
}

fn files(old: &Manifest, new: &Manifest, lines: &mut Lines) {
    let before: BTreeMap<_, _> = old.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let after: BTreeMap<_, _> = new.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let golden = |path: &str| path.starts_with("test_data_set_");
    let changed: Vec<_> =
        after.iter().filter(|(path, file)| before.get(*path).is_none_or(|b| b.sha256 != file.sha256)).collect();
    for (path, file) in changed.iter().filter(|(path, _)| !golden(path)) {
        let what = if before.contains_key(**path) { "other bytes" } else { "new" };
        lines.say(format!("file {path}: {what}, {}", size(file.length.0)));
    }
    let vectors = changed.iter().filter(|(path, _)| golden(path)).count();
    if vectors > 0 {
        lines.say(format!("golden vectors: {vectors} files are new or have other bytes"));
    }
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    for path in gone.iter().filter(|path| !golden(path)) {
        lines.say(format!("file {path}: gone"));
    }
    let vectors = gone.iter().filter(|path| golden(path)).count();
    if vectors > 0 {
        lines.say(format!("golden vectors: {vectors} files are gone"));
    }
}

#[cfg(test)]
mod tests;
