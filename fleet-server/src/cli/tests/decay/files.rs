//! Files as people and programs write them: read as meant, or refused with the place and what to do.

use super::*;

/// What `fit` says of a file with so many bytes.
fn fit(bytes: &[u8], more: &str) -> (Outcome, Bench) {
    let bench = Bench::new(&[]);
    fs::write(bench.folder.path().join("ref.csv"), bytes).unwrap();
    (bench.decay(&format!("fit --reference ref.csv -o p.json{more}")), bench)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn sloppy_files_are_read_as_meant() {
    let good = hourly(40, 0, 60, plain);
    let quoted = good.replace(",on", ",\"on, \"\"really\"\"\nso\"");
    let profile = |bytes: &[u8], more: &str| {
        let (outcome, bench) = fit(bytes, more);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        bench.read("p.json").unwrap()
    };
    let timed = " --time-column time";
    let expected = profile(good.as_bytes(), timed);
    let same = [
        (format!("\u{feff}{good}"), timed),
        (good.replace('\n', "\r\n"), timed),
        (good.replace(',', " , "), timed),
        (good.replace("Z,", ".25Z,").replace("T0", " 0"), timed),
        (good.replace("Z,", "+00:00,"), timed),
        (good.replace("state", "extra"), " --time-column time --ignore extra,extra --categorical temperature"),
    ];
    for (text, more) in &same[..5] {
        assert!(profile(text.as_bytes(), more) == expected, "{}", &text[..80]);
    }
    profile(same[5].0.as_bytes(), same[5].1);
    let names: Value = serde_json::from_slice(&profile(quoted.as_bytes(), timed)).unwrap();
    assert_eq!(names["features"][1]["kind"]["categorical"], json!(["off", "on, \"really\"\nso"]));
    let (outcome, _) = fit(good.as_bytes(), " --time-column time --ignore state,temperature");
    assert!(outcome.refused().contains("nothing is left"), "{}", outcome.err);
}

#[test]
fn files_of_another_form_are_refused_with_what_to_do() {
    let good = hourly(41, 0, 60, plain);
    let latin = |from: &str, to: &[u8]| {
        let at = good.find(from).unwrap();
        [&good.as_bytes()[..at], to, &good.as_bytes()[at + from.len()..]].concat()
    };
    let epoch = hourly(41, 0, 60, plain).replace("2021-01-01T05:00:00Z", "1609477200");
    let zone = good.replace("05:00:00Z", "05:00:00[Europe/Berlin]");
    let long = good.replacen("off\n", "\"of\nf\"\n", 1).replacen("2021-01-03T00:00:00Z", "2021-01-03T00:00:00Z,1", 1);
    let timed = " --time-column time";
    for (bytes, more, reason) in [
        (
            good.replace(',', ";").into_bytes(),
            "",
            "names one column, \"time;temperature;state\": separate columns by commas",
        ),
        (good.replace(',', "\t").into_bytes(), timed, "separate columns by commas"),
        (latin("state", b"st\xe4te"), timed, "ref.csv: the header is not UTF-8: save the file as UTF-8"),
        (utf16(&good), timed, "ref.csv: the header is not UTF-8: save the file as UTF-8"),
        (latin("off", b"\xf6ff"), timed, ": state: is not UTF-8: save the file as UTF-8"),
        (good.replacen("time,", "state,", 1).into_bytes(), "", "names \"state\" twice"),
        (good.replacen("time,", ",", 1).into_bytes(), "", "column 1 has no name"),
        (long.into_bytes(), timed, "line 51: 4 cells, but the header names 3: quote a cell that holds a comma"),
        (good.replacen(",off", "", 1).into_bytes(), timed, "2 cells, but the header names 3"),
        (epoch.into_bytes(), timed, "line 7: time: \"1609477200\" is no time: write it like 2024-05-31T09:30:00Z"),
        (zone.into_bytes(), timed, "line 7: time: \"2021-01-01T05:00:00[Europe/Berlin]\" is no time"),
        (good.replacen("2021-01-01T05:00:00Z", "", 1).into_bytes(), timed, "line 7: time: \"\" is no time"),
        (good.clone().into_bytes(), " --time-column when", "names no column \"when\", but time, temperature, state"),
        (good.clone().into_bytes(), " --ignore state --categorical state", "\"state\" is named by two options"),
        (good.replacen("03:00:00Z", "01:30:00Z", 1).into_bytes(), timed, "line 5: time: the time is before"),
        (good.replacen("03:00:00Z", "01:30:00Z", 1).into_bytes(), timed, "their devices by --device-column"),
    ] {
        let (outcome, bench) = fit(&bytes, more);
        assert!(outcome.refused().contains(reason), "{reason}: {}", outcome.err);
        assert!(bench.read("p.json").is_none(), "{reason}");
    }
}

#[test]
fn what_can_be_read_only_once_is_refused() {
    let bench = Bench::new(&[]);
    for place in ["/dev/null", "."] {
        let path = bench.folder.path().join(place);
        let args = ["decay", "fit", "--reference", path.to_str().unwrap(), "-o", "p.json"];
        let outcome = tern(Environment::default(), "", &args);
        assert!(outcome.refused().contains("rows are read more than once, so write them to one"), "{}", outcome.err);
    }
}

#[test]
fn a_refusal_names_the_line_that_an_editor_shows() {
    let good = hourly(42, 0, 60, plain);
    let quoted = good.replacen("off\n", "\"of\nf\"\n", 1).replace("2021-01-03T00:00:00Z", "noon");
    let gaps = good.replace("2021-01-02T00:00:00Z", "\n\n2021-01-02T00:00:00Z").replace("2021-01-03T00:00:00Z", "noon");
    let wide = good.replacen("2021-01-03T00:00:00Z", "noon,1", 1);
    for (text, line) in [(&quoted, 51), (&gaps, 52), (&wide, 50)] {
        for end in ["\n", "\r\n", "\r"] {
            for text in [text.replace('\n', end), format!("\u{feff}{}", text.replace('\n', end))] {
                let (outcome, _) = fit(text.as_bytes(), " --time-column time");
                assert!(outcome.refused().contains(&format!("ref.csv: line {line}: ")), "{end:?}: {}", outcome.err);
            }
        }
    }
}

#[test]
fn columns_that_can_hardly_be_watched_are_told() {
    let ids = hourly(43, 0, 60, plain).lines().enumerate().fold(String::new(), |text, (at, line)| {
        let (id, comma) =
            if at == 0 { ("id".to_owned(), "price".to_owned()) } else { (format!("i{at}"), format!("\"1,{at}\"")) };
        text + &format!("{line},{id},{comma}\n")
    });
    let timed = " --time-column time";
    let (outcome, _) = fit(ids.as_bytes(), &format!("{timed} --ignore price"));
    assert!(
        outcome.refused().contains("\"id\" has numbers in too few windows, or texts that are nearly all different")
    );
    let twice = ids.lines().enumerate().fold(String::new(), |text, (at, line)| {
        let id = match at {
            0 => ",of".to_owned(),
            _ if at % 3 == 0 => ",main".to_owned(),
            _ => format!(",i{}", at % 400),
        };
        text + line + &id + "\n"
    });
    let (outcome, _) = fit(twice.as_bytes(), &format!("{timed} --ignore id,price"));
    assert!(
        outcome.err.contains("of: ") && outcome.err.contains("leave names and ids out by --ignore of"),
        "{}",
        outcome.err
    );
    let (outcome, _) = fit(hourly(44, 0, 60, |_, _| Some("inf".into())).as_bytes(), timed);
    assert!(outcome.refused().contains("\"temperature\" has numbers in too few windows"), "{}", outcome.err);
    let empty = hourly(44, 0, 60, |_, _| Some(String::new()));
    let (outcome, _) = fit(empty.as_bytes(), timed);
    assert!(outcome.refused().contains("\"temperature\" has numbers in too few windows"), "{}", outcome.err);
}

#[test]
fn a_rate_that_finds_less_is_told() {
    let good = hourly(45, 0, 60, plain);
    for (rate, told) in
        [("10", Some("take at least 100")), ("99", Some("take at least 100")), ("100", None), ("1e9", None)]
    {
        let (outcome, _) = fit(good.as_bytes(), &format!(" --time-column time --arl {rate}"));
        assert_eq!(outcome.code, 0);
        assert_eq!(
            outcome.err.contains("often finds less than a larger one"),
            told.is_some(),
            "{rate}: {}",
            outcome.err
        );
        assert!(told.is_none_or(|told| outcome.err.contains(told)), "{rate}: {}", outcome.err);
    }
    let (outcome, _) = fit(good.as_bytes(), " --ignore time --window rows:24 --utc-offset +01:00");
    assert!(outcome.err.contains("--utc-offset cuts days"), "{}", outcome.err);
}

#[test]
fn a_column_whose_numbers_are_texts_is_told_once() {
    let reference = hourly(46, 0, 60, plain).replace("state", "state,more");
    let twice = |text: &str, cell: &str| {
        let rows =
            text.lines().enumerate().map(|(at, line)| if at == 0 { line.to_owned() } else { format!("{line},{cell}") });
        rows.collect::<Vec<_>>().join("\n")
    };
    let live = hourly(47, 60, 5, |_, _| Some("\"9,5\"".into())).replace("state", "state,more");
    let bench = Bench::new(&[("ref.csv", &twice(&reference, "1.5")), ("live.csv", &twice(&live, "high"))]);
    let told = bench.decay("replay --reference ref.csv --stream live.csv --time-column time --json");
    let (_, summary) = lines(&told);
    assert_eq!(summary["windows"], 5);
    assert!(told.err.contains("line 2: temperature: \"9,5\" is no number"), "{}", told.err);
    assert!(told.err.contains("line 2: more: \"high\" is no number"), "{}", told.err);
    assert_eq!(told.err.matches("is no number").count(), 2, "{}", told.err);
    let stated =
        bench.decay("replay --reference ref.csv --stream ref.csv --time-column time --json --categorical state");
    assert!(!stated.err.contains("--categorical"), "{}", stated.err);
    assert_eq!(bench.decay("fit --reference ref.csv --time-column time -o p.json").code, 0);
    let other = bench.decay("replay --profile p.json --stream ref.csv --time-column time --json --categorical more");
    assert!(other.err.contains("--categorical more: the profile has it as a number"), "{}", other.err);
}

#[test]
fn a_profile_that_nobody_would_read_is_not_written() {
    let text = |at: usize| if at < 60 { format!("{at:02}{}", "long ".repeat(8_000)) } else { "short".into() };
    let rows = (0..1_200).fold("x,note\n".to_owned(), |rows, at| rows + &format!("{},{}\n", at * 37 % 101, text(at)));
    let (outcome, bench) = fit(rows.as_bytes(), " --window rows:20");
    let told = outcome.refused();
    assert!(told.contains("and may take 2.0 MB: leave out") && told.contains("--ignore"), "{told}");
    assert!(bench.read("p.json").is_none());
    assert_eq!(bench.decay("fit --reference ref.csv --window rows:20 --ignore note -o p.json").code, 0);
}

#[test]
fn a_column_of_one_value_is_told_and_any_other_is_found() {
    let reference = hourly(48, 0, 60, |_, _| Some("5.0".into()));
    let live = hourly(49, 60, 8, |hour, _| Some(if hour < 64 * 24 { "5" } else { "5.001" }.into()));
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let fitted = bench.decay("fit --reference ref.csv --time-column time -o p.json");
    assert!(fitted.err.contains("temperature: one value all over the reference"), "{}", fitted.err);
    let (alarms, _) = lines(&bench.decay("replay --profile p.json --stream live.csv --time-column time --json"));
    assert_eq!((&alarms[0]["window"], &alarms[0]["score"]), (&json!(4), &json!("out-of-range+")), "{alarms:?}");
}
