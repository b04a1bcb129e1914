//! Rows of several devices: a cohort held against itself, and profiles of each device's own.

use super::*;

#[test]
fn a_cohort_tells_one_bad_sensor_from_weather_and_from_all() {
    let reference = fleet(14, 10, 0, 240, |_, _| 0.0);
    let one = fleet(15, 10, 365, 60, |device, day| if device == 3 && day >= 395 { 2.0 } else { 0.0 });
    let all = fleet(16, 10, 365, 60, |_, day| if day >= 395 { 6.0 } else { 0.0 });
    let few = fleet(17, 7, 365, 12, |_, _| 0.0);
    let bench = Bench::new(&[("ref.csv", &reference), ("one.csv", &one), ("all.csv", &all), ("few.csv", &few)]);
    let run = |stream| {
        bench.decay(&format!(
            "replay --reference ref.csv --stream {stream} --time-column time --device-column device --cohort --json"
        ))
    };
    let (alarms, summary) = lines(&run("one.csv"));
    assert_eq!(summary["windows"], 600);
    let asking: Vec<_> = alarms.iter().filter(|alarm| alarm["severity"] != "notice").collect();
    assert!(!asking.is_empty() && asking.iter().all(|alarm| alarm["device"] == "d3"), "{alarms:?}");
    assert_eq!(asking[0]["kind"], "concurrent");
    assert!((30..45).contains(&asking[0]["window"].as_u64().unwrap()), "{alarms:?}");

    let (alarms, _) = lines(&run("all.csv"));
    let pooled = alarms.iter().find(|alarm| alarm["kind"] == "pooled").unwrap();
    assert!(pooled["device"].is_null() && (30..40).contains(&pooled["window"].as_u64().unwrap()), "{alarms:?}");
    assert!(alarms.iter().all(|alarm| alarm["kind"] != "concurrent"), "{alarms:?}");

    let outcome = run("few.csv");
    assert_eq!(outcome.err.matches("7 devices are no cohort").count(), 1, "{}", outcome.err);
}

/// Places whose seasons swing by more or less lie apart for months, and are no worse for it; a third of a deviation is.
#[test]
fn a_cohort_is_quiet_through_seasons_that_differ_and_tells_a_small_bias() {
    let season = |device: usize, day: i64| {
        let swing = 4.0 + 0.2 * device as f64;
        0.2 * device as f64 + swing * (std::f64::consts::TAU * day as f64 / 365.25).sin()
    };
    let reference = fleet(14, 10, 0, 240, season);
    let live =
        fleet(15, 10, 365, 300, |device, day| season(device, day) + if device == 3 && day >= 565 { 1.0 } else { 0.0 });
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let line = "replay --reference ref.csv --stream live.csv --time-column time --device-column device --cohort --json";
    let (alarms, summary) = lines(&bench.decay(line));
    assert_eq!(summary["windows"], 3_000);
    let asking: Vec<_> = alarms.iter().filter(|alarm| alarm["severity"] != "notice").collect();
    assert!(!asking.is_empty() && asking.iter().all(|alarm| alarm["device"] == "d3"), "{asking:?}");
    assert!((200..206).contains(&asking[0]["window"].as_u64().unwrap()), "{asking:?}");
}

#[test]
fn devices_have_profiles_of_their_own_in_a_folder() {
    let stream = fleet(18, 2, 0, 10, |device, _| 5.0 * device as f64);
    let one = fleet(19, 1, 0, 80, |_, _| 0.0).replace("d0", "x");
    let other = fleet(20, 1, 0, 80, |_, _| 5.0).replace("d0", "x");
    let bench = Bench::new(&[("d0.csv", &one), ("d1.csv", &other), ("live.csv", &stream)]);
    fs::create_dir(bench.folder.path().join("set.d")).unwrap();
    let fit = |device: &str| {
        bench.decay(&format!("fit --reference {device}.csv --time-column time --ignore device -o set.d/{device}.json"))
    };
    assert_eq!(fit("d0").code, 0);
    let line = "replay --profile set.d --stream live.csv --time-column time --device-column device --json";
    assert!(bench.decay(line).err.contains("there is no profile"));
    assert_eq!(fit("d1").code, 0);
    let (alarms, summary) = lines(&bench.decay(line));
    assert_eq!((alarms.len(), &summary["windows"]), (0, &json!(20)), "{alarms:?}");
    let nothing = bench.decay(&format!("{line} --ignore t"));
    assert!(nothing.refused().contains("--ignore leaves out all"), "{}", nothing.err);
    let without = bench.decay("replay --profile set.d --stream live.csv --time-column time --json");
    assert!(without.err.contains("--device-column"), "{}", without.err);
}

#[test]
fn devices_whose_profiles_do_not_go_together_are_refused() {
    let reference = fleet(27, 1, 0, 80, |_, _| 0.0);
    let stream = fleet(28, 2, 80, 3, |_, _| 0.0);
    let escaping = stream.replace("d1,", "../d1,");
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &stream), ("escaping.csv", &escaping)]);
    fs::create_dir(bench.folder.path().join("set.d")).unwrap();
    for (device, more) in [("d0", ""), ("d1", " --arl 500")] {
        let line = format!("fit --reference ref.csv --time-column time --ignore device -o set.d/{device}.json{more}");
        assert_eq!(bench.decay(&line).code, 0);
    }
    for (stream, reason) in
        [("live.csv", "another window, offset or rate"), ("escaping.csv", "\"../d1\" cannot name a file")]
    {
        let line = format!("replay --profile set.d --stream {stream} --time-column time --device-column device --json");
        assert!(bench.decay(&line).refused().contains(reason), "{reason}");
    }
}

#[test]
fn a_profile_of_several_devices_is_said_to_be_one_for_all() {
    let bench = Bench::new(&[("ref.csv", &fleet(31, 3, 0, 60, |_, _| 0.0))]);
    let line = "fit --reference ref.csv --time-column time --device-column device -o p.json";
    let told = bench.decay(line);
    assert!(told.out.contains("one profile for 3 devices, fitted to 180 windows"), "{}", told.out);
    assert_eq!(bench.decay(&format!("{line} --output json")).json()["devices"], 3);
    let alone =
        bench.decay("fit --reference ref.csv --time-column time --ignore device -o p.json --output json").json();
    assert!(alone["devices"].is_null());
    let by_device: Vec<String> = (0..3)
        .flat_map(|device| {
            let text = fleet(31, 3, 0, 60, |_, _| 0.0);
            text.lines().filter(|line| line.starts_with(&format!("d{device},"))).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    fs::write(bench.folder.path().join("ref.csv"), format!("device,time,t\n{}\n", by_device.join("\n"))).unwrap();
    let mixed = bench.decay("fit --reference ref.csv --time-column time --ignore device -o p.json");
    assert!(mixed.refused().contains("by --device-column"), "{}", mixed.err);
    assert_eq!(bench.decay(line).code, 0);
}
