//! `tern decay` on made-up rows: what it prints is what it promises, quiet where nothing is wrong, loud where it is.

mod devices;
mod files;
mod labels;
mod reports;

use std::fmt::Write as _;

use super::*;

/// A noise that anyone can make again: a multiplicative congruential generator (Park and Miller 1988), 12 draws to a normal.
struct Noise(u64);

impl Noise {
    fn normal(&mut self) -> f64 {
        let mut draw = || {
            self.0 = self.0 * 48_271 % 2_147_483_647;
            self.0 as f64 / 2_147_483_647.0
        };
        (0..12).map(|_| draw()).sum::<f64>() - 6.0
    }
}

/// Hourly rows of so many days from 2021-01-01: a temperature with a year and a day, and a state. `change` sees the row.
fn hourly(seed: u64, from: i64, days: i64, change: impl Fn(i64, f64) -> Option<String>) -> String {
    let mut noise = Noise(seed);
    let mut text = String::from("time,temperature,state\n");
    let mut weather = 0.0;
    for hour in from * 24..(from + days) * 24 {
        weather = 0.9 * weather + noise.normal() * 0.44;
        let turn = std::f64::consts::TAU;
        let season = 8.0 * (turn * hour as f64 / 8_766.0).sin() + 3.0 * (turn * hour as f64 / 24.0).sin();
        let value = 10.0 + season + weather;
        let at = jiff::Timestamp::from_second(1_609_459_200 + hour * 3_600).unwrap();
        let state = if noise.normal() > 0.5 { "on" } else { "off" };
        if let Some(cell) = change(hour, value) {
            writeln!(text, "{at},{cell},{state}").unwrap();
        }
    }
    text
}

/// Rows of so many devices whose weather is common; `bias` by device and day.
fn fleet(seed: u64, devices: usize, from: i64, days: i64, bias: impl Fn(usize, i64) -> f64) -> String {
    let mut noise = Noise(seed);
    let mut text = String::from("device,time,t\n");
    let mut weather = 0.0;
    for hour in from * 24..(from + days) * 24 {
        weather = 0.9 * weather + 0.44 * noise.normal();
        let at = jiff::Timestamp::from_second(1_609_459_200 + hour * 3_600).unwrap();
        for device in 0..devices {
            let value = weather + 0.3 * noise.normal() + bias(device, hour / 24);
            writeln!(text, "d{device},{at},{value:.3}").unwrap();
        }
    }
    text
}

fn plain(_: i64, value: f64) -> Option<String> {
    Some(format!("{value:.3}"))
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(name, text)| fs::write(bench.folder.path().join(name), text).unwrap());
        bench
    }

    /// Runs `tern decay`; words with a dot are names of files here.
    fn decay(&self, line: &str) -> Outcome {
        let word = |word: &str| {
            if word.contains('.') {
                self.folder.path().join(word).to_str().unwrap().to_owned()
            } else {
                word.to_owned()
            }
        };
        let words: Vec<String> = ["decay".to_owned()].into_iter().chain(line.split(' ').map(word)).collect();
        tern(Environment::default(), "", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.folder.path().join(name)).ok()
    }
}

/// The lines of a replay: alarms, and the summary at the end.
fn lines(outcome: &Outcome) -> (Vec<Value>, Value) {
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let mut lines: Vec<Value> = outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["type"], "summary");
    assert!(lines.iter().all(|line| line["type"] == "alarm"));
    assert_eq!(summary["alarms"], lines.len());
    lines.iter().for_each(is_alarm);
    is_summary(&summary);
    (lines, summary)
}

