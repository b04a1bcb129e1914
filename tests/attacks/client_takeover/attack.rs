//! The attacker holds one device of the fleet and opens a session under the honest device's client id, which in plain MQTT
//! would throw that one out. The broker must refuse him, and the honest session must stay.

use crate::rig::{
    fleet::Fleet,
    intruder::{NoSession, Session},
};

#[test]
fn a_session_is_in_the_name_of_its_certificate() {
    let mut fleet = Fleet::new("client_takeover");
    let insider = fleet.insider("cam-2");
    crate::rig::wait("the device is online", || (fleet.device.status()["link"]["connected"] == true).then_some(()));
    let since = fleet.device.status()["link"]["since"].clone();
    let metric = "tern_mqtt_refusals_total{code=\"wrong_client_id\"}";
    for id in ["cam-1", "CAM-1", "cam-2/", "server", "plant/cam-1", ""] {
        let before = fleet.metric(metric);
        let refused = Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), id, None).err();
        assert!(matches!(refused, Some(NoSession::Refused(_))), "{id:?}: {refused:?}");
        assert_eq!(fleet.metric(metric), before + 1, "{id:?}");
        fleet.refused(&format!("a session as {id:?}"));
    }
    let link = fleet.device.status()["link"].clone();
    assert_eq!((&link["connected"], &link["since"]), (&true.into(), &since), "the honest session was not touched");
    fleet.finish();
}
