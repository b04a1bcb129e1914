//! From a desired state's bytes to demands: admitted, made durable, and only then handed to the machines.

use std::collections::BTreeMap;

use bytes::Bytes;
use tern_protocol::{
    desired::{self, Admission, Admitted, DesiredModel, DesiredRefusal, DesiredState},
    ids::{Generation, ModelName},
    keys::KeyId,
    refusal::RefusalCode,
    signed::{self, SignatureError},
    twin::LastError,
};
use tokio::sync::mpsc;

use super::{Control, Event};
use crate::{
    install::{self, Machine, Refusal},
    state::DesiredRecord,
    store::StoreError,
    telemetry::change,
};

impl Control {
    /// Takes in what came on `desired`. `again` says that the director's keys were refreshed because of it.
    pub(super) async fn desired(&mut self, bytes: Bytes, again: bool) {
        if self.note_unreadable().await {
            // Without its floors nothing that comes can be told from what is old.
            return self.publish_twin();
        }
        let director = self.installer.trust.director();
        let admission = Admission {
            device: &self.enrolment.device,
            fleet: &self.enrolment.fleet,
            director: &director,
            floor: self.store.read(|s| s.generation_floor(&director)),
            now: self.clock.now(),
        };
        match desired::admit(&bytes, &admission) {
            Ok(Admitted::New { state, .. }) if !self.sparing.is_taken(&bytes, self.started.elapsed()) => {
                tracing::warn!(generation = %state.generation, "desired states come too fast: this one waits");
            }
            Ok(Admitted::New { state, floor }) => {
                let record = DesiredRecord {
                    generation: floor.generation,
                    digest: tern_protocol::digest::Digest::of(&bytes),
                    envelope: String::from_utf8_lossy(&bytes).into_owned(),
                };
                let signers = state.signers().to_vec();
                self.take_over(state.into_inner(), record, signers).await;
            }
            Ok(Admitted::Same(state)) => {
                tracing::debug!(generation = %state.generation, "this desired state was taken over before");
                self.apply(state.into_inner()).await;
            }
            Err(DesiredRefusal::Signature(SignatureError::UnderThreshold { .. })) if !again => {
                // Root may have changed the director's keys since the last refresh. One at a time: a server that floods
                // must not grow this process, and an honest one sends again while the twin lags.
                if !std::mem::replace(&mut self.readmitting, true) {
                    self.refresh_for(bytes);
                }
            }
            Err(refusal) => self.refuse_desired(&refusal).await,
        }
        self.publish_twin();
    }

    /// Takes in the state that was held back, once its time has come.
    pub(super) async fn take_held(&mut self) {
        if let Some(bytes) = self.sparing.release(self.started.elapsed()) {
            self.desired(bytes, false).await;
        }
    }

    async fn take_over(&mut self, state: DesiredState, record: DesiredRecord, signers: Vec<KeyId>) {
        let issued = state.issued;
        let written = self
            .store
            .update(move |s| {
                s.take_desired(record, &signers, issued);
                s.last_error = None;
            })
            .await;
        if let Err(fault) = written {
            let refusal = Refusal::new(RefusalCode::FloorUnreadable, fault);
            return self.note(refusal, state.generation).await;
        }
        self.installer.trust.tell_time();
        self.last_error = None;
        tracing::info!(generation = %state.generation, models = state.models.len(), "desired state taken over");
        self.apply(state).await;
    }

    /// Hands the demands to the machines that do not have them: first what goes, for a model's name is unique on a device
    /// without its team.
    pub(super) async fn apply(&mut self, state: DesiredState) {
        let generation = state.generation;
        self.set_telemetry(state.settings);
        self.forget_gone(&state).await;
        let (gone, wanted) = missing(&self.machines, state, self.config.least_probation_seconds);
        for name in gone {
            self.step(&name, install::Event::Demand(None, generation)).await;
        }
        for demand in wanted {
            let name = demand.model.clone();
            let now = self.clock.now();
            let is_new = !self.machines.contains_key(&name);
            let worker = self.worker.is_up();
            let standing = self.store.read(|s| s.standing(&name));
            self.machines.entry(name.clone()).or_insert_with(|| Machine::new(standing, now));
            if is_new && worker {
                self.step(&name, install::Event::WorkerUp).await;
            }
            self.step(&name, install::Event::Demand(Some(demand), generation)).await;
        }
        self.ask_standings();
    }

    /// Forgets models that were gone before this state and that it does not name: whoever demands others each time must
    /// not fill the disk with records of them.
    async fn forget_gone(&mut self, state: &DesiredState) {
        let gone = forgettable(&self.machines, state);
        if gone.is_empty() {
            return;
        }
        let names = gone.clone();
        let written = self.store.update(move |s| names.iter().for_each(|name| drop(s.models.remove(name)))).await;
        if let Err(fault) = written {
            return tracing::warn!(%fault, "models that are gone are not forgotten");
        }
        for name in gone {
            self.machines.remove(&name);
            self.tallies.remove(&name);
        }
    }

