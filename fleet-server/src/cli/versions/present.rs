//! The list that the server shows as the present one, and who vouches for what is in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tern_protocol::{
    canonical,
    ids::{ModelId, ModelVersion},
    keys::PublicKey,
    standing::Standing,
};

use super::{
    super::{lists::standing_words, record::Record},
    ListError, Target, digest_of, is_known, members, own_paths, standings,
};
use crate::{
    forms::{TeamMetadata, TeamSignature},
    repository::{TeamRole, standing::first_lost},
};

/// Who can vouch for what is already in the list.
pub(in crate::cli) struct Vouchers<'a> {
    pub record: &'a Record,
    /// The keys that sign here.
    pub own: Vec<PublicKey>,
    /// Those of others that are trusted.
    pub trusted: &'a [PublicKey],
    pub accept_existing: bool,
}

/// The present list, if someone vouches for all of it.
pub(super) fn check<'a>(
    role: &TeamRole,
    signed: &'a Value,
    served: &TeamMetadata,
    joins: Option<&Target>,
    vouchers: &Vouchers<'_>,
) -> Result<&'a Map<String, Value>, ListError> {
    let list = signed.as_object().ok_or(ListError::Malformed("signed"))?;
    if list.get("_type").and_then(Value::as_str) != Some("targets") {
        return Err(ListError::Malformed("_type"));
    }
    let targets = members(list)?;
    own_paths(role, &targets)?;
    if list.get("delegations").is_some_and(|d| !d.is_null()) {
        return Err(ListError::ForeignMember("delegations".into()));
    }
    let standings = standings(list)?;
    not_lost(vouchers, &standings)?;
    if is_signed(signed, &served.signatures, &vouchers.own) {
        return Ok(list);
    }
    if let Some(member) = list.keys().find(|name| !is_known(name)) {
        return Err(ListError::ForeignMember(member.chars().take(80).collect()));
    }
    if is_signed(signed, &served.signatures, vouchers.trusted) {
        return Ok(list);
    }
    // The very manifest that this machine is about to sign needs nobody's word.
    let own = |path: &str, entry: &Value| {
        joins.is_some_and(|target| path == role.path_of(&target.model) && *entry == target.entry())
    };
    let unvouched = |(path, entry): &(&String, &Value)| !vouchers.record.holds(path, entry) && !own(path, entry);
    let strangers: Vec<_> = targets.iter().filter(unvouched).filter_map(|(path, _)| role.version_at(path)).collect();
    if vouchers.accept_existing {
        return Ok(list);
    }
    if !strangers.is_empty() {
        return Err(ListError::Unvouched(some(&strangers)));
    }
    if standings != *vouchers.record.standings() {
        return Err(ListError::Unvouched("recalls or floors".into()));
    }
    Ok(list)
}

/// What of the present list this machine knows from others alone, and would sign on their word: one key that is trusted, or
/// none where the operator accepts what is there. To be shown, for it may be more than they meant.
///
/// # Errors
/// Where the list is not of its form.
pub(in crate::cli) fn on_trust(
    role: &TeamRole,
    served: &TeamMetadata,
    vouchers: &Vouchers<'_>,
) -> Result<Vec<String>, ListError> {
    let Some(signed) = &served.signed else { return Ok(Vec::new()) };
    if is_signed(signed, &served.signatures, &vouchers.own) {
        return Ok(Vec::new());
    }
    let list = signed.as_object().ok_or(ListError::Malformed("signed"))?;
    let mut lines = Vec::new();
    for (path, entry) in members(list)?.iter().filter(|(path, entry)| !vouchers.record.holds(path, entry)) {
        let model = role.version_at(path).ok_or(ListError::Malformed("targets"))?;
        let manifest = digest_of(entry).ok_or(ListError::Malformed("targets"))?;
        lines.push(format!("{model} is listed, with manifest {manifest}"));
    }
    for (model, standing) in standings(list)? {
        let known = vouchers.record.standings().get(&model).cloned().unwrap_or_default();
        let words = standing_words(&known, &standing).into_iter();
        lines.extend(words.map(|words| format!("{}/{model}: {words}", role.team)));
    }
    Ok(lines)
}

/// Refuses a list that has lost a recall or a floor which this machine knows.
pub(super) fn not_lost(vouchers: &Vouchers<'_>, standings: &BTreeMap<ModelId, Standing>) -> Result<(), ListError> {
    first_lost(vouchers.record.standings(), standings).map_or(Ok(()), |lost| Err(ListError::LostStanding(lost)))
}

fn some(versions: &[ModelVersion]) -> String {
    let named: Vec<_> = versions.iter().take(5).map(ToString::to_string).collect();
    match versions.len().saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

pub(super) fn is_signed(signed: &Value, signatures: &[TeamSignature], keys: &[PublicKey]) -> bool {
    let Ok(message) = canonical::signable(signed) else { return false };
    keys.iter().any(|key| {
        let id = key.id();
        let own = signatures.iter().filter(|s| s.keyid == id).filter_map(|s| hex::decode(&s.sig).ok());
        own.into_iter().any(|raw| key.verifies(&message, &raw))
    })
}
