//! A team's list of versions: its TUF role, and the next one with one thing changed in it. Pure.
//!
//! The server hands out the present list, and it is not believed: every target must have been signed on this machine
//! before, or the whole list by a key that is trusted here, or the operator says so; what rests on another's word alone is
//! shown. Nothing else of the list is ever
//! changed: targets stay as they are, delegations are refused, since teams delegate nothing, and a list that has lost a
//! recall or a floor which this machine knows is signed by nobody.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tern_protocol::{
    digest::Digest,
    ids::{ModelId, ModelName, ModelVersion, Version},
    standing::{MODELS, OnRecall, Standing, of_role},
};

use crate::{forms::TeamMetadata, repository::TeamRole};

mod present;
mod review;

pub(super) use present::{Vouchers, on_trust};
use present::{check, not_lost};
pub(super) use review::{Review, review};

const SPEC_VERSION: &str = "1.0.31";
/// No list is signed for longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);
/// How far a version number may jump over the clock: one that is near its end could never be followed.
const CLOCK_SLACK_SECONDS: u64 = 86_400;
/// The members that every list has.
const OWN: [&str; 5] = ["_type", "spec_version", "version", "expires", "targets"];

/// A manifest that is to join the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub model: ModelVersion,
    pub manifest: Digest,
    pub length: u64,
}

impl Target {
    fn entry(&self) -> Value {
        json!({"length": self.length, "hashes": {"sha256": self.manifest}})
    }
}

/// What is to be different in the next list.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// It lists one more version.
    List(Target),
    /// It says that a version may run no more, and lists it no more.
    Recall { model: ModelVersion, reason: String, on_recall: Option<OnRecall>, unlisted: bool },
    /// It says that no version below this one may run, and lists none.
    Floor { model: ModelName, version: Version, unlisted: bool },
    /// It says the same, for other keys to sign.
    Nothing,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The list says it already.
    Listed,
    /// This is to be signed.
    Sign(Value),
}

/// Why a list is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListError {
    /// The list is not of its form.
    #[error("the server's list of versions has no valid `{0}`: it was not signed")]
    Malformed(&'static str),
    /// A target that no version of the role has.
    #[error("the server's list holds {0:?}, which is no version of role {1}: it was not signed")]
    ForeignPath(String, TeamRole),
    /// Targets that nobody vouches for.
    #[error(
        "the server lists {0}, which neither this machine nor a trusted key has signed, so the list was not signed: if \
         your team published it, run again with --trusted-key of who did, or with --accept-existing"
    )]
    Unvouched(String),
    /// A member that would be signed unseen.
    #[error("the server's list has a member {0:?} that no trusted key has signed: it was not signed")]
    ForeignMember(String),
    /// The same version with another manifest.
    #[error("{0} is published already with another manifest: a version never changes, so give this one a new number")]
    OtherManifest(ModelVersion),
    /// A version number of the list that cannot be right.
    #[error("the server wants list version {wanted} after {present}: that cannot be right, so it was not signed")]
    VersionJump {
        /// What it wants.
        wanted: u64,
        /// What the present list has.
        present: u64,
    },
    /// An expiry that is past, or too far away.
    #[error("the server wants a list that expires {0}: that cannot be right, so it was not signed")]
    Expiry(Timestamp),
    /// What the team has recalled or raised is forgotten.
    #[error("the list has lost what this machine has signed, {0}: it was not signed")]
    LostStanding(String),
    /// The version may not be listed.
    #[error("{0}: it cannot be published again, so give what you fixed a new number")]
    Disallowed(String),
    /// A recall of what the team never listed: mostly a slip, which cannot be taken back.
    #[error(
        "{0} is not on the team's list, so nothing was signed, for a recall cannot be taken back: see `tern model list`; a \
         candidate, or a version that never came here, is recalled with --unlisted"
    )]
    NeverListed(ModelVersion),
    /// A floor above all that is listed.
    #[error(
        "no version of {0} on the team's list is {1} or newer, so nothing was signed, for a floor never falls: with \
         --unlisted no listed version may run any more"
    )]
    FloorAboveAll(ModelName, Version),
    /// A floor that lies below the present one, or leaves it.
    #[error("the floor of {0} is {1} already: it only rises")]
    FloorFalls(ModelName, Version),
    /// The list that is to be signed is none that may follow the present one.
    #[error(
        "the proposed list follows version {proposed_after}, the present one is {present}: it is void, propose it again"
    )]
    Stale {
        /// What it would follow.
        proposed_after: u64,
        /// What there is.
        present: u64,
    },
}

