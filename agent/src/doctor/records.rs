//! `state.db` and `state.copy`.

use super::{Finding, Patient};
use crate::store;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    if !matches!(patient.identity, Ok(Some(_))) {
        // Enrolment makes them.
        return Vec::new();
    }
    let (database, copy) = store::examine(&patient.config.state_dir);
    vec![judge("state.db", &database, copy.is_ok()), judge("state.copy", &copy, database.is_ok())]
}

fn judge(check: &'static str, record: &Result<u64, String>, other: bool) -> Finding {
    match record {
        Ok(sequence) => Finding::ok(check, format!("whole, change {sequence}")),
        Err(why) if other => Finding::warn(check, why, "restart the agent: it is restored from the other record"),
        Err(why) => Finding::error(check, why, "enrol the device again: nothing is installed without floors"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn one_bad_record_warns_and_two_are_an_error() {
        assert_eq!(judge("state.db", &Ok(3), true).verdict, Verdict::Ok);
        assert_eq!(judge("state.db", &Err("x".into()), true).verdict, Verdict::Warn);
        assert_eq!(judge("state.db", &Err("x".into()), false).verdict, Verdict::Error);
    }
}
