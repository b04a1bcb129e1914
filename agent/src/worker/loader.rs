//! Loads versions on a thread of its own, so that serving and heartbeats go on meanwhile.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
};

use tern_engine::{Data, Tensor};
use tern_protocol::{
    frames::{FromWorker, Slot},
    refusal::RefusalCode,
};

use super::{service::Service, slots::Loaded, values};
use crate::{
    admit::{Admitted, Refused, admit},
    clock::Moment,
};

/// Loads that may wait; control asks for one after the other.
const WAITING: usize = 16;
/// Runs before a version counts as warm.
const WARM_RUNS: usize = 3;

/// A version to load, as control hands it over.
pub(super) struct Load {
    pub(super) slot: Slot,
    pub(super) manifest: Vec<u8>,
    pub(super) reference: Vec<u8>,
    pub(super) model: File,
}

pub(super) struct Loader {
    loads: SyncSender<Load>,
    service: Arc<Service>,
}

impl Loader {
    pub(super) fn start(service: Arc<Service>) -> std::io::Result<Self> {
        let (loads, queue) = sync_channel::<Load>(WAITING);
        let serving = Arc::clone(&service);
        let work = move || {
            while let Ok(load) = queue.recv() {
                let slot = load.slot;
                // The version is built inside and handed over whole, so a panic leaves nothing half-made.
                let outcome = catch_unwind(AssertUnwindSafe(|| one(&serving, load)));
                let refused = |code, message: &str| Err(Refused::new(code, message));
                let outcome = outcome.unwrap_or_else(|_| refused(RefusalCode::LoadFailed, "loading panicked"));
                serving.uplink.offer(match outcome {
                    Ok(load_ms) => FromWorker::Loaded { slot, load_ms },
                    Err(Refused { code, message }) => FromWorker::LoadFailed { slot, code, message },
                });
            }
        };
        std::thread::Builder::new().name("loader".into()).spawn(work)?;
        Ok(Self { loads, service })
    }

    /// Queues a load; a full queue refuses it.
    pub(super) fn load(&self, load: Load) {
        let slot = load.slot;
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.loads.try_send(load) {
            let message = "too many versions wait to be loaded".to_owned();
            self.service.uplink.offer(FromWorker::LoadFailed { slot, code: RefusalCode::LoadFailed, message });
        }
    }
}

fn one(service: &Service, load: Load) -> Result<u64, Refused> {
    let start = Moment::now();
    let Admitted { manifest, model, profile } = admit(&load.manifest, &load.reference, &load.model)?;
    if let Some(inputs) = zeros(&manifest.contract.inputs) {
        for _ in 0..WARM_RUNS {
            // An answer to zeros is no evidence for or against the model; the probe has judged that.
            let _ = model.run(&inputs);
        }
    }
    service.slots.insert(Loaded::new(load.slot, manifest, model, profile.as_ref()));
    Ok(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// One row of zeros.
fn zeros(contract: &[tern_protocol::contract::TensorContract]) -> Option<Vec<Tensor>> {
    let one = |tensor: &tern_protocol::contract::TensorContract| {
        let shape: Vec<usize> = tensor.shape.iter().map(|d| usize::try_from(*d).unwrap_or(1)).collect();
        let total = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let dtype: tern_engine::DType = tensor.datatype.name().parse().ok()?;
        let data: Data = values::zeros(dtype, total)?;
        Tensor::new(shape, data).ok()
    };
    contract.iter().map(one).collect()
}