/// The list that follows the served one with `edit` done to it.
///
/// # Errors
/// Each cause has its variant of [`ListError`].
pub(super) fn next(
    role: &TeamRole,
    served: &TeamMetadata,
    edit: &Edit,
    vouchers: &Vouchers<'_>,
    now: Timestamp,
) -> Result<Step, ListError> {
    let joins = match edit {
        Edit::List(target) => Some(target),
        Edit::Recall { .. } | Edit::Floor { .. } | Edit::Nothing => None,
    };
    let empty = Map::new();
    let present = match &served.signed {
        None => &empty,
        Some(signed) => check(role, signed, served, joins, vouchers)?,
    };
    let mut targets = members(present)?;
    let mut standings = standings(present)?;
    // Also where the server shows no list at all.
    not_lost(vouchers, &standings)?;
    let changed = match edit {
        Edit::List(target) => list(role, target, &mut targets, &standings)?,
        Edit::Recall { model, unlisted: false, .. } if is_unknown(role, model, &targets, &standings) => {
            return Err(ListError::NeverListed(model.clone()));
        }
        Edit::Recall { model, reason, on_recall, .. } => {
            recall(role, model, reason, *on_recall, &mut targets, &mut standings)
        }
        Edit::Floor { model, version, unlisted } => {
            let changed = raise(role, model, version, &mut targets, &mut standings)?;
            let is_left = targets.keys().filter_map(|path| role.version_at(path)).any(|listed| listed.name == *model);
            if changed && !unlisted && !is_left {
                return Err(ListError::FloorAboveAll(model.clone(), version.clone()));
            }
            changed
        }
        Edit::Nothing => served.signed.is_some(),
    };
    if !changed {
        return Ok(Step::Listed);
    }
    let mut next = present.clone();
    next.insert("_type".into(), "targets".into());
    next.entry("spec_version").or_insert_with(|| SPEC_VERSION.into());
    next.insert("version".into(), version(served, present, now)?.into());
    next.insert("expires".into(), expiry(served.expires, now)?.into());
    next.insert("targets".into(), Value::Object(targets));
    if !standings.is_empty() {
        next.insert(MODELS.into(), json!(standings));
    }
    Ok(Step::Sign(Value::Object(next)))
}

fn list(
    role: &TeamRole,
    target: &Target,
    targets: &mut Map<String, Value>,
    standings: &BTreeMap<ModelId, Standing>,
) -> Result<bool, ListError> {
    let standing = standings.get(&target.model.name.model);
    standing.map_or(Ok(()), |s| s.allows(&target.model.version)).map_err(|e| ListError::Disallowed(e.to_string()))?;
    match targets.get(&role.path_of(&target.model)) {
        Some(listed) if digest_of(listed) == Some(target.manifest) => Ok(false),
        Some(_) => Err(ListError::OtherManifest(target.model.clone())),
        None => {
            targets.insert(role.path_of(&target.model), target.entry());
            Ok(true)
        }
    }
}

fn is_unknown(
    role: &TeamRole,
    model: &ModelVersion,
    targets: &Map<String, Value>,
    standings: &BTreeMap<ModelId, Standing>,
) -> bool {
    let is_recalled = standings.get(&model.name.model).is_some_and(|s| s.recalled.contains_key(&model.version));
    !is_recalled && !targets.contains_key(&role.path_of(model))
}