fn members(line: &Value) -> Vec<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Holds a line to what is promised of alarms: members, types, and which words go together.
fn is_alarm(line: &Value) {
    let names = ["device", "evidence", "feature", "kind", "score", "severity", "start", "type", "window"];
    let mut own = members(line);
    own.sort_unstable();
    assert_eq!(own, names, "{line}");
    let is_text = |member: &str| line[member].is_null() || line[member].is_string();
    assert!(line["window"].is_u64() && is_text("device") && is_text("feature"), "{line}");
    assert!(line["start"].is_null() || line["start"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    assert!(line["evidence"].is_f64() && line["evidence"].as_f64().unwrap() >= 0.0, "{line}");
    let (kind, score) = (line["kind"].as_str().unwrap(), line["score"].as_str().unwrap());
    let (name, sign) = score.split_at(score.len() - 1);
    let (scores, severities): (&[&str], &[&str]) = match kind {
        "hard" => (&["missing", "flat", "out-of-range", "unknown-category"], &["alarm"]),
        "step" => (&["location", "mean", "spread", "roughness", "flat", "missing"], &["alarm", "notice"]),
        "concurrent" => (&["mean", "roughness", "flat", "missing"], &["alarm"]),
        "pooled" => (&["location", "mean", "spread", "roughness", "flat", "missing"], &["alarm"]),
        "calibration" => (&["errors-by-confidence"], &["critical"]),
        "slo" => (&["errors"], &["alarm"]),
        "estimate" => (&["estimated-error"], &["notice"]),
        _ => panic!("{line}"),
    };
    let (is_share, is_of_model) =
        (matches!(kind, "step" | "concurrent" | "pooled"), matches!(kind, "calibration" | "slo" | "estimate"));
    assert!(scores.contains(&name) || (is_share && name.starts_with("category:")), "{line}");
    assert!(sign == "+" || (sign == "-" && (is_share || kind == "estimate")), "{line}");
    assert!(severities.contains(&line["severity"].as_str().unwrap()), "{line}");
    assert_eq!(line["feature"].is_null(), is_of_model, "{line}");
}

fn is_summary(line: &Value) {
    assert_eq!(members(line).len(), 4, "{line}");
    assert!(line["windows"].is_u64() && line["alarms"].is_u64());
    for feature in line["features"].as_array().unwrap() {
        assert!(
            members(feature).len() == 3 && feature["name"].is_string() && feature["covered"].is_boolean(),
            "{line}"
        );
        assert!(feature["mde"].is_null() || feature["mde"].is_f64(), "{line}");
    }
}

#[test]
fn a_season_is_learned_quiet_stays_quiet_and_faults_are_found() {
    let reference = hourly(3, 0, 730, plain);
    let live = hourly(4, 730, 200, plain);
    // From day 800 on the sensor reads too much; from day 850 it is stuck.
    let faulty = hourly(4, 730, 200, |hour, value| {
        let bias = if hour >= 800 * 24 { 3.0 } else { 0.0 };
        Some(if hour >= 850 * 24 { "21.5".into() } else { format!("{:.3}", value + bias) })
    });
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live), ("faulty.csv", &faulty)]);
    let fitted = bench.decay("fit --reference ref.csv --time-column time -o p.json --output json").json();
    assert_eq!((&fitted["windows"], &fitted["basis"]), (&json!(730), &json!("time-ordered")));
    let feature = &fitted["features"][0];
    assert_eq!((&feature["name"], &feature["covered"]), (&json!("temperature"), &json!(true)));
    assert!(feature["mde"].as_f64().unwrap() < 1.0, "{feature}");
    assert_eq!((&fitted["features"][1]["kind"], &fitted["features"][1]["mde"]), (&json!("categorical"), &Value::Null));
    assert!(bench.read("p.json").unwrap().len() < 2 * 1_200 + 400, "1.2 kB a feature");

    let (alarms, summary) = lines(&bench.decay("replay --profile p.json --stream live.csv --time-column time --json"));
    assert_eq!((alarms.len(), &summary["windows"]), (0, &json!(200)), "{alarms:?}");
    assert_eq!(summary["features"][0], json!({"name": "temperature", "mde": feature["mde"], "covered": true}));

    let (alarms, _) = lines(&bench.decay("replay --profile p.json --stream faulty.csv --time-column time --json"));
    let first = &alarms[0];
    assert!((71..=76).contains(&first["window"].as_u64().unwrap()), "{first}");
    assert_eq!(
        (&first["kind"], &first["feature"], &first["device"]),
        (&json!("step"), &json!("temperature"), &Value::Null)
    );
    assert!(first["evidence"].as_f64().unwrap() > 0.0 && first["severity"] == "alarm", "{first}");
    let raised = alarms.iter().find(|alarm| alarm["score"] == "mean+" || alarm["score"] == "location+");
    assert!(raised.is_some_and(|alarm| alarm["window"].as_u64().unwrap() <= 76), "{alarms:?}");
    let stuck = alarms.iter().find(|alarm| alarm["score"] == "flat+" && alarm["kind"] == "hard").unwrap();
    assert_eq!((&stuck["window"], &stuck["start"]), (&json!(120), &json!("2023-05-01T00:00:00Z")));
    assert!(alarms.iter().all(|alarm| alarm["window"].as_u64().unwrap() >= 70), "{alarms:?}");

    let from_rows = bench.decay("replay --reference ref.csv --stream faulty.csv --time-column time --json");
    assert_eq!(lines(&from_rows).0, alarms, "a profile is what its reference is");

    let drawn =
        bench.decay("plot --profile p.json --stream faulty.csv --time-column time -o faulty.svg --output json").json();
    assert_eq!((&drawn["windows"], &drawn["alarms"]), (&json!(200), &json!(alarms.len())));
    let svg = String::from_utf8(bench.read("faulty.svg").unwrap()).unwrap();
    assert!(svg.contains("temperature: mean") && svg.contains("<polygon") && svg.trim_end().ends_with("</svg>"));
    let unknown = bench.decay("plot --profile p.json --stream live.csv --time-column time --feature none -o no.svg");
    assert!(unknown.refused().contains("watches no \"none\"") && bench.read("no.svg").is_none());
}

