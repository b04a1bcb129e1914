//! Flags or a file become the terms of a rollout.

use anyhow::Context;

use super::args::{Create, Terms};
use crate::{
    disk,
    rollout::{Advance, Policy, Share, Stage},
};

/// Largest file of terms, in bytes.
const MAX_BYTES: u64 = 256 << 10;

/// The terms that the order names.
pub(super) fn policy(order: &Create) -> anyhow::Result<Policy> {
    let Some(path) = &order.policy else { return Ok(of_flags(&order.terms)) };
    let read = || -> anyhow::Result<Policy> {
        let bytes = disk::read(path, MAX_BYTES)?.context("it is not there")?;
        Ok(toml::from_str(std::str::from_utf8(&bytes)?)?)
    };
    read().with_context(|| format!("terms in {}", path.display()))
}

fn of_flags(terms: &Terms) -> Policy {
    let mut sizes: Vec<Share> = terms.canary.into_iter().chain(terms.then.iter().copied()).collect();
    if sizes.last() != Some(&Share::ALL) {
        sizes.push(Share::ALL);
    }
    let last = sizes.len() - 1;
    let mut policy = Policy::of(sizes.into_iter().map(Stage::of).collect());
    for (n, stage) in policy.stages.iter_mut().enumerate() {
        if n < last {
            stage.bake_seconds = terms.bake.map_or(0, |bake| bake.as_secs());
            stage.advance = if terms.by_hand { Advance::ByHand } else { Advance::Auto };
        }
        let probation = &mut stage.probation;
        probation.min_inferences = terms.probation_inferences.unwrap_or(probation.min_inferences);
        probation.min_seconds = terms.probation_seconds.unwrap_or(probation.min_seconds);
    }
    policy.silence_seconds = terms.silence.map_or(policy.silence_seconds, |silence| silence.as_secs());
    policy.max_unavailable = terms.max_unavailable.unwrap_or(policy.max_unavailable);
    policy.failures.most = terms.failures.unwrap_or(policy.failures.most);
    policy.control.size = terms.control.unwrap_or(policy.control.size);
    policy.approvals = terms.approvals.unwrap_or(policy.approvals);
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_the_same_as_a_file() {
        let terms = Terms {
            canary: Some(Share::Count(2)),
            bake: Some(std::time::Duration::from_secs(600)),
            by_hand: true,
            probation_seconds: Some(5),
            failures: Some(Share::Count(0)),
            ..Terms::default()
        };
        let file = "
            failures = { most = 0 }
            [[stages]]
            size = 2
            bake_seconds = 600
            advance = \"by-hand\"
            probation = { min_inferences = 100, min_seconds = 5 }
            [[stages]]
            size = \"100%\"
            probation = { min_inferences = 100, min_seconds = 5 }";
        assert_eq!(of_flags(&terms), toml::from_str(file).unwrap());
        let three = Terms { then: vec!["50%".parse().unwrap(), Share::ALL], ..terms };
        assert_eq!(of_flags(&three).stages.len(), 3);
    }

    #[test]
    fn the_example_shows_every_key_with_its_true_default() {
        let text = include_str!("../../../../examples/deploy/rollout.toml");
        let shown: Policy = toml::from_str(text).unwrap();
        shown.check(&"1.1.0".parse().unwrap()).unwrap();
        let sizes: Vec<_> = shown.stages.iter().map(|stage| Stage::of(stage.size)).collect();
        assert_eq!(shown, Policy::of(sizes), "what stands in the example and is no size is a default");
        // Members that are none or empty by default stand there as comments.
        let switched: String = text
            .lines()
            .map(|line| {
                format!(
                    "{}\n",
                    line.strip_prefix('#').filter(|l| l.contains(" = ") && !l.starts_with(' ')).unwrap_or(line)
                )
            })
            .collect();
        let full: Policy = toml::from_str(&switched).unwrap();
        full.check(&"1.1.0".parse().unwrap()).unwrap();
        let mut keys = Vec::new();
        collect(&serde_json::to_value(&full).unwrap(), &mut keys);
        let missing: Vec<_> = keys
            .iter()
            .filter(|key| !text.contains(&format!("{key} = ")) && !text.contains(&format!("[{key}]")))
            .collect();
        assert!(missing.is_empty(), "examples/deploy/rollout.toml must show {missing:?}");
        assert!(full.failures.early.is_some() && full.hold.lost.is_some() && !full.windows.is_empty());
    }

    fn collect(value: &serde_json::Value, keys: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(members) => {
                for (key, member) in members {
                    keys.push(key.clone());
                    collect(member, keys);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, keys)),
            _ => {}
        }
    }
}
