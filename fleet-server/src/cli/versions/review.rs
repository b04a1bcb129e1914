//! What a proposed list changes, if it may follow the present one. Pure.
//!
//! Whoever approves signs the whole list, so everything that differs from the present one is found here and shown: what
//! is not understood is refused, never signed unseen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tern_protocol::{
    ids::{ModelId, ModelName, ModelVersion},
    standing::Standing,
};

use super::{
    ListError, Target, Vouchers, check, digest_of, expiry, is_known, members, not_lost, on_trust, own_paths, standings,
    version,
};
use crate::{
    forms::TeamMetadata,
    repository::{TeamRole, standing::first_lost},
};

/// What signing a proposed list would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Review {
    /// Versions that it lists anew.
    pub adds: Vec<Target>,
    /// Versions that it lists no more although they may run.
    pub withdraws: Vec<ModelVersion>,
    /// What it says of models from then on, where that is new: the model, before and after.
    pub standings: Vec<(ModelName, Standing, Standing)>,
    /// What of that is mostly a slip in a number: a recall of what is not listed, a floor above all that is.
    pub slips: Vec<String>,
    /// The versions that stay listed.
    pub keeps: Vec<Target>,
    /// What of the present list is known from others alone.
    pub on_trust: Vec<String>,
    /// Its end.
    pub expires: Timestamp,
}

/// What `proposed` changes against the served list.
///
/// # Errors
/// Each cause has its variant of [`ListError`].
pub(in crate::cli) fn review(
    role: &TeamRole,
    served: &TeamMetadata,
    proposed: &Value,
    vouchers: &Vouchers<'_>,
    now: Timestamp,
) -> Result<Review, ListError> {
    let empty = Map::new();
    let present = match &served.signed {
        None => &empty,
        Some(signed) => check(role, signed, served, None, vouchers)?,
    };
    let proposed = proposed.as_object().ok_or(ListError::Malformed("signed"))?;
    if proposed.get("_type").and_then(Value::as_str) != Some("targets") {
        return Err(ListError::Malformed("_type"));
    }
    let foreign = |(name, value): &(&String, &Value)| !is_known(name) && present.get(*name) != Some(value);
    if let Some((member, _)) = proposed.iter().find(foreign) {
        return Err(ListError::ForeignMember(member.chars().take(80).collect()));
    }
    if proposed.get("delegations").is_some_and(|d| !d.is_null()) {
        return Err(ListError::ForeignMember("delegations".into()));
    }
    let wanted = proposed.get("version").and_then(Value::as_u64).ok_or(ListError::Malformed("version"))?;
    if wanted != version(served, present, now)? {
        let (proposed_after, present) = (wanted.saturating_sub(1), served.next_version.saturating_sub(1));
        return Err(ListError::Stale { proposed_after, present });
    }
    let expires = proposed.get("expires").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let expires: Timestamp = expires.ok_or(ListError::Malformed("expires"))?;
    expiry(expires, now)?;
    let (old, new) = (standings(present)?, standings(proposed)?);
    not_lost(vouchers, &new)?;
    if let Some(lost) = first_lost(&old, &new) {
        return Err(ListError::LostStanding(lost));
    }
    let (before, after) = (members(present)?, members(proposed)?);
    own_paths(role, &after)?;
    let listed =
        |targets: &Map<String, Value>| targets.keys().filter_map(|path| role.version_at(path)).collect::<Vec<_>>();
    let may_run = |model: &ModelVersion| new.get(&model.name.model).is_none_or(|s| s.allows(&model.version).is_ok());
    let gone = listed(&before).into_iter().filter(|model| !after.contains_key(&role.path_of(model)));
    let names = |model: &tern_protocol::ids::ModelId| ModelName { team: role.team.clone(), model: model.clone() };
    let said = new.iter().filter_map(|(model, standing)| {
        let before = old.get(model).cloned().unwrap_or_default();
        (before != *standing).then(|| (names(model), before, standing.clone()))
    });
    Ok(Review {
        adds: added(role, &before, &after)?,
        withdraws: gone.filter(may_run).collect(),
        slips: slips(role, &listed(&before), &old, &new),
        standings: said.collect(),
        keeps: added(role, &Map::new(), &kept(&before, &after))?,
        on_trust: on_trust(role, served, vouchers)?,
        expires,
    })
}

/// Recalls of versions that the list `before` does not have, and floors that no version of it reaches.
fn slips(
    role: &TeamRole,
    before: &[ModelVersion],
    old: &BTreeMap<ModelId, Standing>,
    new: &BTreeMap<ModelId, Standing>,
) -> Vec<String> {
    let mut slips = Vec::new();
    for (model, standing) in new {
        let (name, known) = (&role.team, old.get(model).cloned().unwrap_or_default());
        let of_model: Vec<_> = before.iter().filter(|listed| listed.name.model == *model).collect();
        let new = standing.recalled.keys().filter(|version| known.allows(version).is_ok());
        for version in new.filter(|version| of_model.iter().all(|listed| listed.version != **version)) {
            slips.push(format!(
                "{name}/{model}@{version} was never published here: is its number right? A recall cannot be taken back"
            ));
        }
        let raised = standing.floor.as_ref().filter(|floor| known.floor.as_ref() != Some(*floor));
        if let Some(floor) = raised.filter(|floor| of_model.iter().all(|listed| listed.version < **floor)) {
            slips.push(format!("{floor} is above every version of {name}/{model}: none may run any more, anywhere"));
        }
    }
    slips
}

/// What stands in both.
fn kept(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let both = before.iter().filter(|(path, entry)| after.get(*path) == Some(entry));
    both.map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

/// The targets that `after` has and `before` has not; those in both must be the same.
fn added(role: &TeamRole, before: &Map<String, Value>, after: &Map<String, Value>) -> Result<Vec<Target>, ListError> {
    let mut adds = Vec::new();
    for (path, entry) in after {
        let model = role.version_at(path).ok_or(ListError::Malformed("targets"))?;
        match before.get(path) {
            Some(known) if known == entry => continue,
            Some(_) => return Err(ListError::OtherManifest(model)),
            None => {}
        }
        let (manifest, length) = (digest_of(entry), entry["length"].as_u64());
        let (Some(manifest), Some(length)) = (manifest, length) else { return Err(ListError::Malformed("targets")) };
        let target = Target { model, manifest, length };
        // A target may carry more than length and hash; more would be signed unseen.
        if target.entry() != *entry {
            return Err(ListError::Malformed("targets"));
        }
        adds.push(target);
    }
    Ok(adds)
}

#[cfg(test)]
mod tests;
