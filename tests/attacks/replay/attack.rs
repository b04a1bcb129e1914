//! The attacker holds the server and the network, and every desired state that was ever signed, for any device; or the
//! director's key, and wants two devices or two days to hear different things under one number. Each must be refused for
//! what it is, before anything of it is looked at; equivocation must be reported.

use serde_json::Value;
use tern_protocol::{
    desired::DesiredState,
    ids::Generation,
    refusal::RefusalCode::{
        Equivocation, Expired, Malformed, OldGeneration, Signature, UnknownFormat, WrongDevice, WrongFleet,
    },
    report::v1::{EventKind, Item},
    signed::sign_value,
};

use crate::rig::{
    Expected, Rig, refused,
    repository::{in_days, key},
    wait,
};

#[test]
fn what_was_signed_for_another_place_or_time_is_refused() {
    let mut rig = Rig::new("replay");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let past = {
        let demand = rig.active.desired();
        let state = rig.state(demand.clone());
        let bytes = rig.send(&state, &[&rig.keys.director]);
        await_generation(rig);
        rig.demand(demand);
        await_generation(rig);
        bytes
    };
    let before = last_error(rig);
    rig.mqtt.send("desired", past);
    rig.expect_state_refusal("an old generation", &before, refused(OldGeneration, "was taken over before"));
    signed(rig, "another device's", refused(WrongDevice, "is for device cam-2"), |s| {
        s.device = "cam-2".parse().unwrap()
    });
    signed(rig, "another fleet's", refused(WrongFleet, "is for fleet other"), |s| s.fleet = "other".parse().unwrap());
    signed(rig, "expired", refused(Expired, "desired state expired at"), |s| s.expires = in_days(-1).parse().unwrap());
    signed(rig, "of a format to come", refused(UnknownFormat, "has format 2"), |s| s.format = 2);
    signed(rig, "from the far future", refused(Malformed, "correct the server's clock"), |s| {
        (s.issued, s.expires) = (in_days(500).parse().unwrap(), in_days(501).parse().unwrap());
    });
    signed(rig, "with one model twice", refused(Malformed, "one name twice"), |s| s.models.push(s.models[0].clone()));
    let floor = rig.device.status()["twin"]["generation"].as_u64().expect("a generation");
    let twin = |s: &mut DesiredState| s.generation = Generation(floor);
    signed(rig, "another one under the same number", refused(Equivocation, "carry generation"), twin);
    signed(rig, "number 0", refused(OldGeneration, ""), |s| s.generation = Generation(0));
    by_others(rig);
    // What was refused has raised nothing.
    assert_eq!(rig.device.status()["twin"]["generation"], floor);
    wait("the equivocation is reported", || {
        let is_it = |item: &Item| matches!(item, Item::Event(event) if matches!(&event.kind, EventKind::Refused { code, .. } if *code == Equivocation));
        rig.mqtt.items().iter().any(is_it).then_some(())
    });
}

fn last_error(rig: &Rig) -> Value {
    rig.device.status()["twin"]["last_error"].clone()
}

fn await_generation(rig: &Rig) {
    wait("the generation is taken over", || {
        (rig.device.status()["twin"]["generation"] == rig.generation).then_some(())
    });
}

/// A state for an evil version, changed so, signed by the director.
fn signed(rig: &mut Rig, variant: &str, expected: Expected, change: impl FnOnce(&mut DesiredState)) {
    let evil = rig.evil();
    let mut state = rig.state(evil.desired());
    change(&mut state);
    let before = last_error(rig);
    rig.send(&state, &[&rig.keys.director]);
    rig.expect_state_refusal(variant, &before, expected);
}

fn by_others(rig: &mut Rig) {
    let stranger = key();
    for (variant, words) in [
        ("an unknown key", "0 of 1 needed"),
        ("the timestamp's key", "0 of 1 needed"),
        ("a document of another type", "document of type"),
        ("no JSON", "malformed signed document"),
        ("one signature twice", "signed more than once"),
        ("a bit of it changed", "0 of 1 needed"),
    ] {
        let evil = rig.evil();
        let state = rig.state(evil.desired());
        let mut value = serde_json::to_value(&state).unwrap();
        value["_type"] = "tern-desired-state".into();
        let director = &rig.keys.director;
        let (code, bytes) = match variant {
            "an unknown key" => (Signature, sign_value(value, &[&stranger])),
            "the timestamp's key" => (Signature, sign_value(value, &[&rig.keys.timestamp])),
            "a document of another type" => {
                value["_type"] = "targets".into();
                (Malformed, sign_value(value, &[director]))
            }
            "one signature twice" => (Signature, sign_value(value, &[director, director])),
            "no JSON" => (Malformed, Ok(b"\xff\xfe{".to_vec())),
            _ => {
                let text = String::from_utf8(sign_value(value, &[director]).unwrap()).unwrap();
                (Signature, Ok(text.replace("cam-1", "cam-2").into_bytes()))
            }
        };
        let before = last_error(rig);
        rig.mqtt.send("desired", bytes.unwrap());
        rig.expect_state_refusal(variant, &before, refused(code, words));
    }
}
