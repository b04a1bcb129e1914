//! The one task that carries rollouts out: looks at the fleet, plans, acts, and looks again.
//!
//! It holds nothing that matters: killed at any line and started anew, it plans from what is recorded and goes on. It
//! wakes when somebody rings ([`Pulse`]), when a plan's time comes, and every [`ROUND`] while a rollout is open, for gates
//! have no bell. Demands leave by the same door as an operator's: the store signs, `devices::delivery` sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    ids::{DeviceId, Generation},
    topics::{FleetChannel, fleet_topic},
};

use super::{
    Phase, Plan, RolloutId, Tally, plan,
    pulse::{Figures, Watch},
};
use crate::{
    clock::{self, Moment},
    fleet::Fleet,
    forms::rollouts::RolloutRow,
    store::{Carried, Paging, RolloutRecord, SignState, Store, StoreError},
};

/// How often open rollouts are looked at when nobody rings.
const ROUND: Duration = Duration::from_secs(5);
/// The same when none is open: only a verb or a creation changes anything, and those ring.
const REST: Duration = Duration::from_secs(600);
/// The shortest pause between two rounds: a fleet that talks all the time is looked at ten times a second.
const BREATH: Duration = Duration::from_millis(100);
/// Actions that share a transaction: other writers wait for no more signatures than these.
const BATCH: usize = 64;
/// Most plans of one rollout in a round; what is left waits for the next.
const MOST_PLANS: usize = 64;
/// When an action that could not be done is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// Rollouts that keep their retained topic.
const SHOWN: usize = 100;
/// How long a rollout that is over is looked at for devices on their way back: each look reads the fleet, and who is not
/// back by then is lost.
const FOLLOWED: SignedDuration = SignedDuration::from_hours(24);

/// What looking after a rollout came to.
#[derive(Debug)]
pub(super) struct Attended {
    /// The rollout as it stands now.
    pub(super) record: RolloutRecord,
    /// Where its devices stand.
    pub(super) tally: Tally,
    /// When time alone changes its plan.
    pub(super) next: Option<Timestamp>,
    /// Devices of which something else is demanded now.
    pub(super) demanded: BTreeMap<DeviceId, Generation>,
}

/// Looks after all rollouts, for ever.
pub async fn run(fleet: Arc<Fleet>) {
    let mut watch = Watch::new(clock::now());
    let mut shown = Shown::default();
    loop {
        let began = Moment::now();
        let now = clock::now();
        if watch.jumped(now) {
            tracing::warn!("the clock has jumped: silence counts from now");
            fleet.pulse.hears_since(now);
        }
        let pause = match round(&fleet, &mut shown, now).await {
            Ok(None) => REST,
            Ok(Some(next)) => span(now, next).min(ROUND),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "rollouts were not looked after; trying again");
                ROUND
            }
        };
        // A large fleet takes long to look at: rounds leave the store most of its time.
        tokio::time::sleep(BREATH.max(began.elapsed() * 4)).await;
        fleet.pulse.rung(pause).await;
    }
}

fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Looks at every open rollout; says when time alone changes something, none where none is open.
async fn round(fleet: &Arc<Fleet>, shown: &mut Shown, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let open = fleet.store.open_rollouts().await.context("list open rollouts")?;
    let far = now.saturating_add(SignedDuration::try_from(ROUND)?).unwrap_or(Timestamp::MAX);
    let (mut next, mut devices) = ((!open.is_empty()).then_some(far), Tally::default());
    for id in shown.with(fleet, open).await {
        let attended = attend(&fleet.store, &fleet.signer(), &id, fleet.pulse.hearing_since(), now).await;
        let attended = match attended {
            Ok(Some(attended)) => attended,
            Ok(None) => continue,
            Err(error) => {
                // A record that cannot be read must not stop the rollouts after it.
                tracing::error!(rollout = %id, %error, "a rollout was not looked after; trying again");
                continue;
            }
        };
        for (device, generation) in attended.demanded.iter().filter(|(device, _)| fleet.is_connected(device)) {
            fleet.delivery.lags(device, *generation);
        }
        if attended.record.closed.is_none() {
            next = next.into_iter().chain(attended.next).min();
            devices.add(&attended.tally);
        }
        shown.show(fleet, &attended, now).await;
    }
    let phases = fleet.store.rollout_phases().await.context("count rollouts")?;
    fleet.pulse.leave(Figures { phases, devices });
    Ok(next)
}

