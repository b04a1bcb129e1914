//! What a team took back while the device was online stays back on a device that is not.

use serde_json::json;
use tern_protocol::{
    standing::{OnRecall, Standing},
    twin::ModelState,
};

use crate::device::Device;

fn recalled(versions: &[&str], on_recall: OnRecall) -> Standing {
    let recalled = versions.iter().map(|v| (v.parse().unwrap(), "wrong labels".to_owned())).collect();
    Standing { recalled, on_recall, ..Standing::default() }
}

#[test]
fn a_start_without_the_network_falls_back_to_the_allowed_version_on_the_disk() {
    let device = Device::new(ModelState::Committed, "1.0.1", Some("1.0.0"));
    device.heard(&recalled(&["1.0.1"], OnRecall::Fallback));
    for _ in 0..2 {
        let mut agent = device.start();
        assert_eq!(agent.answers(), "1.0.0");
        let model = agent.status()["twin"]["models"][0].clone();
        assert_eq!((&model["state"], &model["last_error"]["code"]), (&json!("rolled-back"), &json!("recalled")));
        assert!(agent.leave().success());
    }
}

#[test]
fn without_one_or_by_policy_the_model_is_stopped_and_says_so() {
    for (previous, versions, policy) in [
        (None, &["1.0.1"][..], OnRecall::Fallback),
        (Some("1.0.0"), &["1.0.0", "1.0.1"], OnRecall::Fallback),
        (Some("1.0.0"), &["1.0.1"], OnRecall::Stop),
    ] {
        let device = Device::new(ModelState::Committed, "1.0.1", previous);
        device.heard(&recalled(versions, policy));
        for _ in 0..2 {
            let agent = device.start();
            let said = agent.await_status(503)["error"].as_str().unwrap().to_owned();
            assert!(said.contains("`meter-digits` is stopped: version 1.0.1 was recalled by its team: wrong labels"));
            let model = agent.status()["twin"]["models"][0].clone();
            assert_eq!((&model["state"], &model["version"]), (&json!("stopped"), &json!(null)));
            assert_eq!(model["last_error"]["code"], "recalled");
            assert!(agent.leave().success());
        }
    }
}