#[test]
fn a_half_year_says_so_and_stands_still_outside_it() {
    let reference = hourly(5, 0, 182, plain);
    let live = hourly(6, 182, 183, plain);
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let outcome = bench.decay("replay --reference ref.csv --stream live.csv --time-column time --json");
    let (alarms, summary) = lines(&outcome);
    assert!(alarms.is_empty(), "{alarms:?}");
    assert_eq!(summary["features"][0]["covered"], false);
    let fitted = bench.decay("fit --reference ref.csv --time-column time -o p.json");
    assert!(fitted.err.contains("does not span the calendar year without a hole of over 30 days"), "{}", fitted.err);
}

#[test]
fn rows_that_should_be_there_and_are_not_are_missing() {
    let reference = hourly(7, 0, 400, plain);
    let gaps = hourly(8, 400, 40, |hour, value| plain(hour, value).filter(|_| hour < 420 * 24 || hour % 2 == 0));
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &gaps)]);
    for window in ["", " --window rows:48"] {
        let line = format!("replay --reference ref.csv --stream live.csv --time-column time --json{window}");
        let (alarms, _) = lines(&bench.decay(&line));
        let missing = alarms.iter().find(|alarm| alarm["score"] == "missing+").unwrap();
        let first = missing["window"].as_u64().unwrap();
        assert!(if window.is_empty() { first == 20 } else { (10..13).contains(&first) }, "{alarms:?}");
        assert!(alarms.iter().all(|alarm| alarm["window"].as_u64().unwrap() >= first.min(10)));
    }
}

#[test]
fn days_without_a_row_show_in_the_day_after() {
    let reference = hourly(7, 0, 400, plain);
    let hole = hourly(8, 400, 40, |hour, value| plain(hour, value).filter(|_| !(410 * 24..413 * 24).contains(&hour)));
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &hole)]);
    let (alarms, summary) =
        lines(&bench.decay("replay --reference ref.csv --stream live.csv --time-column time --json"));
    assert_eq!(summary["windows"], 37);
    assert!(alarms.iter().all(|alarm| alarm["window"] == 10 && alarm["score"] == "missing+"), "{alarms:?}");
    assert_eq!(alarms.len(), 2, "one of each feature");
}

