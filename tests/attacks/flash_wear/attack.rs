//! The attacker holds the server, the network and the director's key, and wants the device's flash worn out or full: a flood of
//! desired states that are refused, each for another reason than the one before, states that demand other models each time, and
//! good states as fast as they go. What is written for the first and the last must not grow with their number, and what is kept
//! for the second not with theirs.

use std::fs;

use serde_json::Value;
use tern_protocol::{
    desired::{DesiredState, MAX_MODELS},
    ids::Generation,
};

use crate::rig::{Rig, wait};

/// Refused states of the flood.
const FLOOD: u64 = 300;

#[test]
fn a_stolen_director_neither_wears_out_nor_fills_the_flash() {
    let mut rig = Rig::new("flash_wear");
    refusals(&mut rig);
    models(&mut rig);
    states(&mut rig);
    rig.finish();
}

/// How often the device has written its record.
fn writes(rig: &Rig) -> u64 {
    record(rig)["sequence"].as_u64().expect("a sequence")
}

fn record(rig: &Rig) -> Value {
    let copy = fs::read_to_string(rig.device.state("state.copy")).unwrap();
    serde_json::from_str(copy.split_once('\n').expect("a seal and a record").1).unwrap()
}

fn refused(rig: &Rig) -> u64 {
    rig.device.status()["refusals"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// Refusals of three codes in turn, two of them with another generation each time.
fn refusals(rig: &mut Rig) {
    let good = rig.active.desired();
    let floor = rig.state(good);
    rig.send(&floor, &[&rig.keys.director]);
    wait("the floor is taken over", || (rig.device.status()["twin"]["generation"] == floor.generation.0).then_some(()));
    let (before, told) = (writes(rig), refused(rig));
    for n in 0..FLOOD {
        let mut state = DesiredState { generation: Generation(n % floor.generation.0), ..floor.clone() };
        match n % 3 {
            0 => {}
            1 => state.device = "cam-2".parse().unwrap(),
            _ => state.fleet = "other".parse().unwrap(),
        }
        rig.send(&state, &[&rig.keys.director]);
        wait("it is refused", || (refused(rig) == told + n + 1).then_some(()));
    }
    let written = writes(rig) - before;
    assert!((1..=3).contains(&written), "{written} writes for {FLOOD} refusals of three codes");
    rig.refused_otherwise("a flood of states that are refused for different reasons");
}

/// As many models as a state may name, others each time, beside the one that answers.
fn models(rig: &mut Rig) {
    for round in 0..4 {
        let active = rig.active.desired();
        let mut state = rig.state(active.clone());
        state.models.extend((1..MAX_MODELS).map(|n| {
            let mut other = active.clone();
            other.model = format!("demo/x-{round}-{n}").parse().unwrap();
            other
        }));
        rig.send(&state, &[&rig.keys.director]);
        wait("the state is taken over", || {
            (rig.device.status()["twin"]["generation"] == state.generation.0).then_some(())
        });
        let kept = record(rig)["models"].as_object().map_or(0, |models| models.len());
        assert!(kept <= 2 * MAX_MODELS, "{kept} models are remembered after round {round}");
    }
    // Named no more, they are gone, and with the next state forgotten.
    wait("the others are forgotten", || {
        let active = rig.active.desired();
        rig.demand(active);
        (record(rig)["models"].as_object()?.len() == 1).then_some(())
    });
    rig.refused_otherwise("other models with each state");
}

/// Good states, each newer than the one before, as fast as they are taken over.
fn states(rig: &mut Rig) {
    let generation = |rig: &Rig| rig.device.status()["twin"]["generation"].as_u64().expect("a generation");
    let before = writes(rig);
    let last = wait("a state has to wait", || {
        let active = rig.active.desired();
        let state = rig.state(active);
        rig.send(&state, &[&rig.keys.director]);
        wait("it is taken over, or waits", || {
            let waits = rig.device.log().contains("desired states come too fast");
            (waits || generation(rig) == state.generation.0).then_some(waits)
        })
        .then_some(state.generation.0)
    });
    // One or two writes each: the state, and the model's record where that changed.
    let written = writes(rig) - before;
    assert!(written < 1000, "{written} writes");
    assert!(generation(rig) < last, "it waits");
    wait("the newest is taken over by itself", || (generation(rig) == last).then_some(()));
    rig.refused_otherwise("good states as fast as they go");
}
