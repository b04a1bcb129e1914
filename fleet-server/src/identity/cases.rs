//! Files of cases: whether tokens may do what somebody relies on, asked of the server's own decision. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceClass, DeviceId, Labels, TeamId};

use super::{
    Operator, Permission, Role, Scope,
    policy::{self, DeviceFacts, Devices, Resource, Touched},
};
use crate::{forms::ScopeForm, selector::Selector};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Holders that cases name.
    #[serde(default)]
    token: BTreeMap<String, Holder>,
    case: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    role: String,
    teams: Option<BTreeSet<TeamId>>,
    devices: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A name of `[token.…]`, instead of role and scope.
    token: Option<String>,
    role: Option<String>,
    teams: Option<BTreeSet<TeamId>>,
    devices: Option<String>,
    action: String,
    resource: Asked,
    expect: Expected,
}

/// What a case touches: a word for much, a table for a part.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Word(String),
    Part(Part),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    team: Option<TeamId>,
    device: Option<DeviceId>,
    class: Option<DeviceClass>,
    #[serde(default)]
    labels: Labels,
    to: Option<String>,
}

/// What a policy says to a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// A case and what was decided.
#[derive(Debug, Serialize)]
pub struct Decided {
    /// Its number in the file, from 1.
    pub case: usize,
    /// Who wants it.
    pub who: String,
    /// What they want.
    pub action: String,
    /// Of what.
    pub resource: String,
    /// What the file expects.
    pub expected: Expected,
    /// What the policy says.
    pub decided: Expected,
    /// Why not, where not.
    pub why: Option<String>,
}

/// Decides each case of a file, in order.
///
/// # Errors
/// Where the text is no file of cases, or one of them names what there is not.
pub fn decide(text: &str) -> anyhow::Result<Vec<Decided>> {
    let file: File = toml::from_str(text)?;
    ensure!(!file.case.is_empty(), "no [[case]] is in it");
    let one =
        |(index, case): (usize, &Case)| one(&file, index + 1, case).with_context(|| format!("case {}", index + 1));
    file.case.iter().enumerate().map(one).collect()
}

impl std::fmt::Display for Decided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.decided == self.expected { "ok" } else { "WRONG" };
        let word = if self.decided == Expected::Allow { "may" } else { "may not" };
        let Self { case, who, action, resource, why, .. } = self;
        write!(f, "{verdict:5}  {case}: {who} {word} {action} {resource}")?;
        why.iter().try_for_each(|why| write!(f, " ({why})"))
    }
}

fn one(file: &File, number: usize, case: &Case) -> anyhow::Result<Decided> {
    let operator = holder(file, case)?;
    let action: Permission = case.action.parse()?;
    let (resource, words) = resource(&case.resource)?;
    let denied = policy::decide(&operator, action, &resource).err();
    let Operator { name, role, scope } = &operator;
    let who = if scope.is_whole() {
        format!("{name} ({})", role.as_str())
    } else {
        format!("{name} ({}, {scope})", role.as_str())
    };
    Ok(Decided {
        case: number,
        who,
        action: case.action.clone(),
        resource: words,
        expected: case.expect,
        decided: if denied.is_some() { Expected::Deny } else { Expected::Allow },
        why: denied.map(|denied| denied.to_string()),
    })
}

fn holder(file: &File, case: &Case) -> anyhow::Result<Operator> {
    let (name, holder) = match (&case.token, &case.role) {
        (Some(token), None) => {
            ensure!(
                case.teams.is_none() && case.devices.is_none(),
                "a token has its own scope: leave teams and devices out"
            );
            let holder = file.token.get(token).with_context(|| format!("there is no [token.{token}]"))?;
            (token.clone(), holder.clone())
        }
        (None, Some(role)) => {
            let Case { teams, devices, .. } = case;
            ("a token".to_owned(), Holder { role: role.clone(), teams: teams.clone(), devices: devices.clone() })
        }
        _ => anyhow::bail!("say who: either token or role"),
    };
    let role: Role = holder.role.parse()?;
    let scope = Scope::try_from(&ScopeForm { teams: holder.teams, devices: holder.devices })?;
    Ok(Operator { name, role, scope })
}

fn resource(asked: &Asked) -> anyhow::Result<(Resource, String)> {
    let part = match asked {
        Asked::Word(word) => {
            let resource = match word.as_str() {
                "fleet" => Resource::FLEET,
                "devices" => Resource::DEVICES,
                "own" => Resource::NONE,
                _ => anyhow::bail!(
                    "no resource is called {word:?}: write fleet, devices, own, or a table with team, device, to"
                ),
            };
            return Ok((resource, word.clone()));
        }
        Asked::Part(part) => part,
    };
    let mut words = Vec::new();
    let mut resource = Resource::NONE;
    if let Some(team) = &part.team {
        words.push(format!("models of {team}"));
        resource.team = Touched::One(team.clone());
    }
    match (&part.device, &part.to) {
        (Some(device), None) => {
            let class = part.class.clone().context("a device has a class")?;
            words.push(format!("on {device}"));
            let facts = DeviceFacts { device: device.clone(), class, labels: part.labels.clone() };
            resource.devices = Touched::One(Devices::Facts(facts));
        }
        (None, Some(to)) => {
            let selector: Selector = to.parse()?;
            words.push(format!("on {selector}"));
            resource.devices = Touched::One(Devices::Picked(selector));
        }
        (None, None) => {
            ensure!(part.team.is_some(), "the resource is empty: name a team, a device, or a selector with to")
        }
        (Some(_), Some(_)) => anyhow::bail!("name a device or a selector with to, not both"),
    }
    Ok((resource, words.join(" ")))
}
