//! `state.db`, `state.copy` and `serving.json`.

use super::{Finding, Patient};
use crate::store;

const RESCUE: &str = "nothing is installed without floors: run `tern-agent rescue` and have the ticket signed that it asks \
                      for, or enrol the device again";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    if !matches!(patient.identity, Ok(Some(_))) {
        // Enrolment makes them.
        return Vec::new();
    }
    let (database, copy) = store::examine(&patient.config.state_dir);
    let serving = store::examine_serving(&patient.config.state_dir);
    let floors = database.is_ok() || copy.is_ok();
    vec![
        judge("state.db", &database, copy.is_ok()),
        judge("state.copy", &copy, database.is_ok()),
        judge_serving(&serving, floors),
    ]
}

fn judge_serving(serving: &Result<usize, String>, floors: bool) -> Finding {
    match serving {
        Ok(models) if floors => Finding::ok("serving.json", format!("whole, {models} models")),
        Ok(models) => Finding::warn("serving.json", format!("whole: {models} models are served from it"), RESCUE),
        Err(why) if floors => Finding::warn("serving.json", why, "restart the agent: it is made anew"),
        Err(why) => Finding::error("serving.json", format!("{why}: nothing is served"), RESCUE),
    }
}

fn judge(check: &'static str, record: &Result<u64, String>, other: bool) -> Finding {
    match record {
        Ok(sequence) => Finding::ok(check, format!("whole, change {sequence}")),
        Err(why) if other => Finding::warn(check, why, "restart the agent: it is restored from the other record"),
        Err(why) => Finding::error(check, why, RESCUE),
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

    #[test]
    fn what_serves_without_floors_is_said() {
        assert_eq!(judge_serving(&Ok(1), true).verdict, Verdict::Ok);
        assert_eq!(judge_serving(&Ok(1), false).verdict, Verdict::Warn);
        assert_eq!(judge_serving(&Err("x".into()), true).verdict, Verdict::Warn);
        assert_eq!(judge_serving(&Err("x".into()), false).verdict, Verdict::Error);
    }
}
