//! The commands and their flags; nothing here acts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tern_protocol::ids::{DeviceId, LabelKey, LabelValue, ModelName, ModelVersion, TeamId};

use crate::readers::ReaderName;

pub(super) mod decay;
mod publishing;
mod trying;

pub(super) use publishing::{Approve, Floor, Publish, Recall, Sign, Signing};
pub(super) use trying::{Check, Inspect, Profile, Test};

/// Keep machine-learning models on a fleet of devices: publish, assign, watch.
#[derive(Debug, Parser)]
#[command(name = "tern", bin_name = "tern", version, no_binary_name = true, arg_required_else_help = true)]
#[command(
    after_help = "TERN_SERVER, TERN_TOKEN and TERN_CA (a file) override the configuration. TERN_KEY_PASSPHRASE_FILE \
                        names a file that holds the passphrase of keys; without it `tern` asks on the terminal."
)]
pub(super) struct Cli {
    /// What to print: tables for people, or the server's JSON, whose members keep their meaning
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The configuration file [default: $TERN_CONFIG, then ~/.config/tern/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

impl Cli {
    /// What to print: some commands have a flag of their own for JSON.
    pub(super) fn format(&self) -> Format {
        let json = match &self.command {
            Command::Model(Model::Inspect(order)) => order.json,
            Command::Model(Model::Test(order)) => order.json,
            Command::Model(Model::Check(order)) => order.json,
            Command::Decay(decay::Decay::Replay(order)) => order.json,
            _ => false,
        };
        if json { Format::Json } else { self.output }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a server and a token, and remember them
    Login(Login),
    /// Whose token this is, and what it is for
    Whoami,
    /// Models and their versions
    #[command(subcommand)]
    Model(Model),
    /// Devices
    #[command(subcommand)]
    Device(Device),
    /// Signing keys of people and robots
    #[command(subcommand)]
    Key(super::key::Key),
    /// Make devices run a published version
    Assign(Assign),
    /// Who may read the fleet's MQTT topics without being a device
    #[command(subcommand)]
    Dashboard(Dashboard),
    /// Bring a version to devices in stages, watched, and back where it fails
    #[command(subcommand)]
    Rollout(super::rollout::Rollout),
    /// Detection of decay on recorded rows, before anything is shipped; no server, no keys
    #[command(subcommand)]
    Decay(decay::Decay),
    /// Decay that the server has detected
    #[command(subcommand)]
    Incident(Incident),
    /// What happened in the fleet, oldest first
    Events {
        /// Only events after this number
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
        /// Only the newest so many of them
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        last: u32,
    },
    /// Who may do what at the server
    #[command(subcommand)]
    Token(super::token::Token),
    /// Who read models, and which requests were refused, oldest first
    Accesses(super::accesses::Accesses),
    /// What tokens may do, tested without a server
    #[command(subcommand)]
    Policy(super::policy::Policy),
    /// What commands start this program again as, to run models that nobody vouches for
    #[command(hide = true)]
    RunConfined {
        /// Most processor time
        #[arg(long, value_name = "S", default_value_t = super::confined::CPU_SECONDS)]
        cpu_seconds: u64,
    },
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct Login {
    /// The server's address, such as https://fleet.example:8443 [default: $TERN_SERVER]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The server's CA certificate, PEM [default: $TERN_CA]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The file that holds the token [default: $TERN_TOKEN, then standard input]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Model {
    /// What an ONNX file says about itself, whether this engine can run it or not
    Inspect(Inspect),
    /// Run models against their own test cases, in ONNX's layout: exit 0 only if all pass
    Test(Test),
    /// Whether this engine runs a model right, and a bundle around it to edit; no server, no keys
    Check(Check),
    /// Upload a bundle folder and sign it; running it again continues
    Publish(Publish),
    /// Check what a colleague proposes, or a candidate, and sign it
    Approve(Approve),
    /// Lists of versions that wait for signatures, and what became of others
    Proposals {
        /// Of this team only
        team: Option<TeamId>,
    },
    /// Take a proposal back
    Withdraw {
        /// Its number
        #[arg(long, value_name = "N")]
        proposal: i64,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
    },
    /// Take a version out of service everywhere, for good
    Recall(Recall),
    /// Let no version below this one run any more
    Floor(Floor),
    /// Sign the team's list again as it stands, after a ceremony gave the team other keys
    Sign(Sign),
    /// Fit a bundle's reference profile to rows that were recorded while all was well
    Profile(Profile),
    /// Versions, of one model or of all
    List {
        /// team/model
        model: Option<ModelName>,
    },
    /// One version and its manifest
    Show {
        /// team/model@version
        model: ModelVersion,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Make a one-time token and print the line to run on the device
    Enroll(Enroll),
    /// The devices
    List {
        /// Only those with these labels, such as site=hall-2,class!=old
        #[arg(long)]
        selector: Option<String>,
    },
    /// One device
    Show {
        /// Its name
        device: DeviceId,
    },
    /// What versions have come to on devices: rows, errors, accuracy, latency
    Figures {
        /// Of this device only
        device: Option<DeviceId>,
        /// Of this model only: team/model
        #[arg(long)]
        model: Option<ModelName>,
    },
    /// Print the one line that turns each machine of a list into its device, by its serial number, once
    Claim(Claim),
    /// Put a device out for good: its connections end at once, and only a new enrolment lets it in again
    Revoke {
        /// Its name
        device: DeviceId,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
    },
    /// Put a device's identity out and print the line that gives it a new one; for one that was cloned
    Reidentify {
        /// Its name
        device: DeviceId,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
        /// How long the token is good for: a number and s, m, h or d
        #[arg(long, default_value = "1h", value_parser = duration)]
        valid: Duration,
    },
    /// Reports and rows that could not be used
    Quarantine,
    /// Make and sign the ticket that gives new floors to a device which lost its own
    ///
    /// `tern-agent rescue` prints the nonce on the device, and takes the ticket there. Root's keys sign it, as many as root's
    /// threshold: those at hand with --key, those of other people each with --add on their machine, which needs no server.
    #[command(verbatim_doc_comment)]
    Rescue(Rescue),
}

#[derive(Debug, Args)]
pub(super) struct Rescue {
    /// The device's name
    pub device: DeviceId,
    /// What the device printed: 32 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    pub nonce: String,
    /// A root key to sign with, once for each
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub keys: Vec<PathBuf>,
    /// How long the ticket is good for: a number and s, m, h or d
    #[arg(long, default_value = "7d", value_parser = duration, conflicts_with = "add")]
    pub valid: Duration,
    /// Where to write the ticket [default: DEVICE.ticket, or the file of --add]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Add signatures to this ticket, which somebody else made
    #[arg(long, value_name = "FILE")]
    pub add: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Dashboard {
    /// Make a key here and have the server certify it for reading
    Add {
        /// The dashboard's name
        name: ReaderName,
        /// The folder for key.pem, certificate.pem and ca.pem
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// The dashboards
    List,
    /// Take a dashboard's access away, at once
    Remove {
        /// Its name
        name: ReaderName,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// The device's name
    pub device: DeviceId,
    /// A label, once for each
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(LabelKey, LabelValue)>,
    /// How long the token is good for: a number and s, m, h or d
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub valid: Duration,
    /// The device is in service: the new token replaces its certificate
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct Claim {
    /// A CSV file with a header: a column `serial`, perhaps `device`, and a column for each label
    #[arg(long, value_name = "FILE.csv")]
    pub serials: PathBuf,
    /// A label of each machine whose row says no other, once for each
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(LabelKey, LabelValue)>,
    /// How long the token is good for: a number and s, m, h or d
    #[arg(long, default_value = "30d", value_parser = duration)]
    pub valid: Duration,
}

#[derive(Debug, Subcommand)]
pub(super) enum Incident {
    /// Open incidents, newest first
    List {
        /// Resolved ones too
        #[arg(long)]
        all: bool,
    },
    /// One incident, with its evidence and what was done
    Show {
        /// Its number
        number: u64,
    },
    /// Record that you have seen it
    Ack {
        /// Its number
        number: u64,
        /// What is done about it; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
    },
    /// Keep its hooks quiet for some time
    Mute {
        /// Its number
        number: u64,
        /// For how many hours
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = spoken)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Assign {
    /// team/model@version
    pub model: ModelVersion,
    /// Which devices, such as site=hall-2,class!=old; '*' for all
    #[arg(long, value_name = "SELECTOR", value_parser = spoken)]
    pub to: String,
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", value_parser = spoken)]
    pub reason: String,
    /// Inferences that the version must survive before it counts as committed; with --probation-seconds [default: 100]
    #[arg(long, value_name = "N", requires = "probation_seconds")]
    pub probation_inferences: Option<u64>,
    /// Seconds that it must survive; with --probation-inferences [default: 600]
    #[arg(long, value_name = "S", requires = "probation_inferences")]
    pub probation_seconds: Option<u64>,
}

fn label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    Ok((key.parse().map_err(|e| format!("{e}"))?, value.parse().map_err(|e| format!("{e}"))?))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let rule = "write a number and s, m, h or d, such as 90s or 2d, at most 30d";
    let seconds = seconds(text).filter(|seconds| (1..=30 * 86_400).contains(seconds)).ok_or(rule)?;
    Ok(Duration::from_secs(seconds))
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A longer time than [`duration`]: of things that are kept.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    const MOST: u64 = 3650 * 86_400;
    let rule = "write a number and s, m, h or d, such as 12h or 90d, at most 3650d";
    let seconds = seconds(text).filter(|seconds| (1..=MOST).contains(seconds)).ok_or(rule)?;
    Ok(Duration::from_secs(seconds))
}

fn nonce(text: &str) -> Result<String, String> {
    let is_one = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_one { Ok(text.into()) } else { Err("it is the 32 hexadecimal digits that `tern-agent rescue` prints".into()) }
}

pub(super) fn spoken(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("it must not be empty".into()) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in ["", "h", "0s", "31d", "1", "1w", "-1h", "1.5h", "99999999999999999999d", "1ä"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_may_be_longer() {
        assert_eq!(age("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for text in ["", "0s", "3651d", "1"] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_checked_before_anything_is_sent() {
        assert!(label("site=hall-2").is_ok());
        for text in ["site", "=x", "site=", "a/b=c", "site=a b"] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
