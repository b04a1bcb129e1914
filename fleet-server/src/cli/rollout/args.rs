//! The flags of `tern rollout`; nothing here acts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use tern_protocol::ids::ModelVersion;

use super::super::args::{duration, spoken};
use crate::{
    forms::rollouts::{KEY_RULE, is_key},
    rollout::{RolloutId, Share},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Rollout {
    /// Make a rollout: a version, devices, and the terms
    Create(Box<Create>),
    /// What the rollout would do now, or what its start would do; changes nothing
    Plan {
        /// Its name
        id: RolloutId,
    },
    /// Where the rollout and its devices stand
    Status(Status),
    /// The rollouts, newest first
    List,
    /// Every change of a rollout, with what was decided and on which grounds
    Verdicts {
        /// Its name
        id: RolloutId,
    },
    /// Begin to assign
    Start(Act),
    /// Assign nothing new for now
    Pause(Act),
    /// Go on after a pause or a hold
    Resume(Act),
    /// Begin the next stage now; in the last one, wait no more for devices that are away
    Promote(Act),
    /// Stop for good and take everything back
    Abort(Act),
    /// Take a finished rollout back
    Undo(Act),
    /// Try failed and silent devices again
    Retry(Act),
    /// Agree to the start of somebody else's rollout
    Approve(Act),
    /// Refuse the start for good
    Deny(Act),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Act {
    /// Its name
    pub id: RolloutId,
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Its name
    pub id: RolloutId,
    /// Print changes as they come, until the rollout is over
    #[arg(short, long)]
    pub watch: bool,
    /// Watch for so long at most: a number and s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "watch")]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// team/model@version
    pub model: ModelVersion,
    /// Which devices, such as site=hall-2,class!=old; '*' for all
    #[arg(long, value_name = "SELECTOR", value_parser = spoken)]
    pub to: String,
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
    /// Start it at once
    #[arg(long)]
    pub start: bool,
    /// A word of yours for this order: given again it makes no second rollout, for scripts that may run twice
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub idempotency_key: Option<String>,
    /// The terms in a file, TOML; examples/deploy/rollout.toml shows every key
    #[arg(long, value_name = "FILE", conflicts_with = "terms")]
    pub policy: Option<PathBuf>,
    #[command(flatten)]
    pub terms: Terms,
}

/// The terms that most rollouts need; the rest is for a file.
#[derive(Debug, Default, Args)]
#[group(id = "terms", multiple = true)]
pub(in crate::cli) struct Terms {
    /// How many devices the first stage reaches, such as 2 or 5%
    #[arg(long, value_name = "N|P%", required_unless_present = "policy")]
    pub canary: Option<Share>,
    /// How long each stage but the last is watched before the next begins
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub bake: Option<Duration>,
    /// How many devices the next stage reaches, earlier ones included, once for each [default: 100%]
    #[arg(long, value_name = "N|P%")]
    pub then: Vec<Share>,
    /// A device that was reached and gives no sign for so long has failed [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub silence: Option<Duration>,
    /// At most so many devices between assignment and outcome [default: 25%]
    #[arg(long, value_name = "N|P%")]
    pub max_unavailable: Option<Share>,
    /// More failed and silent devices than this abort [default: 10%]
    #[arg(long, value_name = "N|P%")]
    pub failures: Option<Share>,
    /// So many devices are kept on the old version until the last stage is good
    #[arg(long, value_name = "N|P%")]
    pub control: Option<Share>,
    /// So many others must approve before the start
    #[arg(long, value_name = "N")]
    pub approvals: Option<u32>,
    /// A human begins each next stage
    #[arg(long)]
    pub by_hand: bool,
    /// Inferences that the version must survive on each device [default: 100]
    #[arg(long, value_name = "N")]
    pub probation_inferences: Option<u64>,
    /// Seconds that it must survive [default: 600]
    #[arg(long, value_name = "S")]
    pub probation_seconds: Option<u64>,
}

fn key(text: &str) -> Result<String, String> {
    if is_key(text) { Ok(text.to_owned()) } else { Err(KEY_RULE.to_owned()) }
}