fn recall(
    role: &TeamRole,
    model: &ModelVersion,
    reason: &str,
    on_recall: Option<OnRecall>,
    targets: &mut Map<String, Value>,
    standings: &mut BTreeMap<ModelId, Standing>,
) -> bool {
    let standing = standings.entry(model.name.model.clone()).or_default();
    let before = standing.clone();
    standing.recalled.entry(model.version.clone()).or_insert_with(|| reason.to_owned());
    standing.on_recall = on_recall.unwrap_or(standing.on_recall);
    let is_new = *standing != before;
    targets.remove(&role.path_of(model)).is_some() || is_new
}

fn raise(
    role: &TeamRole,
    model: &ModelName,
    version: &Version,
    targets: &mut Map<String, Value>,
    standings: &mut BTreeMap<ModelId, Standing>,
) -> Result<bool, ListError> {
    let standing = standings.entry(model.model.clone()).or_default();
    match &standing.floor {
        Some(floor) if floor > version => return Err(ListError::FloorFalls(model.clone(), floor.clone())),
        Some(floor) if floor == version => return Ok(false),
        _ => standing.floor = Some(version.clone()),
    }
    targets.retain(|path, _| {
        role.version_at(path).is_none_or(|listed| listed.name != *model || listed.version >= *version)
    });
    Ok(true)
}

/// The targets of a list that [`next`] made.
pub(super) fn targets(list: &Value) -> BTreeMap<String, Value> {
    let targets = list["targets"].as_object().into_iter().flatten();
    targets.map(|(path, target)| (path.clone(), target.clone())).collect()
}

/// What a list says of its models besides listing versions.
pub(super) fn standings(list: &Map<String, Value>) -> Result<BTreeMap<ModelId, Standing>, ListError> {
    let member = list.get_key_value(MODELS).map(|(name, value)| (name.clone(), value.clone()));
    of_role(&member.into_iter().collect()).map_err(|_| ListError::Malformed(MODELS))
}

fn members(list: &Map<String, Value>) -> Result<Map<String, Value>, ListError> {
    match list.get("targets") {
        None if list.is_empty() => Ok(Map::new()),
        Some(Value::Object(targets)) => Ok(targets.clone()),
        _ => Err(ListError::Malformed("targets")),
    }
}

fn digest_of(target: &Value) -> Option<Digest> {
    target["hashes"]["sha256"].as_str()?.parse().ok()
}

fn own_paths(role: &TeamRole, targets: &Map<String, Value>) -> Result<(), ListError> {
    match targets.keys().find(|path| role.version_at(path).is_none()) {
        None => Ok(()),
        Some(path) => Err(ListError::ForeignPath(path.chars().take(200).collect(), role.clone())),
    }
}

/// Whether a member of a list is one that is understood here.
fn is_known(name: &str) -> bool {
    OWN.contains(&name) || name == "delegations" || name == MODELS
}

fn version(served: &TeamMetadata, present: &Map<String, Value>, now: Timestamp) -> Result<u64, ListError> {
    let wanted = served.next_version;
    let present = match present.get("version") {
        None if present.is_empty() => 0,
        version => version.and_then(Value::as_u64).ok_or(ListError::Malformed("version"))?,
    };
    let by_clock = u64::try_from(now.as_second()).unwrap_or(0) + CLOCK_SLACK_SECONDS;
    let most = by_clock.max(present.saturating_add(1));
    if wanted > present && wanted <= most { Ok(wanted) } else { Err(ListError::VersionJump { wanted, present }) }
}

/// TUF writes whole seconds.
fn expiry(wanted: Timestamp, now: Timestamp) -> Result<String, ListError> {
    let distance = wanted.duration_since(now);
    let seconds = Timestamp::from_second(wanted.as_second()).map_err(|_| ListError::Expiry(wanted))?;
    if distance.is_positive() && distance <= LONGEST { Ok(seconds.to_string()) } else { Err(ListError::Expiry(wanted)) }
}

#[cfg(test)]
mod tests;
