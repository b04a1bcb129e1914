//! The attacker holds the server and the network, and both records of the device are gone, with every floor in them: he
//! serves what is old, for there is nothing left to hold it against. What serves must go on, and nothing may be installed.

use tern_protocol::refusal::RefusalCode::FloorUnreadable;

use crate::{
    rig::{Rig, refused},
    rollback::lose,
};

#[test]
fn without_both_records_nothing_is_installed() {
    let mut rig = Rig::new("lost_records");
    let past = rig.publication(&[]).files();
    rig.restart(|state| {
        for record in ["state.db", "state.copy"] {
            lose(state, record);
        }
    });
    let evil = rig.evil();
    rig.https.serve(past);
    for (variant, demand) in [("a version nobody released", evil.desired()), ("a released one", rig.next.desired())] {
        let before = rig.device.status()["twin"]["last_error"].clone();
        rig.demand(demand);
        rig.expect_state_refusal(
            variant,
            &before,
            refused(FloorUnreadable, "neither state.db nor state.copy can be read"),
        );
    }
    rig.end_without_update();
}