#[test]
fn rows_without_times_are_taken_as_stated() {
    let rows = |seed, count, shift: f64| {
        let mut noise = Noise(seed);
        (0..count).fold("x\n".to_owned(), |text, _| format!("{text}{:.4}\n", noise.normal() + shift))
    };
    let bench = Bench::new(&[("ref.csv", &rows(9, 6_000, 0.0)), ("live.csv", &rows(10, 1_050, 1.0))]);
    let fitted = bench.decay("fit --reference ref.csv --window rows:100 -o p.json --output json");
    assert!(fitted.err.contains("independent of order and season"), "{}", fitted.err);
    assert_eq!(fitted.json()["basis"], "iid, stated");
    let (alarms, summary) = lines(&bench.decay("replay --profile p.json --stream live.csv --json"));
    assert_eq!(
        (&summary["windows"], &summary["features"][0]["covered"]),
        (&json!(10), &json!(false)),
        "50 rows are no window"
    );
    assert_eq!((&alarms[0]["window"], &alarms[0]["start"]), (&json!(1), &Value::Null));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_line_and_nothing_is_written() {
    let short = hourly(21, 0, 49, plain);
    let good = hourly(21, 0, 60, plain);
    let mut rows: Vec<&str> = good.lines().collect();
    rows.swap(40, 41);
    let disordered = rows.join("\n");
    let timeless = good.replacen("2021-01-01T05:00:00Z", "noon", 1);
    let ragged = good.replacen("on\n", "on,1\n", 1);
    let (open, semicolons) = (good.replacen("on\n", "\"on\n", 1), good.replace(',', ";"));
    let bench = Bench::new(&[
        ("short.csv", &short),
        ("good.csv", &good),
        ("disordered.csv", &disordered),
        ("timeless.csv", &timeless),
        ("ragged.csv", &ragged),
        ("empty.csv", ""),
        ("header.csv", "time,temperature,state\n"),
        ("open.csv", &open),
        ("semicolons.csv", &semicolons),
    ]);
    for (file, more, reason) in [
        ("short.csv", "", "learning 49 of 50 windows"),
        ("disordered.csv", "", "line 42: time: the time is before"),
        ("timeless.csv", "", "line 7: time: \"noon\" is no time"),
        ("ragged.csv", "", "cells, but the header names 3: quote"),
        ("empty.csv", "", "the file is empty"),
        ("none.csv", "", "opening"),
        ("header.csv", "", "header.csv: no row follows the header"),
        ("open.csv", "", "the file ends within quotes"),
        ("semicolons.csv", "", "separate columns by commas"),
        ("good.csv", " --arl nan", "--arl NaN: windows between false alarms are at least 1, at most 1000000000"),
        ("good.csv", " --arl -1", "at least 1"),
        ("good.csv", " --arl 5e-1", "at least 1"),
        ("good.csv", " --arl 1e12", "at most 1000000000"),
        ("good.csv", " --arl inf", "at most 1000000000"),
        ("good.csv", " --ignore other", "names no column \"other\""),
        ("good.csv", " --ignore time", "named by two options"),
        ("good.csv", " --ignore temperature,state", "nothing is left"),
        ("good.csv", " --arl 0", "at least 1"),
    ] {
        let outcome = bench.decay(&format!("fit --reference {file} --time-column time -o p.json{more}"));
        assert!(outcome.refused().contains(reason), "{reason}: {}", outcome.err);
        assert!(bench.read("p.json").is_none(), "{file}{more}");
    }
    for window in ["day", "week"] {
        let timed = bench.decay(&format!("fit --reference good.csv --ignore time --window {window} -o p.json"));
        assert!(timed.refused().contains("--time-column") && bench.read("p.json").is_none(), "{}", timed.err);
    }
    fs::create_dir(bench.folder.path().join("taken.d")).unwrap();
    for (out, reason) in [
        ("none.d/p.json", "none.d: make it first"),
        ("taken.d", "taken.d: it is a folder: name a file in it"),
        ("good.csv", "good.csv: it is one of the files to read, and would be lost"),
        ("taken.d/../good.csv", "it is one of the files to read, and would be lost"),
    ] {
        let outcome = bench.decay(&format!("fit --reference good.csv --time-column time -o {out}"));
        assert!(outcome.refused().contains("writing") && outcome.err.contains(reason), "{}", outcome.err);
    }
    assert_eq!(bench.read("good.csv").unwrap(), good.as_bytes());
    assert_eq!(fs::read_dir(bench.folder.path().join("taken.d")).unwrap().count(), 0);
    assert_eq!(bench.decay("fit --reference good.csv --time-column time -o p.json").code, 0);
    for (more, reason) in [
        ("--time-column time --window rows:9", "--window is not the profile's, which is day"),
        ("--time-column time --utc-offset +01:00", "--utc-offset is not the profile's, which is +00:00"),
        ("--time-column time --arl 500", "--arl is not the profile's"),
        ("--ignore time", "--time-column"),
    ] {
        let outcome = bench.decay(&format!("replay --profile p.json --stream good.csv --json {more}"));
        assert!(outcome.refused().contains(reason), "{reason}: {}", outcome.err);
    }
    let same = "replay --profile p.json --stream good.csv --json --time-column time --window day --utc-offset +00:00";
    assert_eq!(lines(&bench.decay(&format!("{same} --arl 1000"))).1["windows"], 60);
}

#[test]
fn a_plot_marks_categories_by_their_whole_names_and_needs_a_window() {
    let rows = |seed, count, limit: f64| {
        let mut noise = Noise(seed);
        (0..count).fold("grade\n".to_owned(), |text, _| text + if noise.normal() < limit { "A+\n" } else { "A-\n" })
    };
    let (reference, live) = (rows(22, 6_000, 0.0), rows(23, 2_000, 1.0));
    let short = rows(24, 99, 0.0);
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live), ("short.csv", &short)]);
    assert_eq!(bench.decay("fit --reference ref.csv --window rows:100 -o p.json").code, 0);
    let (alarms, _) = lines(&bench.decay("replay --profile p.json --stream live.csv --json"));
    let crossed = alarms.iter().filter(|alarm| alarm["kind"] == "step").count();
    assert!(
        crossed > 0 && alarms.iter().any(|alarm| alarm["score"] == "category:A--" || alarm["score"] == "category:A++"),
        "{alarms:?}"
    );
    let drawn = bench.decay("plot --profile p.json --stream live.csv -o live.svg --output json").json();
    let svg = String::from_utf8(bench.read("live.svg").unwrap()).unwrap();
    assert_eq!((svg.matches("<polygon").count(), &drawn["alarms"]), (crossed, &json!(alarms.len())));
    assert_eq!(drawn["plots"], svg.matches("<polyline").count());
    let none = bench.decay("plot --profile p.json --stream short.csv -o short.svg");
    assert!(none.refused().contains("no whole window") && bench.read("short.svg").is_none(), "{}", none.err);
}

