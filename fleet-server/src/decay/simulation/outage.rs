//! Fleets whose inferences fail, all of them: windows without a value close no detection window and end no round.

use tern_protocol::ids::DeviceId;
use tern_stats::window::Window;

use super::*;

/// Reports of 50 calls of each device, of which all fail.
fn outage(fleet: &mut Fleet, devices: &[usize], reports: usize, is_blind: bool) {
    for _ in 0..reports {
        for device in devices {
            let row = fleet.failed(*device, REPORT as u64, is_blind);
            fleet.take(row);
        }
        fleet.rounds += 1;
    }
}

fn failing(fleet: &Fleet) -> Vec<(Vec<DeviceId>, Severity)> {
    let open = fleet.open().into_iter();
    open.map(|(kind, incident)| {
        assert_eq!((kind, incident.cause), (IncidentKind::LatencyOrErrors, Cause::Service), "{}", incident.summary);
        (incident.devices.clone(), incident.severity)
    })
    .collect()
}

#[test]
fn devices_whose_every_inference_fails_are_said_alone_and_as_a_whole_fleet() {
    for is_blind in [false, true] {
        for devices in [1, 2, 8] {
            let all: Vec<usize> = (0..devices).collect();
            let mut fleet = Fleet::new(121, devices);
            // From the first call on.
            outage(&mut fleet, &all, ROWS / REPORT, is_blind);
            assert_eq!(failing(&fleet), [(names(&all), Severity::Alarm)], "{devices} devices, blind: {is_blind}");
            // After they had served for long.
            let mut fleet = Fleet::new(122, devices);
            fleet.rounds(12, clean);
            assert_eq!(fleet.opened(), []);
            outage(&mut fleet, &all, ROWS / REPORT, is_blind);
            assert_eq!(failing(&fleet), [(names(&all), Severity::Alarm)], "{devices} devices, blind: {is_blind}");
            let unfit = fleet.detector.subjects[&fleet.model].figures().unfit;
            assert_eq!(unfit, 0, "no row was counted under another profile");
            // They answer again.
            fleet.rounds(12, clean);
            assert_eq!(fleet.ended(IncidentKind::LatencyOrErrors), [Resolution::Quiet]);
            assert_eq!(fleet.opened().len(), 1);
        }
    }
}

#[test]
fn one_of_many_whose_every_inference_fails_is_named_while_the_others_go_on() {
    for is_blind in [false, true] {
        let mut fleet = Fleet::new(123, 9);
        fleet.rounds(5, clean);
        for _ in 0..4 * ROWS / REPORT {
            outage(&mut fleet, &[4], 1, is_blind);
            for device in (0..9).filter(|device| *device != 4) {
                let row = fleet.report(device, Harm::default());
                fleet.take(row);
            }
        }
        assert_eq!(failing(&fleet), [(names(&[4]), Severity::Alarm)]);
        assert_eq!(fleet.opened().len(), 1);
    }
}

#[test]
fn failures_count_in_windows_of_another_profile_too() {
    let mut fleet = Fleet::new(124, 1);
    for number in 1..=4 {
        // Rows of a worker that could not read its profile.
        let window = Window { rows: 40, ..Window::default() };
        let item = wire(window, number, &fleet.model, 10);
        let row = fleet.commit(0, item);
        fleet.take(row);
    }
    assert_eq!(failing(&fleet), [(names(&[0]), Severity::Alarm)]);
    assert_eq!(fleet.detector.subjects[&fleet.model].figures().unfit, 4);
}

#[test]
fn an_outage_goes_on_over_restarts_and_ends_with_its_version() {
    let policy: Policy = Arc::new(|_, _, _| Vec::new());
    let mut fleet = Fleet::new(125, 2);
    for _ in 0..3 * ROWS / REPORT {
        outage(&mut fleet, &[0, 1], 1, false);
        fleet.detector = restarted(&fleet, &policy);
    }
    assert_eq!((failing(&fleet).len(), fleet.opened().len()), (1, 1));
    fleet.model = version("vision/digits@1.1.0");
    fleet.watch();
    fleet.rounds(2, clean);
    assert_eq!(fleet.ended(IncidentKind::LatencyOrErrors), [Resolution::VersionGone]);
    assert_eq!(fleet.open().len(), 0);
}
