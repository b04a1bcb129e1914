//! Who a device is, over the life of its certificate, with real processes: renewed in time, renewed late, put out, and let
//! in again. Cameras ask all the while, and each answer is counted once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "identities/town.rs"]
mod town;

use jiff::SignedDuration;
use tern_examples::cameras::Camera;
use tern_fleet_server::clock;
use town::Town;

/// Life of a certificate: the agent renews it ten seconds before its end.
const LIFE: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_before_their_end_and_after_while_the_device_goes_on() {
    let town = Town::start(LIFE).await;
    let (pids, witness) = (town.pids().await, town.witness());
    let first = town.certificate_end("cam-1").await;
    let begun = town.events().await.last().map_or(0, |event| event.id);
    // The second device loses its network before its certificate ends, and for longer.
    town.plug(1, false);
    let late = town.certificate_end("cam-2").await;
    town.event("cam-2", "device-offline", begun).await;
    town.until("the certificate of cam-2 has ended", async || {
        (clock::now() > late + SignedDuration::from_secs(2)).then_some(())
    })
    .await;
    assert_eq!(town.certificate_end("cam-2").await, late, "nobody has renewed it");
    let cut = town.events().await.last().map_or(0, |event| event.id);
    town.plug(1, true);
    town.device("cam-2", "has a new certificate", |row| row.certificate_expires > late).await;
    town.event("cam-2", "device-online", cut).await;

    // Meanwhile the first renewed its own in time, again and again, and its session stood all along.
    town.device("cam-1", "renewed twice", |row| {
        row.certificate_expires > first + SignedDuration::from_secs(LIFE.into())
    })
    .await;
    let events = town.events().await;
    let of_first = |kind: &str| {
        let own = events.iter().filter(|e| e.id > begun && e.device.as_ref().is_some_and(|d| d.as_str() == "cam-1"));
        own.filter(|event| event.kind == kind).count()
    };
    assert_eq!(of_first("certificate-renewed"), 1, "one an hour is told, however many there were");
    assert_eq!((of_first("device-offline"), of_first("device-online")), (0, 0), "its session stood");

    let seen = witness.dismiss().await;
    assert_eq!((seen.failed, seen.first_failure), (0, None));
    // Each answer is counted, and once.
    town.counted(seen.answers.values().sum()).await;
    assert_eq!(town.pids().await, pids, "no agent was started again");
    assert_eq!(town.counter("tern_quarantined_total").await, 0);
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_at_once_and_stays_out_until_it_is_enrolled_anew() {
    let town = Town::start(LIFE).await;
    let witness = town.witness();
    let end = town.certificate_end("cam-1").await;
    let revoked = town.tern(&["device", "revoke", "cam-1", "--reason", "it was stolen"]).await;
    assert!(revoked["connections_cut"].as_u64() >= Some(1), "{revoked}");
    let order = town.event("cam-1", "device-revoked", 0).await;
    // By the server's own clock: the last will of the session that was cut.
    let gone = town.event("cam-1", "device-offline", order.id).await;
    assert!(gone.at.duration_since(order.at) < SignedDuration::from_secs(1), "{order:?} {gone:?}");

    // It tries to come back, and to renew its certificate once that is due; the other goes on.
    town.until("it was refused over MQTT", async || {
        (town.counter("tern_ingest_refusals_total{code=\"revoked-device\"}").await >= 2).then_some(())
    })
    .await;
    town.until("it was refused its renewal", async || {
        (town.counter("tern_http_refusals_total{code=\"revoked-device\"}").await >= 1).then_some(())
    })
    .await;
    town.until("its certificate has ended", async || (clock::now() > end).then_some(())).await;
    let row = town.row("cam-1").await;
    assert_eq!((row.online, row.certificate_expires), (false, end));
    assert_eq!(row.kept_out().map(|(what, barred)| (what, &*barred.reason)), Some(("revoked", "it was stolen")));
    let events = town.events().await;
    let refused =
        |event: &&tern_fleet_server::forms::EventRow| event.code == "revoked-device" && event.actor == "cam-1";
    assert_eq!(events.iter().find(refused).map(|event| &*event.kind), Some("front-refused"));
    let back = events.iter().filter(|e| e.id > order.id && e.device.as_ref().is_some_and(|d| d.as_str() == "cam-1"));
    assert!(back.clone().all(|event| event.kind != "device-online"), "{:?}", back.collect::<Vec<_>>());

    // What ran on it runs on: a server that says no stops no model.
    let seen = witness.dismiss().await;
    assert_eq!((seen.failed, seen.first_failure), (0, None));

    // A new order lets it in, once the machine is told to give its old identity up.
    let ticket = town.tern(&["device", "enroll", "cam-1"]).await;
    let token = ticket["token"].as_str().expect("a token").to_owned();
    town.restarted(0, async || {
        let kept = town.agent(&town.world.devices[0], &["enroll", "--token", &token]).await;
        assert!(String::from_utf8_lossy(&kept.stderr).contains("--replace"), "{kept:?}");
        let enrolled = town.agent(&town.world.devices[0], &["enroll", "--replace", "--token", &token]).await;
        assert!(enrolled.status.success(), "{enrolled:?}");
    })
    .await;
    town.device("cam-1", "is in service again", |row| row.online && row.kept_out().is_none()).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_disk_makes_two_machines_of_which_neither_counts_until_one_has_a_new_identity() {
    let mut town = Town::start(3600).await;
    let double = town.machine("double");
    let witness = town.witness();
    // A restart, a disk that is copied, a second machine that starts from the copy: only the last raises an alarm.
    let folders = town.scratch.join("devices");
    town.restarted(0, async || {
        let mut copy = std::process::Command::new("cp");
        let copied = copy.arg("-a").args([folders.join("cam-1"), folders.join("double")]).status();
        assert!(copied.unwrap().success());
    })
    .await;
    town.device("cam-1", "is back", |row| row.online).await;
    assert_eq!(town.row("cam-1").await.kept_out(), None);
    town.start_agent(double).await;
    let told = town.event("cam-1", "device-cloned", 0).await;
    assert!(told.message.starts_with("two agents push each other out"), "{told:?}");
    let row = town.device("cam-1", "is kept out", |row| row.kept_out().is_some()).await;
    assert_eq!((row.online, row.kept_out().map(|(what, _)| what)), (false, Some("cloned")));
    town.until("both are refused", async || {
        (town.counter("tern_ingest_refusals_total{code=\"device-cloned\"}").await >= 4).then_some(())
    })
    .await;

    let ticket = town.tern(&["device", "reidentify", "cam-1", "--reason", "two of them"]).await;
    let token = ticket["token"].as_str().expect("a token").to_owned();
    town.restarted(0, async || {
        let enrolled = town.agent(&town.world.devices[0], &["enroll", "--replace", "--token", &token]).await;
        assert!(enrolled.status.success(), "{enrolled:?}");
    })
    .await;
    town.device("cam-1", "is in service again", |row| row.online && row.kept_out().is_none()).await;
    town.until("its double is refused", async || {
        (town.counter("tern_ingest_refusals_total{code=\"replaced-certificate\"}").await >= 2).then_some(())
    })
    .await;
    assert!(town.row("cam-1").await.online, "its double does not push it out");
    // The other device saw nothing of it.
    let seen = witness.dismiss().await;
    assert!(seen.first_failure.is_none_or(|failure| failure.starts_with("cam-1")), "cam-1 was restarted");
    assert!(
        town.events()
            .await
            .iter()
            .all(|event| event.device.as_ref().is_none_or(|d| d.as_str() != "cam-2") || event.kind != "device-offline")
    );
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_a_list_become_devices_by_their_serials() {
    let mut town = Town::start(3600).await;
    let list = town.write("config/serials.csv", "serial,device,site\nSN-0042,cam-42,hall-1\nSN-0043,,\n");
    let ticket = town.tern(&["device", "claim", "--serials", list.to_str().unwrap(), "--label", "line=a"]).await;
    assert_eq!(ticket["devices"], 2);
    let token = ticket["token"].as_str().expect("a token").to_owned();
    let machine = town.machine("fresh");
    for (args, fault) in [
        (&["enroll", "--token", &*token][..], "--serial"),
        (&["enroll", "--serial", "SN-0044", "--token", &*token], "unknown-serial"),
    ] {
        let refused = town.agent(&machine, args).await;
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(fault), "{refused:?}");
    }
    let enrolled = town.agent(&machine, &["enroll", "--serial", "SN-0042", "--token", &token]).await;
    assert!(String::from_utf8_lossy(&enrolled.stdout).contains("enrolled as cam-42"), "{enrolled:?}");
    town.start_agent(machine).await;
    let row = town.device("cam-42", "is in service", |row| row.online).await;
    let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["line=a", "site=hall-1"]);
    let again = town.agent(&town.machine("other"), &["enroll", "--serial", "SN-0042", "--token", &token]).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("used-enrolment"), "{again:?}");
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_under_agents_that_go_on() {
    let town = Town::start(3600).await;
    for (index, device) in town.world.devices.iter().enumerate() {
        town.restarted(index, async || {
            let config = std::fs::read_to_string(&device.config).unwrap();
            town.write(&format!("config/{}.toml", device.name), &format!("trust_refresh_seconds = 1\n{config}"));
        })
        .await;
        town.device(&device.name, "is back", |row| row.online && row.models.iter().any(|m| m.version.is_some())).await;
    }
    town.until("both answer", async || {
        let mut cameras = town.world.devices.iter().map(|device| Camera::new(device.address.clone()));
        let (mut one, mut two) = (cameras.next()?, cameras.next()?);
        (one.look(&town.digits[0]).await.is_ok() && two.look(&town.digits[0]).await.is_ok()).then_some(())
    })
    .await;
    let (pids, witness) = (town.pids().await, town.witness());
    town.world.stop_server().await.unwrap();
    let rotated = town.server(&["ca", "rotate"]).await;
    assert!(rotated.0, "{}", rotated.1);
    let early = town.server(&["ca", "retire"]).await;
    assert!(!early.0 && early.1.contains("2 devices know the old authority only"), "{}", early.1);
    town.world.start_server().await.unwrap();
    // Both fetch the bundle and have their certificate renewed, by themselves.
    for device in ["cam-1", "cam-2"] {
        town.event(device, "certificate-renewed", 0).await;
    }
    let ca = |name: &str| std::fs::read_to_string(town.world.server_folder().join("ca").join(name)).unwrap();
    town.write("server/operator/ca.pem", &ca("bundle.pem"));
    town.world.log_in().await.unwrap();
    // A device counts once it has shown its new certificate.
    let mut retired = (false, String::new());
    for _ in 0..10 {
        town.world.stop_server().await.unwrap();
        retired = town.server(&["ca", "retire"]).await;
        if retired.0 {
            break;
        }
        town.world.start_server().await.unwrap();
        for device in ["cam-1", "cam-2"] {
            town.device(device, "is back", |row| row.online).await;
        }
    }
    assert!(retired.0 && retired.1.contains("log in again with it (`tern login --ca "), "{}", retired.1);
    let before = town.scratch.join("devices/cam-1/identity/ca.pem");
    town.world.start_server().await.unwrap();
    for device in ["cam-1", "cam-2"] {
        town.device(device, "is in service under the new authority", |row| row.online).await;
    }
    town.until("cam-1 trusts the new one alone", async || {
        (std::fs::read_to_string(&before).unwrap() == ca("ca.pem")).then_some(())
    })
    .await;
    let seen = witness.dismiss().await;
    assert_eq!((seen.failed, seen.first_failure), (0, None));
    assert_eq!(town.pids().await, pids, "no agent was started again");
    town.stop().await;
}
