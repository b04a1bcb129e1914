//! `tern-agent run` as a real process on a device whose server is never there: what it serves from its own disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../worker/client.rs"]
#[expect(dead_code, reason = "shared with the tests of the worker, which need more of it")]
mod client;
mod device;
#[path = "../worker/fitting.rs"]
mod fitting;
#[path = "../worker/fixture.rs"]
#[expect(dead_code, reason = "shared with the tests of the worker, which need more of it")]
mod fixture;
mod lost;
mod recall;

use std::process::Command;

use device::Device;
use serde_json::json;
use tern_protocol::twin::ModelState;

#[test]
fn it_serves_its_commit_record_without_any_network_and_leaves_cleanly() {
    let device = Device::new(ModelState::Committed, "1.0.1", Some("1.0.0"));
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.1");
    let page = agent.status();
    assert_eq!(page["twin"]["models"][0]["state"], "committed");
    assert_eq!((&page["link"]["connected"], &page["fault"]), (&json!(false), &json!(null)));
    assert!(page["worker"]["pid"].as_u64().is_some());
    let second = Command::new(&device.program).args(["run", "--config"]).arg(&device.config).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8(second.stderr).unwrap().contains("another tern-agent"));
    assert!(agent.leave().success());
    assert!(!device.socket().exists(), "no socket is left");
}

#[test]
fn a_killed_worker_and_a_killed_agent_come_back_with_the_same_version() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
    agent.kill_worker();
    assert_eq!(agent.answers(), "1.0.0");
    assert_eq!(agent.status()["twin"]["models"][0]["state"], "committed");
    agent.kill();
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
}

#[test]
fn what_is_counted_survives_a_cut_and_a_clean_leave_counts_all() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    let mut agent = device.start();
    for _ in 0..20 {
        agent.answers();
    }
    agent.await_counted(20);
    agent.kill();
    let mut agent = device.start();
    agent.await_counted(20);
    agent.answers();
    agent.kill_worker();
    for _ in 0..4 {
        agent.answers();
    }
    assert!(agent.leave().success());
    let agent = device.start();
    let counted = agent.status()["outbox"]["counted"]["demo/meter-digits@1.0.0"]["rows"].as_u64().unwrap();
    assert!((24..=25).contains(&counted), "killing the worker loses a second at most: {counted}");
    let outbox = &agent.status()["outbox"];
    // The windows of two starts, and that the worker was started again; nobody has taken them.
    assert_eq!((&outbox["waiting"], &outbox["sequence"]), (&json!(3), &json!(0)), "{outbox}");
}

#[test]
fn a_damaged_outbox_costs_statistics_and_nothing_else() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    let mut agent = device.start();
    agent.answers();
    agent.await_counted(1);
    let stream = agent.status()["outbox"]["stream"].clone();
    // A clean leave puts the journal back into the file: out of a journal SQLite would restore it whole.
    assert!(agent.leave().success());
    device.damage("outbox.db");
    let mut agent = device.start();
    assert_eq!((agent.answers().as_str(), &agent.status()["fault"]), ("1.0.0", &json!(null)));
    let page = agent.status();
    assert!(page["outbox"]["stream"] != stream && page["outbox"]["fault"] == json!(null), "{page}");
}

#[test]
fn a_worker_killed_on_probation_takes_the_version_back_without_the_network() {
    let device = Device::new(ModelState::OnProbation, "1.0.1", Some("1.0.0"));
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.1");
    agent.kill_worker();
    agent.await_version("1.0.0");
    let page = agent.status();
    assert_eq!(page["twin"]["models"][0]["state"], "rolled-back");
    assert_eq!(page["twin"]["models"][0]["last_error"]["code"], "probation-failed");
    agent.kill();
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
}

#[test]
fn a_version_that_rotted_gives_way_to_the_one_before() {
    let device = Device::new(ModelState::Committed, "1.0.1", Some("1.0.0"));
    device.rot("1.0.1");
    let mut agent = device.start();
    agent.await_version("1.0.0");
}

#[test]
fn status_and_doctor_speak_to_people_and_programs() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    let run = |words: &[&str]| {
        Command::new(&device.program).args(words).arg("--config").arg(&device.config).output().unwrap()
    };
    let silent = run(&["status"]);
    assert!(String::from_utf8(silent.stderr).unwrap().contains("is it running?"));
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
    let page = String::from_utf8(run(&["status"]).stdout).unwrap();
    assert!(page.contains("demo/meter-digits") && page.contains("answers 1.0.0"), "{page}");
    let doctor = run(&["doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let errors: Vec<_> = findings.iter().filter(|f| f["verdict"] == "error").collect();
    assert!(doctor.status.success() && errors.is_empty(), "{errors:?}");
    assert!(findings.iter().any(|f| f["check"] == "server" && f["verdict"] == "warn"), "{findings:?}");
}
