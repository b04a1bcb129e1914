//! What a ceremony makes of the trust, whole and with what changes, in words: what everyone who signs reads first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tern_protocol::keys::KeyId;

use super::trust::{Edition, RoleKeys, RootTrust, TargetsTrust};

/// The names that people gave to keys.
#[derive(Debug, Clone, Default)]
pub struct Names(pub BTreeMap<KeyId, String>);

impl Names {
    /// A key as it is shown: its name, and enough of its id to compare over the telephone.
    pub fn show(&self, id: &KeyId) -> String {
        let short: String = id.0.chars().take(16).collect();
        match self.0.get(id) {
            Some(name) => format!("{name} ({short})"),
            None => short,
        }
    }

    fn all<'a>(&self, ids: impl IntoIterator<Item = &'a KeyId>) -> String {
        ids.into_iter().map(|id| self.show(id)).collect::<Vec<_>>().join(", ")
    }
}

fn edition(name: &str, before: Option<Edition>, after: Edition) -> String {
    let expires = date(after.expires);
    match before {
        None => format!("{name}: the first, version {}, expires {expires}", after.version),
        Some(before) => format!("{name}: version {} follows {}, expires {expires}", after.version, before.version),
    }
}

fn date(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn role(name: &str, before: Option<&RoleKeys>, after: &RoleKeys, names: &Names) -> Vec<String> {
    // The whole, whatever it was before: what is said to be in force came in the same folder.
    let (threshold, number) = (after.threshold, after.keys.len());
    let mut lines = vec![format!("  {name}: {threshold} of {number}: {}", names.all(after.keys.keys()))];
    let Some(before) = before else { return lines };
    if before.threshold != after.threshold || before.keys.len() != after.keys.len() {
        lines.push(format!(
            "  {name}: {} of {} becomes {} of {}",
            before.threshold,
            before.keys.len(),
            after.threshold,
            after.keys.len()
        ));
    }
    let gone: Vec<_> = before.keys.keys().filter(|id| !after.keys.contains_key(id)).collect();
    let come: Vec<_> = after.keys.keys().filter(|id| !before.keys.contains_key(id)).collect();
    if !come.is_empty() {
        lines.push(format!("  {name}: now counts: {}", names.all(come)));
    }
    if !gone.is_empty() {
        lines.push(format!("  {name}: counts no more: {}", names.all(gone)));
    }
    lines
}

/// What becomes of root.
pub fn root(before: Option<&(RootTrust, Edition)>, after: &(RootTrust, Edition), names: &Names) -> Vec<String> {
    let mut lines = vec![edition("root", before.map(|(_, edition)| *edition), after.1)];
    let olds = before.map(|(trust, _)| trust.roles());
    for (index, (name, keys)) in after.0.roles().into_iter().enumerate() {
        let old = olds.as_ref().map(|roles| roles[index].1);
        lines.extend(role(name, old, keys, names));
    }
    lines
}

/// What becomes of targets.
pub fn targets(
    before: Option<&(TargetsTrust, Edition)>,
    after: &(TargetsTrust, Edition),
    names: &Names,
) -> Vec<String> {
    let mut lines = vec![edition("targets", before.map(|(_, edition)| *edition), after.1)];
    let old: BTreeMap<_, _> = before.map(|(trust, _)| trust.roles().into_iter().collect()).unwrap_or_default();
    let new: BTreeMap<_, _> = after.0.roles().into_iter().collect();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        lines.push(format!("  team {name}: REMOVED; none of its versions counts any more"));
    }
    for (name, keys) in &new {
        let shown = if before.is_some() && !old.contains_key(name) {
            format!("team {name}, new")
        } else {
            format!("team {name}")
        };
        lines.extend(role(&shown, old.get(name).copied(), keys, names));
    }
    match (before.and_then(|(trust, _)| trust.ca_bundle.as_ref()), after.0.ca_bundle.as_ref()) {
        (_, Some(after)) => lines.push(format!(
            "  devices will trust exactly the CA certificates in the file with SHA-256 {} for the server",
            after.sha256
        )),
        (None, None) => {}
        (Some(_), None) => {
            lines.push("  devices are told of no CA certificates any more: they keep those they have".into())
        }
    }
    lines
}
