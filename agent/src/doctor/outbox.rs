//! `outbox.db`: its loss costs statistics only, so nothing here is an error.

use super::{Finding, Patient};
use crate::outbox;

pub(super) fn check(patient: &Patient) -> Option<Finding> {
    if !matches!(patient.identity, Ok(Some(_))) {
        return None;
    }
    if let Some(fault) = patient.page.as_ref().and_then(|page| page.outbox.fault.clone()) {
        return Some(judge(Err(fault)));
    }
    Some(judge(outbox::examine(&patient.config.state_dir)))
}

fn judge(outbox: Result<Option<(u64, u64)>, String>) -> Finding {
    match outbox {
        Ok(Some((rows, bytes))) => {
            Finding::ok("outbox.db", format!("whole, {rows} rows to be covered, {} KiB", bytes >> 10))
        }
        Ok(None) => Finding::ok("outbox.db", "not there yet"),
        Err(why) => {
            let remedy =
                "restart the agent: a damaged outbox is set aside and another begun; what was not sent is lost";
            Finding::warn("outbox.db", why, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_damaged_outbox_warns_and_a_missing_one_does_not() {
        assert_eq!(judge(Ok(Some((3, 4096)))).verdict, Verdict::Ok);
        assert_eq!(judge(Ok(None)).verdict, Verdict::Ok);
        assert_eq!(judge(Err("x".into())).verdict, Verdict::Warn);
    }
}