#[test]
fn a_stream_that_is_not_like_its_profile_is_said_to_be_or_refused() {
    let reference = hourly(25, 0, 60, plain);
    let live = hourly(26, 60, 10, |hour, value| if hour == 1_450 { Some("warm".into()) } else { plain(hour, value) });
    let mut more: Vec<String> = live.lines().map(|line| format!("{line},1,1")).collect();
    more[0] = "time,temperature,state,label,answer".into();
    let mut back: Vec<&str> = live.lines().collect();
    back.swap(100, 101);
    // A clock that jumps four centuries ahead in the middle of a day.
    let ahead = format!("{live}2400-01-01T00:00:00Z,1.0,on\n");
    let bench = Bench::new(&[
        ("ref.csv", &reference),
        ("live.csv", &live),
        ("more.csv", &more.join("\n")),
        ("less.csv", &live.replace("temperature", "t")),
        ("back.csv", &back.join("\n")),
        ("ahead.csv", &ahead),
        ("text.json", "no profile"),
    ]);
    assert_eq!(bench.decay("fit --reference ref.csv --time-column time -o p.json").code, 0);
    let replay = |profile: &str, stream: &str, more: &str| {
        bench.decay(&format!("replay --profile {profile} --stream {stream} --time-column time --json{more}"))
    };
    let odd = replay("p.json", "live.csv", "");
    assert!(odd.err.contains("line 12: temperature: \"warm\" is no number; counted as missing"), "{}", odd.err);
    assert_eq!(lines(&odd).1["windows"], 10);
    let unwatched = replay("p.json", "more.csv", "");
    assert!(unwatched.err.contains("does not watch: [\"label\", \"answer\"]"), "{}", unwatched.err);
    let labels = replay("p.json", "more.csv", " --label-column label --prediction-column answer");
    assert!(labels.err.contains("fitted without labels") && !labels.err.contains("watch"), "{}", labels.err);
    let (alarms, summary) = lines(&replay("p.json", "ahead.csv", ""));
    assert_eq!(summary["windows"], 11);
    assert!(alarms.iter().any(|alarm| alarm["window"] == 10 && alarm["score"] == "missing+"), "{alarms:?}");
    let whole = String::from_utf8(bench.read("p.json").unwrap()).unwrap();
    let damaged = whole.replace("\"utc_offset\":0", "\"utc_offset\":-2147483648");
    assert_ne!(whole, damaged);
    fs::write(bench.folder.path().join("damaged.json"), damaged).unwrap();
    for (profile, stream, reason) in [
        ("p.json", "less.csv", "names no column \"temperature\""),
        ("p.json", "back.csv", "the time is before that of the row above"),
        ("text.json", "live.csv", "is no profile"),
        ("none.json", "live.csv", "there is no profile"),
        ("damaged.json", "live.csv", "calendar"),
    ] {
        let outcome = replay(profile, stream, "");
        assert_eq!(outcome.code, 1);
        assert!(outcome.err.contains(reason), "{reason}: {}", outcome.err);
    }
}

