//! What the kernel lacks of the worker's sandbox, in the running worker's own words.

use super::{Finding, Patient};

pub(super) fn check(patient: &Patient) -> Finding {
    let Some(page) = patient.page.as_ref().filter(|p| p.worker.pid.is_some()) else {
        return Finding::warn("sandbox", "not known while no worker runs", "start the agent and ask again");
    };
    if page.worker.lacking.is_empty() {
        return Finding::ok("sandbox", "whole");
    }
    let remedy = "use a kernel of 5.13 or newer with Landlock and seccomp switched on";
    Finding::warn("sandbox", format!("lacks {}", page.worker.lacking.join("; ")), remedy)
}
