//! The claim's proof. A fleet was set up by the product's own commands as `docs/ceremony.md` tells it: root 2 of 3, targets 2
//! of 3, a release by 2 of 2; a device was enrolled with its real server and runs what two people released. Then the server
//! is killed, and the attacker's takes its place on the same addresses. He has a copy of the whole data folder: the
//! authority's key, those of snapshot, timestamp and director, and what else ever lay there; the network; and of every
//! offline role fewer keys than its threshold. He tries every attack of this suite on devices. The device must run nothing
//! new, and answer all the while; and what is left to him must be what the director may do: choose among versions that the
//! team has released.

mod first_days;
mod loot;

use std::thread;

use crate::{
    arbitrary_install, candidate, endless_data, equivocation, fast_forward, freeze, key_compromise, lost_records,
    malicious_mirror, mix_and_match, recalled, replay,
    rig::{Rig, fleet::Fleet},
    rollback, slow_retrieval, wrong_software,
};

/// An attack of this suite, on a device whose server is the attacker's.
type Attack = fn(&mut Rig);

/// Every attack that the holder of a server can make on devices. Each line has a fleet of its own, with this in its
/// device's configuration, all at once: nearly all of their time is waiting.
const EVERYTHING: [(&str, &[Attack]); 5] = [
    ("", &[arbitrary_install::tried, key_compromise::tried, mix_and_match::tried]),
    ("", &[malicious_mirror::tried]),
    (slow_retrieval::CONFIG, &[slow_retrieval::tried]),
    ("", &[wrong_software::tried, replay::tried, candidate::tried, recalled::tried, equivocation::tried]),
    ("", &[rollback::tried, freeze::tried, endless_data::tried, lost_records::tried, fast_forward::tried]),
];

#[test]
fn whoever_holds_the_server_makes_no_device_run_what_was_not_released() {
    thread::scope(|scope| {
        let all: Vec<_> = (0..EVERYTHING.len()).map(|part| scope.spawn(move || stolen(part))).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

fn stolen(part: usize) {
    let (config, attacks) = EVERYTHING[part];
    let (mut fleet, people) = Fleet::of_people("stolen_server", config);
    let data = fleet.stolen();
    let keys = people.keys(&data);
    let mut rig = Rig::steal(fleet, &data, keys, Vec::new());
    attacks.iter().for_each(|attack| attack(&mut rig));
    // What is left: the director has the device run the other version that its team released.
    rig.finish();
}
