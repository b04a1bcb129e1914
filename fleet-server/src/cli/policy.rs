//! `tern policy test`: asks the server's own decision, here and without a server, whether tokens may do what a file says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceClass, DeviceId, Labels, TeamId};

use super::output::Printer;
use crate::{
    disk,
    forms::ScopeForm,
    identity::{
        Operator, Permission, Role, Scope,
        policy::{self, DeviceFacts, Devices, Resource, Touched},
    },
    selector::Selector,
    wording::count,
};

/// Longest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What there is to do with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Check a file of cases against what tokens may do: exit 0 where all are as expected, 1 where one is not, 2 where the
    /// file cannot be read
    Test {
        /// TOML, `[[case]]` for each; see examples/policy.toml
        file: PathBuf,
    },
}

/// How a test of policies ends when it does not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAsExpected {
    /// Some cases are decided otherwise.
    #[error("{0} decided otherwise than expected")]
    Cases(String),
    /// There is nothing that could be tested.
    #[error("{}", .0.display())]
    File(PathBuf),
}

impl NotAsExpected {
    /// The exit code of this end; none where it is another error.
    pub(super) fn exit_code(error: &anyhow::Error) -> Option<u8> {
        error.downcast_ref::<Self>().map(|end| match end {
            Self::Cases(_) => 1,
            Self::File(_) => 2,
        })
    }
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

#[derive(Debug, Serialize)]
struct Decided {
    case: usize,
    who: String,
    action: String,
    resource: String,
    expected: Expected,
    decided: Expected,
    why: Option<String>,
}

/// Runs `tern policy …`.
pub(super) fn run(order: Policy, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let Policy::Test { file } = order;
    let decided = cases(&file).and_then(|file| decide(&file)).with_context(|| NotAsExpected::File(file))?;
    let wrong = decided.iter().filter(|case| case.decided != case.expected).count();
    printer.result(&decided, |p| {
        decided.iter().try_for_each(|case| p.line(&case.to_string()))?;
        p.line(&format!("{}, {} as expected", count(decided.len(), "case"), decided.len() - wrong))
    })?;
    if wrong == 0 { Ok(()) } else { Err(NotAsExpected::Cases(count(wrong, "case")).into()) }
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

fn cases(path: &Path) -> anyhow::Result<File> {
    let bytes = disk::read(path, MAX_BYTES)?.context("the file is missing")?;
    let file: File = toml::from_str(std::str::from_utf8(&bytes).context("the file is no UTF-8")?)?;
    ensure!(!file.case.is_empty(), "no [[case]] is in it");
    Ok(file)
}

fn decide(file: &File) -> anyhow::Result<Vec<Decided>> {
    let one = |(index, case): (usize, &Case)| one(file, index + 1, case).with_context(|| format!("case {}", index + 1));
    file.case.iter().enumerate().map(one).collect()
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
