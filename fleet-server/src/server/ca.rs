//! `tern-server ca rotate` and `ca retire`: one certificate authority after another, on a data folder that nobody serves.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use tern_protocol::ids::DeviceId;

use crate::{
    ca::{Authority, rotation::BUNDLE},
    clock, disk,
    events::EventKind,
    store::{NewEvent, Store},
};

/// How often devices ask which authorities count, unless their own `trust_refresh_seconds` says otherwise.
const DEVICES_ASK: SignedDuration = SignedDuration::from_hours(1);
/// Devices that a refusal names.
const NAMED: usize = 5;

/// What to do with the authority of a data folder.
#[derive(Debug, Clone)]
pub struct CaOrder {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Which half of a rotation.
    pub step: CaStep,
}

/// The two halves of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaStep {
    /// The next authority begins to count beside the old one.
    Rotate,
    /// The old one counts no more.
    Retire {
        /// Also where devices know the old one only.
        leave_behind: bool,
    },
}

/// Carries the order out; returns what to tell the operator.
///
/// # Errors
/// Where the folder is being served, devices would be left behind, or the disk refuses.
pub async fn carry_out(order: &CaOrder) -> anyhow::Result<String> {
    let data = &order.data_dir;
    ensure!(data.join("server.db").exists(), "{} is no data folder", data.display());
    let _lock = disk::lock(&data.join("server.lock")).context("lock the data folder; is the server running?")?;
    let store = Store::open(&data.join("server.db")).context("open server.db")?;
    let (folder, now) = (data.join("ca"), clock::now());
    let (bundle, ca) = (folder.join(BUNDLE), folder.join("ca.pem"));
    let (kind, message, words) = match order.step {
        CaStep::Rotate => {
            let fleet = store.settings().await.context("read the fleet's settings")?.fleet;
            let both = Authority::rotate(&folder, &format!("tern {fleet} since {now}"), now)?;
            let words = format!(
                "the next authority is {}; both count now\n\
                 for operators and dashboards: trust {} (`tern login --ca`) before the old one is retired\n\
                 next: tern-server run; a fleet made with --solo lists ca/{BUNDLE} by itself, another one lists it in a ceremony\n\
                 then: devices ask once an hour (trust_refresh_seconds in agent.toml), so those that are online have taken it \
                 over an hour after it is listed, by {} at the earliest; tern-server ca retire says who has not",
                both.newest().sha256(),
                bundle.display(),
                asked(now)
            );
            (EventKind::AuthorityRotated, format!("the next authority is {}", both.newest().sha256()), words)
        }
        CaStep::Retire { leave_behind } => {
            let both = Authority::open(&folder)?;
            let behind = store.certified_by_others(both.newest().sha256()).await?;
            let ordered = store.ordered(now).await?;
            ensure!(
                leave_behind || ordered.is_empty(),
                "open tokens for {} devices pin the old authority and make no device once it is retired, such as {}: use \
                 them up, order them anew afterwards and void them now with `tern device revoke`, or give --leave-behind",
                ordered.len(),
                some_of(&ordered)
            );
            ensure!(
                leave_behind || behind.is_empty(),
                "{} devices know the old authority only and would have to be enrolled again, such as {}: start the \
                 server and wait until they have been online (devices ask once an hour, so those that are have asked by {}), \
                 revoke them, or give --leave-behind",
                behind.len(),
                some_of(&behind),
                asked(now)
            );
            let after = Authority::retire(&folder)?;
            let words = format!(
                "the authority is {} alone; {} devices are left behind, and open tokens for {}\n\
                 for operators and dashboards: {} is the new ca.pem; log in again with it (`tern login --ca {}`)\n\
                 next: tern-server run; devices ask once an hour, so those that are online trust it alone by {}",
                after.sha256(),
                behind.len(),
                ordered.len(),
                ca.display(),
                ca.display(),
                asked(now)
            );
            (
                EventKind::AuthorityRetired,
                format!("{} is left; {} devices were left behind", after.sha256(), behind.len()),
                words,
            )
        }
    };
    store.record(NewEvent::new(kind, message).by("server"), now).await.context("record it")?;
    Ok(words)
}

/// The first few names.
fn some_of(devices: &[DeviceId]) -> String {
    devices.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// When every device that is online has asked again, if the server runs from now on.
fn asked(now: Timestamp) -> String {
    now.saturating_add(DEVICES_ASK).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d %H:%M UTC").to_string()
}
