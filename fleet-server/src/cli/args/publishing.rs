//! Flags of what changes a team's signed list.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tern_protocol::{
    ids::{ModelName, ModelVersion, TeamId, Version},
    keys::PublicKey,
    standing::OnRecall,
};

use super::spoken;

#[derive(Debug, Args)]
pub(in crate::cli) struct Publish {
    /// The folder that holds tern.toml
    pub folder: PathBuf,
    #[command(flatten)]
    pub signing: Signing,
    /// As a candidate, with the team's candidate key: for devices whose own configuration takes candidates
    #[arg(long)]
    pub candidate: bool,
    /// Propose it without a signature: for those who hold no release key
    #[arg(long, conflicts_with_all = ["keys", "candidate"])]
    pub unsigned: bool,
    /// What to tell those who approve it [default: that it is published]
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: Option<String>,
}

/// With what a team's list is signed, and who vouches for what is in it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Signing {
    /// A release key of the team, a NAME of `tern key list` or a FILE, once for each signer [default: $TERN_RELEASE_KEY,
    /// then release.key beside the configuration]
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<PathBuf>,
    /// A colleague's public release key (64 hexadecimal digits): versions that it signed are signed again without asking
    #[arg(long = "trusted-key", value_name = "HEX", value_parser = public_key)]
    pub trusted_keys: Vec<PublicKey>,
    /// Sign the versions that the server lists although neither this machine nor a trusted key can vouch for them
    #[arg(long)]
    pub accept_existing: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "The version is fetched and run here, in a process of its own, before anything is signed.")]
pub(in crate::cli) struct Approve {
    /// team/model@version: what an open proposal lists anew, or a candidate that is to be released
    #[arg(required_unless_present = "proposal", conflicts_with = "proposal")]
    pub model: Option<ModelVersion>,
    /// The number of a proposal, see `tern model proposals`
    #[arg(long, value_name = "N")]
    pub proposal: Option<i64>,
    #[command(flatten)]
    pub signing: Signing,
    /// Sign without asking
    #[arg(long)]
    pub yes: bool,
    /// Sign although checks failed, and say why; kept with the record
    #[arg(long = "override", value_name = "REASON", value_parser = spoken)]
    pub override_reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Recall {
    /// team/model@version
    pub model: ModelVersion,
    /// Why; devices and people are told
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
    /// What devices do that run a version of this model which may not run any more [default: as it was, else fallback]
    #[arg(long, value_name = "ACTION", value_parser = on_recall)]
    pub on_recall: Option<OnRecall>,
    /// Also a version that the team's list does not have: a candidate, or one that never came here
    #[arg(long)]
    pub unlisted: bool,
    #[command(flatten)]
    pub signing: Signing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Floor {
    /// team/model@version: the lowest version that may run
    #[arg(value_name = "MODEL@VERSION", value_parser = of_model)]
    pub model: String,
    /// The lowest version that may run, where the model is given as team/model
    pub version: Option<Version>,
    /// Also above every version of the team's list, none of which may run then
    #[arg(long)]
    pub unlisted: bool,
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
    #[command(flatten)]
    pub signing: Signing,
}

impl Floor {
    /// The lowest version that may run, in either of its forms.
    pub(in crate::cli) fn lowest(&self) -> anyhow::Result<ModelVersion> {
        let whole = match &self.version {
            Some(version) => format!("{}@{version}", self.model),
            None => self.model.clone(),
        };
        whole.parse().with_context(|| format!("{whole:?} is no version of a model: write team/model@version"))
    }
}

fn of_model(text: &str) -> Result<String, String> {
    let is_one = text.parse::<ModelVersion>().is_ok() || text.parse::<ModelName>().is_ok();
    if is_one { Ok(text.to_owned()) } else { Err("write team/model@version".into()) }
}

fn on_recall(text: &str) -> Result<OnRecall, String> {
    match text {
        "stop" => Ok(OnRecall::Stop),
        "fallback" => Ok(OnRecall::Fallback),
        _ => Err("write stop or fallback".into()),
    }
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "a public key is 64 hexadecimal digits")?;
    Ok(PublicKey::ed25519(&bytes))
}

#[derive(Debug, Args)]
#[command(after_help = "All that the list says is shown before it is signed; other holders approve it as a proposal.")]
pub(in crate::cli) struct Sign {
    /// The team
    pub team: TeamId,
    #[command(flatten)]
    pub signing: Signing,
    /// Sign without asking
    #[arg(long)]
    pub yes: bool,
    /// The team's list of candidates, not that of its releases
    #[arg(long)]
    pub candidates: bool,
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
}
