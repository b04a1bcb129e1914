//! The attacker holds the server, the network and everything that was ever published, and keeps the device on it: metadata
//! past its end, to a device whose clock is right, was set back, or starts at 1970. Expired metadata must be refused by
//! whatever time the device knows to have come; and a time from the far future must not be believed either.

use tern_examples::hardships::clock_at_1970;
use tern_protocol::refusal::RefusalCode::{Expired, Metadata};

use crate::rig::{
    Rig, refused,
    repository::{Publication, Role, in_days},
};

/// A role of a publication, and its name.
type Which = (&'static str, fn(&mut Publication) -> &mut Role);

const ROLES: [Which; 4] = [
    ("timestamp", |p| &mut p.timestamp),
    ("snapshot", |p| &mut p.snapshot),
    ("targets", |p| &mut p.targets),
    ("the team's role", |p| &mut p.team),
];

fn each_role(rig: &mut Rig, circumstance: &str) {
    for (name, which) in ROLES {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        which(&mut publication).set("expires", in_days(-1));
        let variant = format!("{name} expired yesterday, {circumstance}");
        rig.attempt(&variant, publication.files(), &evil, refused(Expired, "metadata expired at"));
    }
}

#[test]
fn metadata_past_its_end_is_refused_whatever_the_clock_says() {
    let mut rig = Rig::new("freeze");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    each_role(rig, "with a clock that is right");
    for days in [401, 36_500] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        publication.timestamp.set(tern_protocol::tuf::ISSUED, in_days(days));
        publication.timestamp.set("expires", in_days(days + 1));
        let expected = refused(Metadata, "the newest time known here is");
        rig.attempt(&format!("signed {days} days from now"), publication.files(), &evil, expected);
    }
    let mut faked = clock_at_1970().expect("libfaketime");
    let no_clock = faked.clone();
    faked[1].1 = "-30d".to_owned();
    for (circumstance, environment) in [("with a clock set back", faked), ("without a clock", no_clock)] {
        rig.device.environment = environment.into();
        rig.restart(|_| ());
        each_role(rig, circumstance);
    }
}
