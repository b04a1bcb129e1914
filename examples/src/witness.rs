//! A witness: asks every device all the time, from the first version on to the end, and counts who answered.
//!
//! It is how a story knows that the active version kept answering while other things were refused.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};

use crate::cameras::{Address, Camera, Digit};

/// Time between two questions to one device.
const PAUSE: Duration = Duration::from_millis(50);

/// What the witness saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Testimony {
    /// Answers by version.
    pub answers: BTreeMap<String, u64>,
    /// Questions without an answer.
    pub failed: u64,
    /// The first failure, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

/// Asks until it is dismissed.
pub struct Witness {
    dismissed: watch::Sender<bool>,
    watching: JoinSet<Testimony>,
}

impl Witness {
    /// Starts asking each device in `addresses`.
    pub fn start(addresses: impl IntoIterator<Item = (String, Address)>, digits: &[Digit]) -> Self {
        let (dismissed, receiver) = watch::channel(false);
        let mut watching = JoinSet::new();
        for (device, address) in addresses {
            watching.spawn(watch_device(device, Camera::new(address), digits.to_vec(), receiver.clone()));
        }
        Self { dismissed, watching }
    }

    /// Stops asking; what was seen on all devices together.
    pub async fn dismiss(mut self) -> Testimony {
        self.dismissed.send_replace(true);
        let mut all = Testimony::default();
        while let Some(joined) = self.watching.join_next().await {
            match joined {
                Ok(one) => all.add(one),
                Err(error) => all.fail(error.to_string()),
            }
        }
        all
    }
}

impl Testimony {
    fn add(&mut self, other: Self) {
        for (version, count) in other.answers {
            *self.answers.entry(version).or_default() += count;
        }
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn fail(&mut self, cause: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(cause);
    }
}

async fn watch_device(
    device: String,
    mut camera: Camera,
    digits: Vec<Digit>,
    mut dismissed: watch::Receiver<bool>,
) -> Testimony {
    let mut seen = Testimony::default();
    for digit in digits.iter().cycle() {
        if *dismissed.borrow() {
            break;
        }
        match camera.look(digit).await {
            Ok(answer) => *seen.answers.entry(answer.version).or_default() += 1,
            Err(error) => seen.fail(format!("{device}: {error:#}")),
        }
        // Either the pause has passed or the witness is dismissed; the loop's head tells which.
        let _ = tokio::time::timeout(PAUSE, dismissed.changed()).await;
    }
    seen
}
