//! `tern`, the operator's command line.
//!
//! It talks to one server over HTTPS and trusts one CA, that of its configuration. Release keys never leave this machine:
//! they sign here, and only lists of versions that this machine or a trusted key can vouch for.
//! Exit codes: 0 done, 1 error, 2 wrong usage; `rollout` adds 3 and 4, and of `decay` wrong usage is an error like others.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory, Parser};

mod accesses;
mod approve;
mod args;
mod cases;
mod ceremony;
mod check;
mod claim;
mod client;
mod config;
mod confined;
mod dashboard;
mod decay;
mod device;
mod difference;
mod draft;
mod fleet;
mod incident;
mod inspect;
mod key;
mod keys;
mod lists;
mod login;
mod matches;
mod model;
mod output;
mod policy;
mod profile;
mod proposals;
mod publish;
mod record;
mod rescue;
mod rollout;
mod telemetry;
mod token;
mod upload;
mod versions;

#[cfg(test)]
mod tests;

use args::{Cli, Command};
use client::Client;
use config::{Environment, Settings};
use output::Printer;

/// The outer world of one run.
struct World<'a> {
    environment: Environment,
    input: &'a mut dyn io::Read,
    out: &'a mut dyn io::Write,
    err: &'a mut dyn io::Write,
    /// Whether someone watches `err`.
    watched: bool,
}

/// Runs `tern` with `args`, which do not begin with the program's name.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let itself = confined::Itself::of_process(args.len());
    let world = World {
        environment: Environment { itself, ..Environment::of_process() },
        input: &mut io::stdin(),
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        watched: io::IsTerminal::is_terminal(&io::stderr()),
    };
    ExitCode::from(run(args, world))
}

fn run(args: impl IntoIterator<Item = OsString>, world: World<'_>) -> u8 {
    let args: Vec<_> = args.into_iter().collect();
    let is_decay = args.first().is_some_and(|command| command == "decay");
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            let to: &mut dyn io::Write = if usage.use_stderr() { world.err } else { world.out };
            // A reader that has gone away is no fault of ours, and there is nobody left to tell.
            let _ = write!(to, "{}", usage.render());
            let code = u8::try_from(usage.exit_code()).unwrap_or(2);
            return if is_decay { code.min(1) } else { code };
        }
    };
    let World { environment, input, out, err, watched } = world;
    if let Command::RunConfined { cpu_seconds } = cli.command {
        return confined::child(cpu_seconds);
    }
    let mut printer = Printer::new(out, err, cli.format(), watched, crate::clock::now());
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(dispatch(cli, &environment, input, &mut printer)));
    match result {
        Ok(()) => 0,
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            printer.error(&error);
            policy::NotAsExpected::exit_code(&error).unwrap_or_else(|| rollout::NotWell::exit_code(&error))
        }
    }
}

async fn dispatch(
    cli: Cli,
    environment: &Environment,
    input: &mut dyn io::Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let place = environment.config_file(cli.config.as_deref());
    let settings = || Settings::load(environment, place.as_deref());
    let client = || Client::new(&settings()?);
    match cli.command {
        Command::Login(order) => login::run(order, environment, place, input, printer).await,
        Command::Whoami => login::whoami(&client()?, printer).await,
        Command::Model(args::Model::Publish(order)) => publish::run(&order, environment, &settings()?, printer).await,
        Command::Model(args::Model::Approve(order)) => {
            approve::run(&order, environment, &settings()?, input, printer).await
        }
        Command::Model(args::Model::Recall(order)) => lists::recall(&order, environment, &settings()?, printer).await,
        Command::Model(args::Model::Floor(order)) => lists::floor(&order, environment, &settings()?, printer).await,
        Command::Model(args::Model::Sign(order)) => {
            lists::sign_again(&order, environment, &settings()?, input, printer).await
        }
        Command::Model(args::Model::Proposals { team }) => proposals::list(&client()?, team.as_ref(), printer).await,
        Command::Model(args::Model::Withdraw { proposal, reason }) => {
            proposals::withdraw(&client()?, proposal, reason, printer).await
        }
        // It ends before the runtime starts.
        Command::RunConfined { .. } => Ok(()),
        Command::Model(args::Model::Inspect(order)) => inspect::run(&order, environment.itself.as_ref(), printer).await,
        Command::Model(args::Model::Test(order)) => cases::run(&order, environment.itself.as_ref(), printer).await,
        Command::Model(args::Model::Check(order)) => draft::run(&order, environment.itself.as_ref(), printer).await,
        Command::Model(args::Model::Profile(order)) => profile::run(&order, printer),
        Command::Model(args::Model::List { model }) => model::list(&client()?, model.as_ref(), printer).await,
        Command::Model(args::Model::Show { model }) => model::show(&client()?, &model, printer).await,
        Command::Device(args::Device::Enroll(order)) => device::enroll(&client()?, order, printer).await,
        Command::Device(args::Device::List { selector }) => {
            device::list(&client()?, selector.as_deref(), printer).await
        }
        Command::Device(args::Device::Show { device }) => device::show(&client()?, &device, printer).await,
        Command::Device(args::Device::Claim(order)) => claim::claim(&client()?, order, printer).await,
        Command::Device(args::Device::Revoke { device, reason }) => {
            device::revoke(&client()?, &device, reason, printer).await
        }
        Command::Device(args::Device::Reidentify { device, reason, valid }) => {
            device::reidentify(&client()?, &device, reason, valid, printer).await
        }
        Command::Dashboard(args::Dashboard::Add { name, out }) => dashboard::add(&client()?, name, &out, printer).await,
        Command::Dashboard(args::Dashboard::List) => dashboard::list(&client()?, printer).await,
        Command::Dashboard(args::Dashboard::Remove { name, reason }) => {
            dashboard::remove(&client()?, &name, &reason, printer).await
        }
        Command::Incident(order) => incident::run(&client()?, order, printer).await,
        Command::Device(args::Device::Figures { device, model }) => {
            telemetry::figures(&client()?, device.as_ref(), model.as_ref(), printer).await
        }
        Command::Decay(order) => decay::run(&order, printer),
        Command::Device(args::Device::Rescue(order)) => {
            rescue::run(client, &order, &keys::Keys::beside(environment, place.as_deref()), printer).await
        }
        Command::Device(args::Device::Quarantine) => telemetry::quarantine(&client()?, printer).await,
        Command::Key(order) => {
            let keys = keys::Keys::beside(environment, place.as_deref());
            key::run(order, &keys, client, input, printer).await
        }
        Command::Assign(order) => fleet::assign(&client()?, order, printer).await,
        Command::Rollout(order) => rollout::run(&client()?, order, printer).await,
        Command::Events { after, last } => fleet::events(&client()?, after, last, printer).await,
        Command::Token(order) => token::run(&client()?, order, printer).await,
        Command::Accesses(order) => accesses::run(&client()?, order, printer).await,
        Command::Policy(order) => policy::run(order, printer),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tern", &mut script);
            printer.raw(&script)
        }
    }
}

/// Whether the reader of our output went away, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<output::WriteFailed>().is_some_and(|failed| failed.0.kind() == io::ErrorKind::BrokenPipe)
}
