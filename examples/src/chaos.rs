//! Chaos: kills processes at random instants while a story runs, a fixed number of each kind in every step.
//!
//! The instants follow from a seed, so a run that went wrong can be tried again. It only ever kills by pid, and only
//! processes that the story started.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    draws,
    processes::{children, kill},
    world::Processes,
};

/// Latest instant of a kill after its step began.
const SPREAD_MS: u64 = 2_500;

/// How many processes were killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Kills {
    /// Servers.
    pub servers: u32,
    /// Agents.
    pub agents: u32,
    /// Workers.
    pub workers: u32,
}

/// A seeded source of kills.
pub struct Chaos {
    random: SplitMix,
    processes: Arc<Mutex<Processes>>,
    running: Vec<JoinHandle<Kills>>,
}

impl Chaos {
    /// Chaos among these processes.
    pub fn new(seed: u64, processes: Arc<Mutex<Processes>>) -> Self {
        Self { random: SplitMix(seed), processes, running: Vec::new() }
    }

    /// Arranges one kill of each kind for the step that begins now.
    pub fn step(&mut self) {
        for kind in [Victim::Server, Victim::Agent, Victim::Worker] {
            let delay = Duration::from_millis(self.random.next() % SPREAD_MS);
            let choice = self.random.next();
            let processes = self.processes.clone();
            self.running.push(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                kind.kill(&*processes.lock().await, choice)
            }));
        }
    }

    /// Waits for the last arranged kill; how many hit.
    pub async fn end(self) -> Kills {
        let mut all = Kills::default();
        for running in self.running {
            let one = running.await.unwrap_or_default();
            all.servers += one.servers;
            all.agents += one.agents;
            all.workers += one.workers;
        }
        all
    }
}

#[derive(Clone, Copy)]
enum Victim {
    Server,
    Agent,
    Worker,
}

impl Victim {
    fn kill(self, processes: &Processes, choice: u64) -> Kills {
        let agent = || {
            let count = processes.agents.len().max(1) as u64;
            processes.agents.get((choice % count) as usize).and_then(|agent| agent.pid())
        };
        let pid = match self {
            Self::Server => processes.server.as_ref().and_then(|server| server.pid()),
            Self::Agent => agent(),
            Self::Worker => agent().and_then(|pid| children(pid).first().copied()),
        };
        let Some(pid) = pid else { return Kills::default() };
        tracing::info!(pid, "chaos kills");
        kill(pid);
        match self {
            Self::Server => Kills { servers: 1, ..Kills::default() },
            Self::Agent => Kills { agents: 1, ..Kills::default() },
            Self::Worker => Kills { workers: 1, ..Kills::default() },
        }
    }
}

/// Enough for choosing victims.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        let drawn = draws::mixed(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }
}
