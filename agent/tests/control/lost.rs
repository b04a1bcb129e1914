//! A device that can read neither of its records: what it serves, what it refuses, and how it is rescued.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tern_agent::{clock::machine_time, rescue::Answer, state::State, store::Store};
use tern_protocol::{
    ids::Generation,
    keys::KeySet,
    rescue::{FLOORED, FORMAT, RescueTicket},
    signed,
    twin::ModelState,
};

use crate::{device::Device, fixture::put};

fn lose(device: &Device) {
    device.damage("state.db");
    device.damage("state.copy");
}

fn findings(device: &Device) -> Vec<Value> {
    serde_json::from_slice(&device.command(&["doctor", "--json"]).stdout).unwrap()
}

fn verdict(findings: &[Value], check: &str) -> String {
    findings.iter().find(|f| f["check"] == check).unwrap()["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn with_one_record_damaged_nothing_is_lost() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    device.damage("state.db");
    let mut agent = device.start();
    assert_eq!((agent.answers().as_str(), &agent.status()["fault"]), ("1.0.0", &json!(null)));
}

#[test]
fn with_both_damaged_it_serves_what_it_served_and_says_what_is_wrong() {
    // The version before is the newer one, and not what was served.
    let device = Device::new(ModelState::Committed, "1.0.0", Some("1.0.1"));
    lose(&device);
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
    let page = agent.status();
    assert!(page["fault"].as_str().unwrap().contains("`tern-agent rescue`"), "{page}");
    assert_eq!(page["twin"]["last_error"]["code"], "floor-unreadable");
    assert_eq!((&page["twin"]["generation"], &page["twin"]["models"][0]["version"]), (&json!(0), &json!("1.0.0")));
    let findings = findings(&device);
    let verdicts = ["state.db", "state.copy", "serving.json"].map(|check| verdict(&findings, check));
    assert_eq!(verdicts, ["error", "error", "warn"]);
    let status = String::from_utf8(device.command(&["status"]).stdout).unwrap();
    assert!(status.contains("installs    neither state.db nor state.copy can be read"), "{status}");
}

#[test]
fn with_all_three_damaged_it_serves_nothing_and_says_so() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    lose(&device);
    device.damage("serving.json");
    let agent = device.start();
    agent.await_status(404);
    let page = agent.status();
    assert_eq!(
        (&page["twin"]["models"], &page["twin"]["last_error"]["code"]),
        (&json!([]), &json!("floor-unreadable"))
    );
    let findings = findings(&device);
    assert_eq!(verdict(&findings, "serving.json"), "error");
    let said = findings.iter().find(|f| f["check"] == "serving.json").unwrap()["found"].as_str().unwrap();
    assert!(said.contains("nothing is served"), "{said}");
}

fn rescue(device: &Device, words: &[&str]) -> Result<Answer, String> {
    let all: Vec<&str> = ["rescue", "--json"].iter().chain(words).copied().collect();
    let output = device.command(&all);
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// A ticket file for what the device asks now.
fn ticket(device: &Device) -> String {
    let Ok(Answer::Asked(asked)) = rescue(device, &[]) else { panic!("it asks") };
    let issued = machine_time();
    let ticket = RescueTicket {
        format: FORMAT,
        fleet: asked.fleet,
        device: asked.device,
        nonce: asked.nonce,
        issued,
        expires: issued + SignedDuration::from_hours(1),
        generation: Generation(9),
        roles: FLOORED.map(|role| (role.to_owned(), 1)).into(),
    };
    let file = device.path("cam-1.ticket");
    put(&file, &signed::sign(&ticket, &[&device.root]).unwrap());
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_running_agent_is_rescued_without_a_pause_in_what_it_serves() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    lose(&device);
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
    let worker = agent.status()["worker"]["pid"].clone();
    let ticket = ticket(&device);
    assert!(matches!(rescue(&device, &["--ticket", &ticket]), Ok(Answer::Rescued(done)) if done.models == 1));
    let page = agent.status();
    assert_eq!((&page["fault"], &page["worker"]["pid"]), (&json!(null), &worker));
    assert_eq!(page["twin"]["last_error"], json!(null));
    assert_eq!(agent.answers(), "1.0.0");
    let again = rescue(&device, &["--ticket", &ticket]).unwrap_err();
    assert!(again.contains("there is nothing to rescue"), "{again}");
    agent.kill();
    assert_eq!(Store::open(&device.path("state")).read(floor), Generation(9));
    let mut agent = device.start();
    assert_eq!((agent.answers().as_str(), &agent.status()["fault"]), ("1.0.0", &json!(null)));
}

fn floor(state: &State) -> Generation {
    assert!(state.time_floor > Timestamp::UNIX_EPOCH);
    state.generation_floor(&KeySet::new([], 1)).generation
}

#[test]
fn an_agent_that_does_not_run_is_rescued_too() {
    let device = Device::new(ModelState::Committed, "1.0.0", None);
    assert!(rescue(&device, &[]).unwrap_err().contains("there is nothing to rescue"));
    lose(&device);
    let ticket = ticket(&device);
    let shown = String::from_utf8(device.command(&["rescue"]).stdout).unwrap();
    assert!(shown.contains("tern device rescue cam-1 --nonce "), "{shown}");
    assert!(matches!(rescue(&device, &["--ticket", &ticket]), Ok(Answer::Rescued(_))));
    assert_eq!(Store::open(&device.path("state")).read(floor), Generation(9));
    let mut agent = device.start();
    assert_eq!(agent.answers(), "1.0.0");
}