#[test]
fn a_watched_column_that_the_stream_lacks_can_be_ignored() {
    let lacking = hourly(30, 60, 10, plain).replace("temperature", "t");
    let bench = Bench::new(&[("ref.csv", &hourly(29, 0, 60, plain)), ("live.csv", &lacking)]);
    assert_eq!(bench.decay("fit --reference ref.csv --time-column time -o p.json").code, 0);
    let replay =
        |more: &str| bench.decay(&format!("replay --profile p.json --stream live.csv --time-column time --json{more}"));
    let refused = replay("");
    let told = "names no column \"temperature\", but time, t, state: add it, or leave it out by --ignore temperature";
    assert!(refused.code == 1 && refused.err.contains(told), "{}", refused.err);
    assert_eq!(lines(&replay(" --ignore temperature")).1["windows"], 10);
    let slip = replay(" --ignore temprature");
    assert!(slip.code == 1 && slip.err.contains("--ignore temprature: neither"), "{}", slip.err);
}

#[test]
fn what_is_ignored_is_not_judged_and_no_whole_window_is_said() {
    let reference = hourly(29, 0, 60, plain);
    let stuck = hourly(30, 60, 10, |_, _| Some("99.0".into()));
    let bench =
        Bench::new(&[("ref.csv", &reference), ("live.csv", &stuck), ("header.csv", "time,temperature,state\n")]);
    assert_eq!(bench.decay("fit --reference ref.csv --time-column time -o p.json").code, 0);
    let replay = |profile: &str, stream: &str, more: &str| {
        bench.decay(&format!("replay --profile {profile} --stream {stream} --time-column time --json{more}"))
    };
    let of_temperature = |alarms: &[Value]| alarms.iter().filter(|alarm| alarm["feature"] == "temperature").count();
    let (alarms, _) = lines(&replay("p.json", "live.csv", ""));
    assert!(of_temperature(&alarms) > 0);
    let ignoring = replay("p.json", "live.csv", " --ignore temperature");
    let (alarms, summary) = lines(&ignoring);
    let features = summary["features"].as_array().unwrap();
    assert_eq!((of_temperature(&alarms), features.len(), &features[0]["name"]), (0, 1, &json!("state")));
    assert_eq!((&summary["windows"], ignoring.err.as_str()), (&json!(10), ""));
    let plot = "plot --profile p.json --stream live.csv --time-column time -o live.svg --ignore temperature";
    assert_eq!(bench.decay(plot).code, 0);
    let svg = String::from_utf8(bench.read("live.svg").unwrap()).unwrap();
    assert!(svg.contains("state: ") && !svg.contains("temperature"));
    let nothing = replay("p.json", "live.csv", " --ignore temperature,state");
    assert!(nothing.refused().contains("--ignore leaves out all"), "{}", nothing.err);

    let empty = replay("p.json", "header.csv", "");
    assert_eq!(lines(&empty).1["windows"], 0);
    assert!(empty.err.contains("no whole window: nothing was judged"), "{}", empty.err);
}

