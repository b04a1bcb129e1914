//! A team's list of versions: its TUF role, and the next one with one more version in it. Pure.
//!
//! The server hands out the present list, and it is not believed: every target must have been signed on this machine
//! before, or the whole list by a key that is trusted here, or the operator says so. Nothing else of the list is ever
//! changed: targets stay as they are, and delegations are refused, since teams delegate nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tern_protocol::{
    canonical,
    digest::Digest,
    ids::{ModelVersion, TeamId},
    keys::PublicKey,
};

use super::record::Record;
use crate::forms::{TeamMetadata, TeamSignature};

const SPEC_VERSION: &str = "1.0.31";
/// No list is signed for longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);
/// How far a version number may jump over the clock: one that is near its end could never be followed.
const CLOCK_SLACK_SECONDS: u64 = 86_400;
/// The members that every list has.
const OWN: [&str; 5] = ["_type", "spec_version", "version", "expires", "targets"];

/// A manifest that is to join the list.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub model: ModelVersion,
    pub manifest: Digest,
    pub length: u64,
}

/// Who can vouch for what is already in the list.
pub(super) struct Vouchers<'a> {
    pub record: &'a Record,
    pub keys: &'a [PublicKey],
    pub accept_existing: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The version is listed already.
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
    /// A target that no version of the team has.
    #[error("the server's list holds {0:?}, which is no version of team {1}: it was not signed")]
    ForeignPath(String, TeamId),
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
}

/// The list that follows the served one with `target` in it.
///
/// # Errors
/// Each cause has its variant of [`ListError`].
pub(super) fn next(
    served: &TeamMetadata,
    target: &Target,
    vouchers: &Vouchers<'_>,
    now: Timestamp,
) -> Result<Step, ListError> {
    let empty = Map::new();
    let present = match &served.signed {
        None => &empty,
        Some(signed) => check(signed, served, target, vouchers)?,
    };
    let mut targets = members(present)?;
    let entry = json!({"length": target.length, "hashes": {"sha256": target.manifest}});
    let path = target.model.target_path();
    match targets.get(&path) {
        Some(listed) if digest_of(listed) == Some(target.manifest) => return Ok(Step::Listed),
        Some(_) => return Err(ListError::OtherManifest(target.model.clone())),
        None => targets.insert(path, entry),
    };
    let mut next = present.clone();
    next.insert("_type".into(), "targets".into());
    next.entry("spec_version").or_insert_with(|| SPEC_VERSION.into());
    next.insert("version".into(), version(served, present, now)?.into());
    next.insert("expires".into(), expiry(served.expires, now)?.into());
    next.insert("targets".into(), Value::Object(targets));
    Ok(Step::Sign(Value::Object(next)))
}

/// The targets of a list that [`next`] made.
pub(super) fn targets(list: &Value) -> BTreeMap<String, Value> {
    let targets = list["targets"].as_object().into_iter().flatten();
    targets.map(|(path, target)| (path.clone(), target.clone())).collect()
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

/// The present list, if someone vouches for all of it.
fn check<'a>(
    signed: &'a Value,
    served: &TeamMetadata,
    target: &Target,
    vouchers: &Vouchers<'_>,
) -> Result<&'a Map<String, Value>, ListError> {
    let list = signed.as_object().ok_or(ListError::Malformed("signed"))?;
    if list.get("_type").and_then(Value::as_str) != Some("targets") {
        return Err(ListError::Malformed("_type"));
    }
    let team = &target.model.name.team;
    let targets = members(list)?;
    for path in targets.keys() {
        if ModelVersion::from_target_path(path).is_none_or(|version| version.name.team != *team) {
            return Err(ListError::ForeignPath(path.chars().take(200).collect(), team.clone()));
        }
    }
    if list.get("delegations").is_some_and(|d| !d.is_null()) {
        return Err(ListError::ForeignMember("delegations".into()));
    }
    if is_signed(signed, &served.signatures, vouchers.keys) {
        return Ok(list);
    }
    if let Some(member) = list.keys().find(|name| !OWN.contains(&name.as_str()) && *name != "delegations") {
        return Err(ListError::ForeignMember(member.chars().take(80).collect()));
    }
    let unvouched =
        |(path, entry): &(&String, &Value)| !vouchers.record.holds(path, entry) && !joins(path, entry, target);
    let strangers: Vec<_> =
        targets.iter().filter(unvouched).filter_map(|(path, _)| ModelVersion::from_target_path(path)).collect();
    if strangers.is_empty() || vouchers.accept_existing {
        Ok(list)
    } else {
        Err(ListError::Unvouched(some(&strangers)))
    }
}

/// Whether the entry is the very manifest that this machine is about to sign.
fn joins(path: &str, entry: &Value, target: &Target) -> bool {
    let exact = json!({"length": target.length, "hashes": {"sha256": target.manifest}});
    path == target.model.target_path() && *entry == exact
}

fn some(versions: &[ModelVersion]) -> String {
    let named: Vec<_> = versions.iter().take(5).map(ToString::to_string).collect();
    match versions.len().saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn is_signed(signed: &Value, signatures: &[TeamSignature], keys: &[PublicKey]) -> bool {
    let Ok(message) = canonical::signable(signed) else { return false };
    keys.iter().any(|key| {
        let id = key.id();
        let own = signatures.iter().filter(|s| s.keyid == id).filter_map(|s| hex::decode(&s.sig).ok());
        own.into_iter().any(|raw| key.verifies(&message, &raw))
    })
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
