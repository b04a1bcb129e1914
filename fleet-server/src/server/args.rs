//! The command line of `tern-server`: flags become an order or a configuration.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};
use tern_protocol::ids::{FleetId, TeamId};

use super::InitOrder;
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
    /// Serve a data folder.
    Run(Box<Run>),
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
    /// The teams that own models; may be given again, or with commas.
    #[arg(long = "team", required = true, value_delimiter = ',')]
    teams: Vec<TeamId>,
    /// A host name or address in the server's certificate; may be given again. The first is what devices use.
    #[arg(long = "name", required = true)]
    names: Vec<String>,
}

impl Init {
    pub(super) fn checked(self) -> anyhow::Result<InitOrder> {
        ensure!(
            self.solo,
            "keys kept offline by several people are not available in this version: \
             `tern-server init --solo` makes all keys on this machine, which is for trials only"
        );
        Ok(InitOrder { data_dir: self.data_dir, fleet: self.fleet, teams: self.teams, names: self.names })
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
    fn without_solo_init_says_what_is_there() {
        let Command::Init(init) = parse("init --fleet f --team a,b --name h").command else { panic!() };
        assert_eq!(init.teams.len(), 2);
        assert!(init.checked().unwrap_err().to_string().contains("init --solo"));
    }
}
