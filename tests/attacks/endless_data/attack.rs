//! The attacker holds the server and the network, and sends without end: each role, the manifest, the model, a desired
//! state. Each must be given up at its bound; what was sent, the device's disk and the memory of the process that holds
//! its keys must stay small.

use tern_protocol::refusal::RefusalCode::{BlobLength, Fetch, Malformed};

use crate::rig::{Expected, Rig, https::Trick, refused, release::Release, repository::blob_path};

/// Most that one variant may move over the network: the longest role, and what fits into buffers on the way.
const WIRE: u64 = 24 << 20;
/// Most that the device's state may grow by.
const DISK: u64 = 8 << 20;
/// Most that control's resident memory may grow by: the longest role, once as it comes and once as it is parsed.
const MEMORY: u64 = 48 << 20;

#[test]
fn what_never_ends_is_given_up_at_its_bound() {
    let mut rig = Rig::new("endless_data");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let disk = rig.device.disk_bytes();
    let memory = rig.device.memory().0;
    let role = |name: &'static str| move |_: &Release| name.to_owned();
    let too_long = refused(Fetch, "the answer is longer than");
    for name in ["timestamp.json", "snapshot.json", "targets.json", "demo.json", ".root.json"] {
        for promise in [None, Some(1 << 40)] {
            endless(rig, name, role(name), promise, too_long);
        }
    }
    for promise in [None, Some(1 << 40)] {
        endless(rig, "the manifest", Release::manifest_path, promise, too_long);
        let model = |evil: &Release| blob_path(&evil.file("model"));
        endless(rig, "the model", model, promise, refused(BlobLength, "signed are"));
    }
    // Longer than a desired state may be, and signed all the same.
    let evil = rig.evil();
    let mut state = serde_json::to_value(rig.state(evil.desired())).unwrap();
    (state["padding"], state["_type"]) = ("x".repeat(300 << 10).into(), "tern-desired-state".into());
    let before = rig.device.status()["twin"]["last_error"].clone();
    rig.mqtt.send("desired", tern_protocol::signed::sign_value(state, &[&rig.keys.director]).unwrap());
    rig.expect_state_refusal("a desired state of 300 KiB", &before, refused(Malformed, "is over the limit of"));
    let (disk, memory) = (rig.device.disk_bytes().saturating_sub(disk), rig.device.memory().0.saturating_sub(memory));
    assert!(disk < DISK, "the device's state grew by {disk} B");
    assert!(memory < MEMORY, "control grew by {memory} B");
}

fn endless(rig: &mut Rig, name: &str, on: impl Fn(&Release) -> String, promise: Option<u64>, expected: Expected) {
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.https.serve(files);
    let path = on(&evil);
    rig.https.play(&path, Trick::Endless(promise));
    rig.https.traffic(&path);
    let before = rig.device.memory().0;
    rig.device.forget_peak();
    let variant = format!("{name} without end, {}", promise.map_or("unannounced", |_| "announced"));
    rig.try_demand(&variant, evil.desired(), expected);
    let (traffic, peak) = (rig.https.traffic(&path), rig.device.memory().1);
    assert!(traffic.requests > 0, "{variant}: nobody asked");
    assert!(traffic.bytes < WIRE * traffic.requests, "{variant}: {traffic:?}");
    assert!(peak.saturating_sub(before) < MEMORY, "{variant}: control grew from {before} to {peak} B");
}
