//! A policy for tests: client `c` owns the topics under `t/c/`, `watcher` reads everything, and every question and
//! event is kept for the test to see.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use tern_fleet_server::broker::{Answer, Connection, Denied, End, Identity, Passing, Policy, Publication, Rejected};
use tokio::sync::watch;

/// Every wait in these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) client: String,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
    pub(crate) will: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Connected(u64, String),
    Disconnected(u64, End),
}

/// What a careless policy would let anybody do.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Holes {
    pub(crate) publish: bool,
    pub(crate) subscribe: bool,
    pub(crate) will: bool,
}

pub(crate) struct House {
    holes: Holes,
    revoked: Mutex<HashSet<String>>,
    messages: watch::Sender<Vec<Seen>>,
    /// Messages under `…/slow` wait here between their arrival and their commit; those under `…/full` are refused.
    arrived: watch::Sender<usize>,
    released: watch::Sender<bool>,
    events: watch::Sender<Vec<Event>>,
}

impl House {
    pub(crate) fn new(holes: Holes) -> House {
        House {
            holes,
            revoked: Mutex::default(),
            messages: watch::Sender::default(),
            arrived: watch::Sender::default(),
            released: watch::Sender::default(),
            events: watch::Sender::default(),
        }
    }

    pub(crate) fn revoke(&self, client: &str) {
        self.revoked.lock().unwrap().insert(client.into());
    }

    pub(crate) fn hold(&self) {
        self.released.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn messages(&self) -> Vec<Seen> {
        self.messages.borrow().clone()
    }

    pub(crate) async fn slow_arrived(&self) {
        self.arrived(1).await;
    }

    pub(crate) async fn arrived(&self, times: usize) {
        until(&self.arrived, |arrived| *arrived >= times).await;
    }

    pub(crate) async fn message(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let seen = until(&self.messages, |messages| messages.iter().any(&wanted)).await;
        seen.into_iter().find(|message| wanted(message)).unwrap()
    }

    pub(crate) async fn event(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let events = until(&self.events, |events| events.iter().any(&wanted)).await;
        events.into_iter().find(|event| wanted(event)).unwrap()
    }
}

async fn until<T: Clone>(value: &watch::Sender<T>, reached: impl Fn(&T) -> bool) -> T {
    let mut value = value.subscribe();
    let waiting = async { value.wait_for(|value| reached(value)).await.unwrap().clone() };
    tokio::time::timeout(DEADLINE, waiting).await.expect("reached before the deadline")
}

impl Policy for House {
    fn authenticate<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Result<(), Denied>> {
        Box::pin(async {
            if self.revoked.lock().unwrap().contains(&identity.name) {
                return Err(Denied { reason: "revoked".into() });
            }
            Ok(())
        })
    }

    fn may_publish(&self, client: &str, topic: &str, _retain: bool) -> bool {
        self.holes.publish
            || topic
                .strip_prefix("t/")
                .and_then(|rest| rest.strip_prefix(client))
                .is_some_and(|rest| rest.starts_with('/'))
    }

    fn may_subscribe(&self, client: &str, filter: &str) -> bool {
        self.holes.subscribe || client == "watcher" || filter.starts_with(&format!("t/{client}/"))
    }

    fn may_will(&self, client: &str, topic: &str, _retain: bool) -> bool {
        self.holes.will || topic == format!("t/{client}/status")
    }

    fn on_publish<'a>(&'a self, message: Publication<'a>) -> Answer<'a, Result<(), Rejected>> {
        Box::pin(async move {
            if message.topic.ends_with("/bad") {
                return Err(Rejected { reason: "does not decode".into(), passing: Passing::Never });
            }
            if message.topic.ends_with("/full") && !*self.released.borrow() {
                self.arrived.send_modify(|arrived| *arrived += 1);
                return Err(Rejected { reason: "the disk is full".into(), passing: Passing::Perhaps });
            }
            if message.topic.ends_with("/flood") && !*self.released.borrow() {
                self.arrived.send_modify(|arrived| *arrived += 1);
                return Err(Rejected { reason: "it sent too much".into(), passing: Passing::Surely });
            }
            if message.topic.ends_with("/slow") {
                self.arrived.send_modify(|arrived| *arrived += 1);
                self.released.subscribe().wait_for(|released| *released).await.unwrap();
            }
            let seen = Seen {
                client: message.client.into(),
                topic: message.topic.into(),
                payload: message.payload.to_vec(),
                retain: message.retain,
                will: message.will,
            };
            self.messages.send_modify(|messages| messages.push(seen));
            Ok(())
        })
    }

    fn on_connected(&self, connection: &Connection) {
        let event = Event::Connected(connection.number, connection.identity.name.clone());
        self.events.send_modify(|events| events.push(event));
    }

    fn on_disconnected(&self, connection: &Connection, end: End) {
        self.events.send_modify(|events| events.push(Event::Disconnected(connection.number, end)));
    }
}
