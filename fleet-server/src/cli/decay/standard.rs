//! What recorded rows are held against: a profile for all devices, or one for each.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use tern_protocol::reference;
use tern_stats::profile::Profile;

use super::{cutter::Plan, fit, table::Table};
use crate::{
    cli::args::decay::{Against, Columns, Cut, offset_words},
    decay::judge::Judge,
    disk,
};

/// Profiles by device.
pub(super) enum Standards {
    One(Arc<Judge>),
    /// Each in a file of a folder.
    Each {
        folder: PathBuf,
        cut: Cut,
        columns: Box<Columns>,
        /// The one that was read first: the others must have its rules.
        first: Option<Arc<Judge>>,
    },
}

impl Standards {
    /// What `against` names; and what to know of it.
    pub(super) fn of(against: &Against) -> anyhow::Result<(Self, Vec<String>)> {
        let Against { profile, reference, columns, cut, .. } = against;
        if let Some(file) = reference {
            let fit::Made { profile, warnings, .. } = fit::profile(file, columns, cut)?;
            return Ok((Self::One(judge(profile)?), warnings));
        }
        let place = profile.as_deref().context("--profile or --reference is needed")?;
        if place.is_dir() {
            ensure!(
                columns.device_column.is_some(),
                "{} is a folder of profiles by device: name the column of devices by --device-column",
                place.display()
            );
            let (folder, cut, columns) = (place.into(), cut.clone(), Box::new(columns.clone()));
            return Ok((Self::Each { folder, cut, columns, first: None }, Vec::new()));
        }
        let absent = absent(&against.stream, columns)?;
        Ok((Self::One(read(place, cut, columns, &absent)?), Vec::new()))
    }

    /// The profile of a device, read anew at each call.
    pub(super) fn judge(&mut self, device: &str) -> anyhow::Result<Arc<Judge>> {
        match self {
            Self::One(judge) => Ok(judge.clone()),
            Self::Each { folder, cut, columns, first } => {
                ensure!(
                    !device.is_empty() && !device.starts_with('.') && !device.contains(['/', '\\', '\0']),
                    "device {device:?} cannot name a file of the folder of profiles"
                );
                let judge = read(&folder.join(format!("{device}.json")), cut, columns, &[])?;
                let first = first.get_or_insert_with(|| judge.clone());
                ensure!(
                    rules(judge.profile()) == rules(first.profile()),
                    "the profile of device {device:?} has another window, offset or rate than the others"
                );
                Ok(judge)
            }
        }
    }
}

/// The columns to leave out that rows in `stream` do not have.
fn absent<'c>(stream: &Path, columns: &'c Columns) -> anyhow::Result<Vec<&'c str>> {
    let table = Table::open(stream)?;
    Ok(columns.ignore.iter().filter(|name| !table.names().contains(name)).map(String::as_str).collect())
}

/// What all profiles of a fleet must agree on.
fn rules(profile: &Profile) -> (Plan, f64) {
    let plan = Plan::of(profile);
    let calendar = plan.calendar.map(|calendar| tern_stats::calendar::Calendar::plain(calendar.utc_offset));
    (Plan { calendar, ..plan }, profile.arl)
}

/// The profile in a file, without the features of ignored columns and without confidences where no column holds any.
///
/// It must watch the `absent` ones: a name that nobody has is a slip.
fn read(file: &Path, cut: &Cut, columns: &Columns, absent: &[&str]) -> anyhow::Result<Arc<Judge>> {
    let place = || file.display().to_string();
    let bytes = disk::read(file, reference::MAX_BYTES as u64).with_context(|| format!("reading {}", place()))?;
    let bytes = bytes.with_context(|| format!("there is no profile {}", place()))?;
    let mut profile: Profile =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no profile of `tern decay fit`", place()))?;
    agree(&profile, cut).with_context(place)?;
    if columns.confidence_column.is_none()
        && profile.confidence.as_ref().is_some_and(|confidence| confidence.bins.len() > 1)
    {
        // Rows that do not say how sure the model was are no rows of which it was unsure: the objective is left.
        (profile.confidence, profile.estimate) = (None, None);
    }
    let is_watched = |name: &str| profile.features.iter().any(|feature| feature.name == name);
    if let Some(name) = absent.iter().find(|name| !is_watched(name)) {
        bail!("--ignore {name}: neither {} watches nor the header of the stream names a column {name:?}", place());
    }
    let watched = profile.features.len();
    profile.features.retain(|feature| !columns.ignore.contains(&feature.name));
    ensure!(watched == 0 || !profile.features.is_empty(), "--ignore leaves out all that {} watches", place());
    judge(profile).with_context(place)
}

fn judge(profile: Profile) -> anyhow::Result<Arc<Judge>> {
    profile.check()?;
    ensure!(!profile.features.is_empty(), "the profile watches nothing");
    if !profile.outputs.is_empty() {
        bail!(
            "the profile watches a model's outputs, which recorded rows do not hold: `tern decay fit` makes one of inputs"
        );
    }
    Ok(Arc::new(Judge::new(Arc::new(profile))))
}

/// Windows, offset and rate are the profile's; another one asked for is an error.
fn agree(profile: &Profile, cut: &Cut) -> anyhow::Result<()> {
    let plan = Plan::of(profile);
    ensure!(cut.window.is_none_or(|span| span == plan.span), "--window is not the profile's, which is {}", plan.span);
    let offset = plan.calendar.map_or(0, |calendar| calendar.utc_offset);
    ensure!(
        cut.utc_offset.is_none_or(|asked| asked == offset),
        "--utc-offset is not the profile's, which is {}",
        offset_words(offset)
    );
    ensure!(cut.arl.is_none_or(|arl| arl == profile.arl), "--arl is not the profile's, which is {}", profile.arl);
    Ok(())
}