    /// Applies the recorded desired state once more: the power may have gone between its record and the machines'.
    pub(super) async fn reapply(&mut self) {
        let Some(record) = self.store.read(|s| s.desired.clone()) else { return };
        match signed::verify::<DesiredState>(record.envelope.as_bytes(), &self.installer.trust.director()) {
            Ok(state) => self.apply(state.into_inner()).await,
            // The director's keys changed meanwhile: a newer state will come.
            Err(error) => tracing::warn!(%error, "the recorded desired state is not applied again"),
        }
    }

    fn refresh_for(&mut self, bytes: Bytes) {
        let (installer, events) = (self.installer.clone(), self.events_in.clone());
        let refresh = async move { installer.trust.refresh().await.map(drop) };
        tokio::spawn(readmit_after(refresh, bytes, events));
    }

    async fn refuse_desired(&mut self, refusal: &DesiredRefusal) {
        let code = match refusal {
            DesiredRefusal::Signature(SignatureError::UnderThreshold { .. } | SignatureError::DuplicateKey(_)) => {
                RefusalCode::Signature
            }
            DesiredRefusal::Signature(_) | DesiredRefusal::BadModelList => RefusalCode::Malformed,
            // A device without its floors knows no time either; that is what to say, not that the server's is wrong.
            DesiredRefusal::ImplausibleTime { .. } if self.store.fault().is_some() => RefusalCode::FloorUnreadable,
            DesiredRefusal::ImplausibleTime { .. } => RefusalCode::Malformed,
            DesiredRefusal::UnknownFormat(_) => RefusalCode::UnknownFormat,
            DesiredRefusal::WrongDevice { .. } => RefusalCode::WrongDevice,
            DesiredRefusal::WrongFleet { .. } => RefusalCode::WrongFleet,
            DesiredRefusal::OldGeneration { .. } => RefusalCode::OldGeneration,
            DesiredRefusal::Equivocation(_) => RefusalCode::Equivocation,
            DesiredRefusal::Expired { .. } => RefusalCode::Expired,
        };
        let generation = match refusal {
            DesiredRefusal::OldGeneration { offered, .. } => *offered,
            DesiredRefusal::Equivocation(generation) => *generation,
            _ => Generation(0),
        };
        self.note(Refusal::new(code, refusal), generation).await;
    }

    /// Says that the floors cannot be read, where that is so.
    pub(super) async fn note_unreadable(&mut self) -> bool {
        let Some(fault @ StoreError::Unreadable(_)) = self.store.fault() else { return false };
        self.note(Refusal::new(RefusalCode::FloorUnreadable, fault), Generation(0)).await;
        true
    }

    /// Remembers a refusal that concerns no single model.
    pub(super) async fn note(&mut self, refusal: Refusal, generation: Generation) {
        tracing::warn!(code = %refusal.code, %refusal, "a desired state was refused");
        *self.refusals.entry(refusal.code).or_default() += 1;
        let known = self.last_error.as_ref().filter(|e| e.code == refusal.code && e.generation == generation);
        let (count, again) = (known.map_or(0, |e| e.count) + 1, known.is_some());
        let Refusal { code, message } = refusal;
        let error = LastError { code, message, version: None, generation, at: self.clock.now(), count };
        self.last_error = Some(error.clone());
        self.tell(change::refused(None, &error));
        // Whoever sends bad states must not wear out the flash with them, be they the same or others.
        let is_due = !again && self.sparing.is_noted(code, self.started.elapsed());
        if is_due && let Err(fault) = self.store.update(|s| s.last_error = Some(error)).await {
            tracing::warn!(%fault, "the refusal is not recorded");
        }
    }
}

/// Sends a desired state back to the loop once the refresh has ended, however it ends: until then no other is taken up.
async fn readmit_after<E: std::fmt::Display + Send + 'static>(
    refresh: impl Future<Output = Result<(), E>> + Send + 'static,
    bytes: Bytes,
    events: mpsc::Sender<Event>,
) {
    match tokio::spawn(refresh).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "metadata could not be refreshed for a desired state of unknown signature");
        }
        Err(error) => tracing::error!(%error, "refreshing metadata for a desired state panicked"),
    }
    // Control is gone where nobody takes it.
    let _ = events.send(Event::Readmit(bytes)).await;
}

/// The models that are gone and done with, and that the state does not name.
fn forgettable(machines: &BTreeMap<ModelName, Machine>, state: &DesiredState) -> Vec<ModelName> {
    let is_named = |name: &ModelName| state.models.iter().any(|d| d.model == *name);
    machines.iter().filter(|(name, m)| m.is_over() && !is_named(name)).map(|(name, _)| name.clone()).collect()
}

