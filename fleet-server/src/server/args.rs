//! The command line of `tern-server`: flags become an order or a configuration.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tern_protocol::ids::{FleetId, TeamId};

use super::{
    InitOrder,
    ca::{CaOrder, CaStep},
};
use crate::config::Config;

/// The fleet server of Tern.
#[derive(Debug, Parser)]
#[command(
    name = "tern-server",
    bin_name = "tern-server",
    version,
    arg_required_else_help = true,
    no_binary_name = true
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a data folder: keys, certificate authority, TUF repository, database, the first operator's token.
    Init(Init),
    /// Take over what the first ceremony of a new fleet agreed on.
    Adopt {
        /// The ceremony's folder, signed by everyone.
        ceremony: PathBuf,
        /// The folder that `init` made.
        #[arg(long, default_value = "/var/lib/tern-server")]
        data_dir: PathBuf,
    },
    /// The server's own keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Serve a data folder.
    Run(Box<Run>),
    /// Replace the certificate authority, with an overlap in which both count; the server must not run.
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make one more key for a role of the server, and write its public half for a ceremony to name.
    New {
        /// Whose.
        role: ServerRole,
        /// The server's data folder.
        #[arg(long, default_value = "/var/lib/tern-server")]
        data_dir: PathBuf,
    },
}

/// A role that the server signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ServerRole {
    /// Which metadata belong together.
    Snapshot,
    /// Which of them are the newest.
    Timestamp,
    /// What each device runs.
    Director,
}

impl ServerRole {
    /// Every role.
    pub(super) const ALL: [Self; 3] = [Self::Snapshot, Self::Timestamp, Self::Director];

    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Director => "director",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Make every key on this machine, each role with one of one. UNSAFE: for trials only.
    #[arg(long)]
    solo: bool,
    /// The folder to make; it must not exist or be empty.
    #[arg(long, default_value = "/var/lib/tern-server")]
    data_dir: PathBuf,
    /// The fleet's name.
    #[arg(long)]
    fleet: FleetId,
    /// With --solo: the teams that own models; may be given again, or with commas.
    #[arg(long = "team", value_delimiter = ',', requires = "solo", required_if_eq("solo", "true"))]
    teams: Vec<TeamId>,
    /// A host name or address in the server's certificate; may be given again. The first is what devices use.
    #[arg(long = "name", required = true)]
    names: Vec<String>,
}

impl Init {
    pub(super) fn order(self) -> InitOrder {
        InitOrder {
            data_dir: self.data_dir,
            fleet: self.fleet,
            solo: self.solo.then_some(self.teams),
            names: self.names,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// Make the next authority. Devices trust it once the targets role lists ca/bundle.pem, and get certificates of it.
    Rotate {
        /// The data folder.
        #[arg(long, default_value = "/var/lib/tern-server")]
        data_dir: PathBuf,
    },
    /// Let the old authority count no more, once no device knows it alone.
    Retire {
        /// The data folder.
        #[arg(long, default_value = "/var/lib/tern-server")]
        data_dir: PathBuf,
        /// Even where devices know the old one only: they have to be enrolled again.
        #[arg(long)]
        leave_behind: bool,
    },
}

impl Ca {
    pub(super) fn order(self) -> CaOrder {
        match self {
            Self::Rotate { data_dir } => CaOrder { data_dir, step: CaStep::Rotate },
            Self::Retire { data_dir, leave_behind } => CaOrder { data_dir, step: CaStep::Retire { leave_behind } },
        }
    }
}

/// Flags go over the file, the file over the defaults.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A TOML file with the keys that the flags below are named after.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where everything is kept.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Address of HTTPS.
    #[arg(long)]
    https_listen: Option<SocketAddr>,
    /// Address of MQTT.
    #[arg(long)]
    mqtt_listen: Option<SocketAddr>,
    /// Loopback address of the plain HTTP console.
    #[arg(long)]
    console_listen: Option<SocketAddr>,
    /// The name under which devices reach this machine.
    #[arg(long)]
    public_host: Option<String>,
    /// Where the addresses are written once everything listens.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Life of a desired state.
    #[arg(long)]
    desired_valid_days: Option<u32>,
    /// First delay before a desired state is sent again.
    #[arg(long)]
    desired_resend_seconds: Option<u32>,
    /// How often devices send reports.
    #[arg(long)]
    report_interval_seconds: Option<u32>,
    /// How long a device's windows are.
    #[arg(long)]
    window_seconds: Option<u32>,
    /// Life of a device's certificate.
    #[arg(long)]
    certificate_life_seconds: Option<u32>,
    /// Log filter, such as info.
    #[arg(long)]
    log: Option<String>,
}

impl Run {
    pub(super) fn config(self) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let config = Config {
            data_dir: self.data_dir.unwrap_or(file.data_dir),
            https_listen: self.https_listen.unwrap_or(file.https_listen),
            mqtt_listen: self.mqtt_listen.unwrap_or(file.mqtt_listen),
            console_listen: self.console_listen.or(file.console_listen),
            public_host: self.public_host.or(file.public_host),
            ready_file: self.ready_file.or(file.ready_file),
            desired_valid_days: self.desired_valid_days.unwrap_or(file.desired_valid_days),
            desired_resend_seconds: self.desired_resend_seconds.unwrap_or(file.desired_resend_seconds),
            report_interval_seconds: self.report_interval_seconds.unwrap_or(file.report_interval_seconds),
            window_seconds: self.window_seconds.unwrap_or(file.window_seconds),
            telemetry_days: file.telemetry_days,
            certificate_life_seconds: self.certificate_life_seconds.unwrap_or(file.certificate_life_seconds),
            requests_at_once: file.requests_at_once,
            log: self.log.unwrap_or(file.log),
            hooks: file.hooks,
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_flag_goes_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::File::create(&path).unwrap();
        crate::disk::write(&path, b"log = \"debug\"\ndesired_valid_days = 3", crate::disk::Access::Public).unwrap();
        let line = format!("run --config {} --log warn --https-listen 127.0.0.1:0", path.display());
        let Command::Run(run) = parse(&line).command else { panic!("run") };
        let config = run.config().unwrap();
        assert_eq!((config.log.as_str(), config.desired_valid_days), ("warn", 3));
        assert_eq!(config.https_listen, "127.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn teams_are_given_where_every_key_is_made_here_and_come_from_a_ceremony_elsewhere() {
        let order = |line| match parse(line).command {
            Command::Init(init) => init.order(),
            other => panic!("{other:?}"),
        };
        assert_eq!(order("init --fleet f --name h --solo --team a,b").solo.unwrap().len(), 2);
        assert_eq!(order("init --fleet f --name h").solo, None);
        for line in ["init --fleet f --name h --solo", "init --fleet f --name h --team a"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
