//! The attacker holds one device of the fleet, and with its certificate publishes, subscribes and leaves a will where the
//! honest device, the server or everybody is meant. Nothing of it may arrive, and his session must end.

use crate::rig::{
    fleet::Fleet,
    intruder::{NoSession, Session},
    wait,
};

const HONEST: &str = "tern/v1/plant/cam-1";

#[test]
fn nobody_speaks_or_listens_in_anothers_place() {
    let mut fleet = Fleet::new("foreign_topic");
    let insider = fleet.insider("cam-2");
    let open =
        |fleet: &Fleet| Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), "cam-2", None).expect("a session");
    let count = |fleet: &Fleet, code: &str| fleet.metric(&format!("tern_mqtt_refusals_total{{code=\"{code}\"}}"));
    let generation = fleet.device.status()["twin"]["generation"].clone();
    for (below, retain) in [
        ("twin", true),
        ("status", true),
        ("report", false),
        ("desired", false),
        ("watermark", false),
        ("m/system", true),
    ] {
        let before = count(&fleet, "publish");
        let acknowledged = open(&fleet).publish(&format!("{HONEST}/{below}"), b"{}", retain);
        assert!(!acknowledged, "{below}");
        assert_eq!(count(&fleet, "publish"), before + 1, "{below}");
        fleet.refused(&format!("a publish to the honest device's {below}"));
    }
    for topic in
        ["tern/v1/plant/cam-2/desired", "tern/v1/plant/_fleet/audit/head", "tern/v1/other/cam-2/twin", "$SYS/x", "x"]
    {
        let before = count(&fleet, "publish");
        assert!(!open(&fleet).publish(topic, b"{}", topic.ends_with("twin")), "{topic}");
        assert_eq!(count(&fleet, "publish"), before + 1, "{topic}");
        fleet.refused(&format!("a publish to {topic}"));
    }
    for filter in [
        "#",
        "+/#",
        "tern/#",
        "tern/v1/plant/#",
        "tern/v1/plant/+/desired",
        "tern/v1/plant/cam-1/desired",
        "tern/v1/plant/cam-1/watermark",
        "tern/v1/plant/cam-1/#",
        "tern/v1/plant/cam-2/#",
        "tern/v1/plant/_fleet/#",
        "$SYS/#",
        "$share/g/tern/v1/plant/cam-1/desired",
        "$share/g/#",
    ] {
        let before = count(&fleet, "subscribe");
        assert!(!open(&fleet).subscribe(filter), "{filter}");
        assert_eq!(count(&fleet, "subscribe"), before + 1, "{filter}");
        fleet.refused(&format!("a subscription to {filter}"));
    }
    for topic in ["tern/v1/plant/cam-1/status", "tern/v1/plant/cam-1/desired", "tern/v1/plant/cam-2/desired", "x"] {
        let before = count(&fleet, "will");
        let refused = Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), "cam-2", Some(topic)).err();
        assert_eq!(refused, Some(NoSession::Refused(5)), "{topic}");
        assert_eq!(count(&fleet, "will"), before + 1, "{topic}");
        fleet.refused(&format!("a will for {topic}"));
    }
    wait("the honest device is still online", || (fleet.device.status()["link"]["connected"] == true).then_some(()));
    assert_eq!(fleet.device.status()["twin"]["generation"], generation, "nothing reached the honest device");
    fleet.finish();
}
