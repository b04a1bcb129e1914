//! Chaos: kills processes and breaks connections at random instants while a story runs, a fixed number of each kind in
//! every step.
//!
//! The instants follow from a seed, so a run that went wrong can be tried again. It only ever kills by pid, and only
//! processes that the story started.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    cable::Cable,
    draws,
    processes::{Daemon, children, kill},
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
    /// Connections of one device to the broker.
    pub connections: u32,
}

/// A seeded source of kills.
pub struct Chaos {
    random: SplitMix,
    processes: Arc<Mutex<Processes>>,
    cables: Arc<Vec<[Cable; 2]>>,
    running: Vec<JoinHandle<Kills>>,
}

impl Chaos {
    /// Chaos among these processes and on these cables.
    pub fn new(seed: u64, processes: Arc<Mutex<Processes>>, cables: Arc<Vec<[Cable; 2]>>) -> Self {
        Self { random: SplitMix(seed), processes, cables, running: Vec::new() }
    }

    /// Arranges one kill of each kind for the step that begins now.
    pub fn step(&mut self) {
        for kind in [Victim::Server, Victim::Agent, Victim::Worker, Victim::Connection] {
            let delay = Duration::from_millis(self.random.next() % SPREAD_MS);
            let choice = self.random.next();
            let (processes, cables) = (self.processes.clone(), self.cables.clone());
            self.running.push(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                kind.strike(&*processes.lock().await, &cables, choice)
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
            all.connections += one.connections;
        }
        all
    }
}

#[derive(Clone, Copy)]
enum Victim {
    Server,
    Agent,
    Worker,
    Connection,
}

impl Victim {
    /// Kills or breaks one of its kind, where there is one right now.
    fn strike(self, processes: &Processes, cables: &[[Cable; 2]], choice: u64) -> Kills {
        let chosen = |count: usize| (choice % count.max(1) as u64) as usize;
        let agent = || processes.agents.get(chosen(processes.agents.len())).and_then(Daemon::pid);
        let none = Kills::default();
        match self {
            Self::Server => killed(processes.server.as_ref().and_then(Daemon::pid), Kills { servers: 1, ..none }),
            Self::Agent => killed(agent(), Kills { agents: 1, ..none }),
            Self::Worker => {
                killed(agent().and_then(|pid| children(pid).first().copied()), Kills { workers: 1, ..none })
            }
            Self::Connection => match cables.get(chosen(cables.len())) {
                Some([_, mqtt]) => {
                    mqtt.shake();
                    Kills { connections: 1, ..none }
                }
                None => none,
            },
        }
    }
}

fn killed(pid: Option<u32>, kills: Kills) -> Kills {
    let Some(pid) = pid else { return Kills::default() };
    tracing::info!(pid, "chaos kills");
    kill(pid);
    kills
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
