//! The running agent's sockets.

use std::os::unix::net::UnixStream;

use super::{Finding, Patient};

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some(page) = &patient.page else {
        let found = format!("no agent answers on {}", patient.config.control_socket().display());
        return vec![Finding::warn("agent", found, "start it: systemctl start tern-agent")];
    };
    let mut findings = vec![match &page.fault {
        None => Finding::ok("agent", format!("{} runs, pid {}", page.agent_version, page.pid)),
        Some(fault) => Finding::error("agent", fault, "nothing is installed until this is mended"),
    }];
    let path = &page.infer_socket;
    findings.push(match UnixStream::connect(path) {
        Ok(_) => Finding::ok("inference", format!("{} listens", path.display())),
        Err(error) => {
            let remedy = "restart the agent; see its log for why the socket went";
            Finding::error("inference", format!("{}: {error}", path.display()), remedy)
        }
    });
    if let (None, Some(cause)) = (page.worker.pid, &page.worker.last_death) {
        findings.push(Finding::error("worker", format!("down: {cause}"), "see the agent's log"));
    }
    findings
}