#[test]
fn times_and_numbers_with_a_slip_are_no_categories() {
    let good = hourly(31, 0, 60, plain);
    let slip = hourly(31, 0, 60, |hour, value| if hour == 700 { Some("abc".into()) } else { plain(hour, value) });
    let twice: Vec<String> = good.lines().map(|line| format!("{line},{}", line.split(',').next().unwrap())).collect();
    let twice = twice.join("\n").replacen("state,time", "state,sent", 1);
    let bench = Bench::new(&[("good.csv", &good), ("slip.csv", &slip), ("twice.csv", &twice)]);
    let fit = |line: &str| bench.decay(&format!("fit -o p.json --window rows:24 --reference {line}"));
    for (line, reason) in [
        (
            "good.csv",
            "column \"time\" looks like times: name it by --time-column time, or leave it out by --ignore time",
        ),
        ("twice.csv --time-column time", "column \"sent\" looks like times: leave it out by --ignore sent"),
        (
            "slip.csv --time-column time",
            "line 702: temperature: \"abc\" is no number, as 1439 of the column's 1440 cells",
        ),
    ] {
        let outcome = fit(line);
        assert!(outcome.refused().contains(reason), "{reason}: {}", outcome.err);
        assert!(bench.read("p.json").is_none(), "{line}");
    }
    let stated = fit("slip.csv --time-column time --categorical temperature");
    assert!(!stated.err.contains("is no number"), "{}", stated.err);
    assert_eq!(fit("good.csv --ignore time").code, 0);
    assert_eq!(fit("twice.csv --time-column time --ignore sent").code, 0);
}

#[test]
fn every_error_ends_with_one_and_nothing_on_standard_output() {
    let bench = Bench::new(&[("ref.csv", &hourly(32, 0, 60, plain))]);
    assert_eq!(bench.decay("fit --reference ref.csv --time-column time -o p.json").code, 0);
    for line in [
        "fit --reference ref.csv --time-column time -o q.json --window rows:0",
        "fit --reference ref.csv --time-column time -o q.json --utc-offset +25:00",
        "fit --reference ref.csv -o q.json --label-column state",
        "fit --reference ref.csv -o q.json --arl many",
        "replay --profile p.json --time-column time --json",
        "replay --stream ref.csv --time-column time --json",
        "replay --profile p.json --reference ref.csv --stream ref.csv --time-column time --json",
        "replay --profile p.json --stream ref.csv --time-column time --cohort --json",
        "plot --profile p.json --stream ref.csv --time-column time",
        "replay --profile p.json --stream ref.csv --time-column none --json",
        "plot --profile p.json --stream ref.csv --time-column time -o p.json",
        "plot --profile p.json --stream ref.csv --time-column time -o ref.csv",
    ] {
        let outcome = bench.decay(line);
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{line}: {}", outcome.err);
        assert!(outcome.err.starts_with("error: ") && bench.read("q.json").is_none(), "{line}: {}", outcome.err);
    }
    assert_eq!(bench.decay("replay --help").code, 0);
}

