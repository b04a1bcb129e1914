//! `tern policy test`: asks the server's own decision, here and without a server, whether tokens may do what a file says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use super::output::Printer;
use crate::{
    disk,
    identity::cases::{self, Decided},
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

/// Runs `tern policy …`.
pub(super) fn run(order: Policy, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let Policy::Test { file } = order;
    let decided = decided(&file).with_context(|| NotAsExpected::File(file))?;
    let wrong = decided.iter().filter(|case| case.decided != case.expected).count();
    printer.result(&decided, |p| {
        decided.iter().try_for_each(|case| p.line(&case.to_string()))?;
        p.line(&format!("{}, {} as expected", count(decided.len(), "case"), decided.len() - wrong))
    })?;
    if wrong == 0 { Ok(()) } else { Err(NotAsExpected::Cases(count(wrong, "case")).into()) }
}

fn decided(path: &Path) -> anyhow::Result<Vec<Decided>> {
    let bytes = disk::read(path, MAX_BYTES)?.context("the file is missing")?;
    cases::decide(std::str::from_utf8(&bytes).context("the file is no UTF-8")?)
}
