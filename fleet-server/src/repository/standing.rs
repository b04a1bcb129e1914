//! What a list may say of its models besides listing versions: it agrees with itself, and never takes back.

use std::collections::BTreeMap;

use serde_json::Value;
use tern_protocol::{
    ids::ModelId,
    standing::{MODELS, Standing, of_role},
};

use super::{PublishRefusal, RoleKind, TeamRole};
use crate::store::SignedVersion;

/// What the members of a role say, if they are of their form and no listed version is one that may not run.
pub(super) fn of(
    role: &TeamRole,
    extra: &BTreeMap<String, Value>,
    listed: &[SignedVersion],
) -> Result<BTreeMap<ModelId, Standing>, PublishRefusal> {
    if role.kind == RoleKind::Candidate && extra.contains_key(MODELS) {
        let words = format!("`{MODELS}` belongs into the list of releases: it counts for candidates too");
        return Err(PublishRefusal::Standing(words));
    }
    let standings = of_role(extra).map_err(|e| PublishRefusal::Standing(e.to_string()))?;
    for SignedVersion { model, .. } in listed {
        let allowed = standings.get(&model.name.model).map_or(Ok(()), |standing| standing.allows(&model.version));
        allowed.map_err(|why| PublishRefusal::Standing(format!("it lists {model}, but {why}")))?;
    }
    Ok(standings)
}

/// Whether every floor and recall of `before` still stands in `after`.
pub(super) fn not_lowered(
    before: &BTreeMap<ModelId, Standing>,
    after: &BTreeMap<ModelId, Standing>,
) -> Result<(), PublishRefusal> {
    match first_lost(before, after) {
        None => Ok(()),
        Some(words) => Err(PublishRefusal::StandingLowered(words)),
    }
}

/// The first floor or recall of `before` that `after` lacks, in words.
pub(crate) fn first_lost(before: &BTreeMap<ModelId, Standing>, after: &BTreeMap<ModelId, Standing>) -> Option<String> {
    let none = Standing::default();
    before.iter().find_map(|(model, before)| {
        let after = after.get(model).unwrap_or(&none);
        if let Some(lost) = before.recalled.keys().find(|version| !after.recalled.contains_key(version)) {
            return Some(format!("the recall of {model}@{lost} is gone"));
        }
        match (&before.floor, &after.floor) {
            (Some(floor), Some(lower)) if lower < floor => {
                Some(format!("the floor of {model} fell from {floor} to {lower}"))
            }
            (Some(floor), None) => Some(format!("the floor {floor} of {model} is gone")),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(value: Value) -> BTreeMap<ModelId, Standing> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn floors_and_recalls_only_grow() {
        use serde_json::json;
        let before = standings(json!({"m": {"floor": "1.1.0", "recalled": {"1.2.0": "x"}}}));
        for grown in [
            json!({"m": {"floor": "1.1.0", "recalled": {"1.2.0": "other words"}}}),
            json!({"m": {"floor": "1.3.0", "recalled": {"1.2.0": "x", "1.3.1": "y"}}, "n": {}}),
        ] {
            assert_eq!(first_lost(&before, &standings(grown)), None);
        }
        for (shrunk, words) in [
            (json!({}), "the recall of m@1.2.0 is gone"),
            (json!({"m": {"recalled": {"1.2.0": "x"}}}), "the floor 1.1.0 of m is gone"),
            (json!({"m": {"floor": "1.0.0", "recalled": {"1.2.0": "x"}}}), "the floor of m fell from 1.1.0 to 1.0.0"),
        ] {
            assert_eq!(first_lost(&before, &standings(shrunk)).as_deref(), Some(words));
        }
    }
}