#[test]
fn a_whole_year_is_the_same_to_fit_and_replay() {
    let (year, part) = (hourly(33, 0, 366, plain), hourly(33, 0, 200, plain));
    // Two years, both without the same 40 days.
    let hole =
        hourly(33, 0, 732, |hour, value| plain(hour, value).filter(|_| !(100..140).contains(&(hour / 24 % 366))));
    let bench = Bench::new(&[("year.csv", &year), ("part.csv", &part), ("hole.csv", &hole)]);
    for (file, options, covered, words) in [
        ("year.csv", "--time-column time", true, "whole year"),
        ("part.csv", "--time-column time", false, "part of the year"),
        ("hole.csv", "--time-column time", false, "part of the year"),
        ("year.csv", "--ignore time --window rows:24", false, "unknown"),
    ] {
        let fitted = bench.decay(&format!("fit --reference {file} {options} -o p.json"));
        let replayed = bench.decay(&format!("replay --profile p.json --stream {file} {options}"));
        for outcome in [&fitted, &replayed] {
            let row = outcome.out.lines().find(|line| line.starts_with("temperature ")).unwrap();
            assert!(row.contains(words), "{file} {options}: {}", outcome.out);
        }
        let fitted = bench.decay(&format!("fit --reference {file} {options} -o p.json --output json")).json();
        let (_, summary) = lines(&bench.decay(&format!("replay --profile p.json --stream {file} {options} --json")));
        for features in [&fitted["features"], &summary["features"]] {
            assert!(
                features.as_array().unwrap().iter().all(|feature| feature["covered"] == covered),
                "{file}: {features}"
            );
        }
    }
}

#[test]
fn windows_and_starts_are_the_devices_own() {
    let reference = hourly(34, 0, 60, plain);
    // The stream begins at noon UTC; from day 65 on a value is stuck, and days 62 and 63 have no row.
    let live = hourly(35, 60, 10, |hour, value| {
        let is_there = hour >= 60 * 24 + 12 && !(62 * 24..64 * 24).contains(&hour);
        let cell = if hour >= 65 * 24 { "9.5".into() } else { format!("{value:.3}") };
        is_there.then_some(cell)
    });
    let bench = Bench::new(&[("ref.csv", &reference), ("live.csv", &live)]);
    let run = |more: &str| {
        let line = format!("replay --reference ref.csv --stream live.csv --time-column time --json {more}");
        lines(&bench.decay(&line))
    };
    let of = |alarms: &[Value], score: &str| -> Vec<(u64, String)> {
        let own = alarms.iter().filter(|alarm| alarm["score"] == score && alarm["feature"] == "temperature");
        own.map(|alarm| (alarm["window"].as_u64().unwrap(), alarm["start"].as_str().unwrap().to_owned())).collect()
    };
    let (alarms, summary) = run("--window day");
    assert_eq!(summary["windows"], 8);
    assert_eq!(of(&alarms, "missing+")[0], (2, "2021-03-06T00:00:00Z".to_owned()), "days without a row are no windows");
    assert_eq!(of(&alarms, "flat+")[0], (3, "2021-03-07T00:00:00Z".to_owned()));
    let (alarms, summary) = run("--window day --utc-offset +05:30");
    assert_eq!(summary["windows"], 10, "two of them a part of a day at the edge of the hole");
    assert!(of(&alarms, "flat+")[0].1.ends_with("T00:00:00+05:30"), "{alarms:?}");
    // 180 rows: seven windows of 25, and five rows that are none.
    let (alarms, summary) = run("--window rows:25");
    assert_eq!(summary["windows"], 7);
    let (window, start) = &of(&alarms, "flat+")[0];
    assert!(*window == 2 && start == "2021-03-06T14:00:00Z", "15 rows of 25 are stuck: {window} {start}");
}