/// What of a desired state the machines do not have yet: models that go, and demands. Probations are brought within bounds.
fn missing(
    machines: &BTreeMap<ModelName, Machine>,
    state: DesiredState,
    least_probation: u64,
) -> (Vec<ModelName>, Vec<DesiredModel>) {
    let (mut models, generation) = (state.models, state.generation);
    models.iter_mut().for_each(|model| model.probation = model.probation.bounded(least_probation));
    let is_gone = |m: &Machine| m.record().desired.is_none() && m.record().active.is_none();
    let gone = machines.iter().filter(|(name, m)| !is_gone(m) && !models.iter().any(|d| d.model == **name));
    let gone = gone.map(|(name, _)| name.clone()).collect();
    let has =
        |m: &Machine, d: &DesiredModel| m.record().generation == generation && m.record().desired.as_ref() == Some(d);
    let lacks = |d: &DesiredModel| machines.get(&d.model).is_none_or(|m| !has(m, d));
    (gone, models.into_iter().filter(lacks).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tern_protocol::{
        desired::{Probation, Settings},
        digest::Digest,
    };

    use super::*;
    use crate::state::ModelRecord;

    fn demand(model: &str) -> DesiredModel {
        let (manifest, version) = (Digest::of(model.as_bytes()), "1.0.0".parse().unwrap());
        let model = model.parse().unwrap();
        let (swap, probation) = Default::default();
        DesiredModel { model, version, manifest, swap, probation, candidate: false }
    }

    fn machine(desired: DesiredModel, generation: u64) -> (ModelName, Machine) {
        let (name, agent) = (desired.model.clone(), "0.1.0".parse().unwrap());
        let record = ModelRecord {
            desired: Some(desired),
            generation: Generation(generation),
            state: tern_protocol::twin::ModelState::Fetching,
            ..ModelRecord::new(Timestamp::UNIX_EPOCH)
        };
        let (uptime, time) = (std::time::Duration::ZERO, Timestamp::UNIX_EPOCH);
        let mut cx = install::Context { uptime, time, agent: &agent, candidates: false, numbers: &mut 0 };
        (name, Machine::boot(record, Default::default(), &mut cx).unwrap().0)
    }

    /// The power may go after the desired state's record and before that of any of its models.
    #[test]
    fn what_a_power_cut_kept_from_the_machines_is_applied_again_and_nothing_else() {
        let state = state(["a/known", "a/late", "a/new"].map(demand).into());
        let machines = [(demand("a/known"), 2), (demand("a/late"), 1), (demand("a/gone"), 1)];
        let machines = machines.into_iter().map(|(d, generation)| machine(d, generation)).collect();
        let (gone, wanted) = missing(&machines, state, 1);
        assert_eq!(gone, ["a/gone".parse().unwrap()]);
        assert_eq!(wanted, [demand("a/late"), demand("a/new")]);
    }

    fn state(models: Vec<DesiredModel>) -> DesiredState {
        DesiredState {
            format: desired::FORMAT,
            fleet: "f".parse().unwrap(),
            device: "d".parse().unwrap(),
            generation: Generation(2),
            issued: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            models,
            settings: Settings::default(),
        }
    }

    #[test]
    fn whoever_holds_the_director_sets_no_probation_that_is_none_or_never_ends() {
        let seconds = |min_seconds| {
            let probation = Probation { min_inferences: u64::MAX, min_seconds };
            let (_, wanted) = missing(&BTreeMap::new(), state(vec![DesiredModel { probation, ..demand("a/m") }]), 60);
            (wanted[0].probation.min_inferences, wanted[0].probation.min_seconds)
        };
        assert_eq!(seconds(0), (Probation::MOST_INFERENCES, 60));
        assert_eq!(seconds(10 * 365 * 86_400), (Probation::MOST_INFERENCES, Probation::MOST_SECONDS));
    }

    #[test]
    fn a_model_is_forgotten_once_it_is_gone_and_named_no_more() {
        let mut machines: BTreeMap<_, _> = ["a/there", "a/back", "a/gone"].map(|name| machine(demand(name), 1)).into();
        let agent = "0.1.0".parse().unwrap();
        let time = Timestamp::UNIX_EPOCH;
        for name in ["a/back", "a/gone"] {
            let mut cx =
                install::Context { uptime: Duration::ZERO, time, agent: &agent, candidates: false, numbers: &mut 9 };
            let machine = machines.get_mut(&name.parse().unwrap()).unwrap();
            machine.on(install::Event::Demand(None, Generation(2)), &mut cx);
        }
        let gone = forgettable(&machines, &state([demand("a/there"), demand("a/back")].into()));
        assert_eq!(gone, ["a/gone".parse().unwrap()]);
        assert_eq!(forgettable(&machines, &state(vec![])), ["a/back", "a/gone"].map(|name| name.parse().unwrap()));
    }

    #[tokio::test]
    async fn a_refresh_that_panics_keeps_no_desired_state_out() {
        let (sender, mut events) = mpsc::channel(1);
        let panics = async { if true { panic!("as a bug would") } else { Ok::<(), String>(()) } };
        readmit_after(panics, Bytes::from_static(b"state"), sender).await;
        assert!(matches!(events.recv().await, Some(Event::Readmit(bytes)) if bytes == "state"));
    }
}