/// Plans and acts until nothing is left to do for this rollout at this moment; none where there is no such rollout.
pub(super) async fn attend(
    store: &Store,
    sign: &SignState,
    id: &RolloutId,
    hearing_since: Timestamp,
    now: Timestamp,
) -> Result<Option<Attended>, StoreError> {
    let mut demanded = BTreeMap::new();
    let mut is_hindered = false;
    for _ in 0..MOST_PLANS {
        let Some((mut record, snapshot)) = store.rollout_snapshot(id.clone(), hearing_since).await? else {
            return Ok(None);
        };
        let plan = plan(&record.policy, &snapshot, now);
        let again = is_hindered.then(|| now.saturating_add(AGAIN).unwrap_or(Timestamp::MAX));
        if plan.actions.is_empty() || is_hindered || record.closed.is_some() {
            let is_over = matches!(record.state.phase, Phase::Aborted | Phase::Undone);
            if plan.actions.is_empty() && is_over && record.closed.is_none() {
                let closed = store.close_rollout(id.clone(), plan.revision, now).await?;
                record.closed = closed.then_some(now);
            }
            let next = again.or(plan.next);
            return Ok(Some(Attended { record, tally: plan.verdict.evidence.tally, next, demanded }));
        }
        is_hindered = carry_out(store, sign, id, plan, now, &mut demanded).await?;
    }
    tracing::warn!(rollout = %id, "more was to be done than one round does");
    let Some((record, snapshot)) = store.rollout_snapshot(id.clone(), hearing_since).await? else { return Ok(None) };
    let tally = plan(&record.policy, &snapshot, now).verdict.evidence.tally;
    Ok(Some(Attended { record, tally, next: Some(now), demanded }))
}

/// Carries a plan out; says whether something could not be done although nothing has moved.
async fn carry_out(
    store: &Store,
    sign: &SignState,
    id: &RolloutId,
    plan: Plan,
    now: Timestamp,
    demanded: &mut BTreeMap<DeviceId, Generation>,
) -> Result<bool, StoreError> {
    let mut is_hindered = false;
    for batch in plan.actions.chunks(BATCH) {
        let of = (id.clone(), plan.revision);
        let carried = store.carry_out(of, batch.to_vec(), plan.verdict.clone(), sign.clone(), now).await?;
        for carried in carried {
            match carried {
                Carried::Demanded(device, generation) => drop(demanded.insert(device, generation)),
                Carried::Recorded => {}
                Carried::Void | Carried::Failed => is_hindered = true,
            }
        }
    }
    Ok(is_hindered)
}

/// What was last published of each rollout.
#[derive(Default)]
struct Shown {
    last: BTreeMap<RolloutId, Vec<u8>>,
    has_begun: bool,
}

impl Shown {
    /// The rollouts to look at: the open ones, and those that were shown while they were open. The first time all that
    /// keep a topic, for the server may have ended between a change and its publication.
    async fn with(&mut self, fleet: &Fleet, open: Vec<RolloutId>) -> BTreeSet<RolloutId> {
        let mut ids: BTreeSet<_> = open.into_iter().chain(self.last.keys().cloned()).collect();
        if !std::mem::replace(&mut self.has_begun, true) {
            match fleet.store.rollouts(Paging { after: String::new(), limit: SHOWN }).await {
                Ok(newest) => ids.extend(newest.into_iter().map(|record| record.id)),
                // Those that are open go on all the same.
                Err(error) => tracing::error!(%error, "rollouts that are over are not published anew"),
            }
        }
        ids
    }

    async fn show(&mut self, fleet: &Fleet, attended: &Attended, now: Timestamp) {
        let record = &attended.record;
        let row = RolloutRow { devices: Some(attended.tally), ..RolloutRow::of(record) };
        let json = serde_json::to_vec(&row).unwrap_or_default();
        let last = self.last.get(&record.id);
        if last != Some(&json) {
            let is_new = last.is_none();
            let shown = match publish(fleet, record, json.clone(), is_new).await {
                Ok(()) => json,
                Err(error) => {
                    tracing::warn!(rollout = %record.id, error = format!("{error:#}"), "a rollout was not published");
                    // Nothing equals this: the next round tries again.
                    Vec::new()
                }
            };
            self.last.insert(record.id.clone(), shown);
        }
        if self.last.get(&record.id).is_some_and(|shown| !shown.is_empty()) && is_settled(attended, now) {
            self.last.remove(&record.id);
        }
    }
}

/// Whether nothing more is to be learned of a rollout.
fn is_settled(attended: &Attended, now: Timestamp) -> bool {
    let Some(closed) = attended.record.closed else { return false };
    attended.tally.outstanding == 0 || now.duration_since(closed) > FOLLOWED
}

async fn publish(fleet: &Fleet, record: &RolloutRecord, json: Vec<u8>, is_new: bool) -> anyhow::Result<()> {
    fleet.publish_retained(topic(fleet, &record.id), Some(json)).await?;
    // Topics of rollouts that nobody looks at any more are cleared one by one as new ones come.
    let oldest = record.number.saturating_sub(i64::try_from(SHOWN)?);
    if is_new
        && oldest > 0
        && let Err(error) = clear(fleet, oldest).await
    {
        tracing::warn!(number = oldest, error = format!("{error:#}"), "an old rollout's topic was not cleared");
    }
    Ok(())
}

/// Clears the topic of the rollout of this number.
async fn clear(fleet: &Fleet, number: i64) -> anyhow::Result<()> {
    for old in fleet.store.rollouts(Paging { after: (number + 1).to_string(), limit: 1 }).await? {
        fleet.publish_retained(topic(fleet, &old.id), None).await?;
    }
    Ok(())
}

fn topic(fleet: &Fleet, id: &RolloutId) -> String {
    fleet_topic(&fleet.settings.fleet, &FleetChannel::Rollout(id.as_str().to_owned()))
}
