//! The attacker holds the server and every online key, and signs two different documents under one version, so that
//! different devices believe different things. A device keeps the one that it heard first, also over a restart, and nothing
//! counts that only the other one leads to. Of two timestamps its server hears.

use serde_json::Value;
use tern_protocol::refusal::RefusalCode::{Equivocation, UnknownTarget};

use crate::rig::{Rig, refused, wait};

#[test]
fn of_two_documents_under_one_version_the_first_counts() {
    let mut rig = Rig::new("equivocation");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let unknown = refused(UnknownTarget, "is not among its team's signed targets");
    for name in ["timestamp", "snapshot"] {
        let evil = rig.evil();
        let first = rig.publication(&[]);
        rig.attempt(&format!("the first {name}"), first.files(), &evil, unknown);
        // The other one leads to a list with a version that the first says nothing of.
        for when in ["", ", after a restart"] {
            if !when.is_empty() {
                rig.restart(|_| ());
            }
            let evil = rig.evil();
            let mut other = rig.publication(&[&evil]);
            if name == "timestamp" {
                other.timestamp.set("version", first.timestamp.version());
            } else {
                let version = first.snapshot.version();
                other.snapshot.set("version", version);
                other.timestamp.signed["meta"]["snapshot.json"]["version"] = version.into();
            }
            // What the first leads to is still there.
            let mut files = first.files();
            files.extend(other.files());
            let variant = format!("another {name} of the same version{when}");
            rig.attempt(&variant, files, &evil, unknown);
            if name == "timestamp" {
                wait(&format!("{variant} is said"), || {
                    let twin: Value = serde_json::from_slice(&rig.mqtt.twin()).ok()?;
                    (twin["last_error"]["code"] == Equivocation.as_str()).then_some(())
                });
            }
        }
    }
}
