//! Right answers in the rows: what is learned of errors, and what is said of them.

use super::*;

#[test]
fn labels_tell_a_broken_model() {
    let rows = |seed, count: usize, errors: usize| {
        let mut noise = Noise(seed);
        let mut text = String::from("x,label,prediction,confidence\n");
        for i in 0..count {
            let (sure, draw) = (i % 2 == 0, noise.normal());
            let wrong = draw > if sure { 2.0 } else { 1.0 } || (errors > 0 && i % errors == 0);
            let label = if i % 10 == 9 {
                ""
            } else if wrong {
                "1.0"
            } else {
                "2"
            };
            writeln!(text, "{:.4},{label},2.0,{}", noise.normal(), if sure { 0.95 } else { 0.7 }).unwrap();
        }
        text
    };
    let columns =
        "--label-column label --prediction-column prediction --confidence-column confidence --window rows:200";
    let bench = Bench::new(&[
        ("ref.csv", &rows(11, 20_000, 0)),
        ("live.csv", &rows(12, 8_000, 0)),
        ("broken.csv", &rows(13, 8_000, 5)),
    ]);
    let run = |stream| lines(&bench.decay(&format!("replay --reference ref.csv --stream {stream} {columns} --json"))).0;
    assert_eq!(run("live.csv"), Vec::<Value>::new());
    let alarms = run("broken.csv");
    let first = |kind: &str| alarms.iter().find(|alarm| alarm["kind"] == kind).unwrap().clone();
    let calibration = first("calibration");
    assert!(calibration["window"].as_u64().unwrap() <= 3 && calibration["feature"].is_null(), "{calibration}");
    assert_eq!(
        (&calibration["severity"], &calibration["score"]),
        (&json!("critical"), &json!("errors-by-confidence+"))
    );
    assert_eq!(first("slo")["severity"], "alarm");
}

#[test]
fn labels_that_are_no_class_are_refused_and_the_error_rate_is_told() {
    let rows = |names: [&str; 2]| {
        let row = |i: usize| format!("{},{},{}\n", i * 37 % 101, names[i % 2], usize::from(i.is_multiple_of(10)));
        format!("x,y,pred\n{}", (0..2_000).map(row).collect::<String>())
    };
    let bench = Bench::new(&[("words.csv", &rows(["dry", "wet"])), ("good.csv", &rows(["0", "1"]))]);
    let fit =
        |file| bench.decay(&format!("fit --reference {file} --label-column y --prediction-column pred -o p.json"));
    let words = fit("words.csv");
    assert!(words.refused().contains("words.csv: no label is the model's answer to any row"), "{}", words.err);
    assert!(words.err.contains("labels dry, wet, answers 0, 1: write labels as the model's classes"), "{}", words.err);
    assert!(bench.read("p.json").is_none());
    let good = fit("good.csv");
    assert!(good.out.contains("error rate 60.00 %: 1200 of 2000 labelled rows"), "{}{}", good.out, good.err);
}

#[test]
fn errors_alone_are_held_to_the_objective_and_rows_without_confidences_are_not_unsure_ones() {
    let rows = |seed, count: usize, chance: f64, sure: &str| {
        let mut noise = Noise(seed);
        (0..count).fold("x,label,prediction,confidence\n".to_owned(), |mut text, i| {
            let label = if noise.normal() > chance { "1" } else { "2" };
            let sure = if sure.is_empty() { format!("{}", 0.5 + 0.1 * (i % 5) as f64) } else { sure.into() };
            writeln!(text, "{:.4},{label},2,{sure}", noise.normal()).unwrap();
            text
        })
    };
    // One in ten beyond 1.28 deviations, one in five beyond .84.
    let bench = Bench::new(&[
        ("ref.csv", &rows(11, 20_000, 1.28, "")),
        ("unsure.csv", &rows(11, 20_000, 1.28, "NaN")),
        ("live.csv", &rows(12, 20_000, 1.28, "")),
        ("broken.csv", &rows(13, 8_000, 0.84, "")),
    ]);
    let labels = "--label-column label --prediction-column prediction";
    let fit = |reference: &str, more: &str| {
        let line = format!("fit --reference {reference} {labels}{more} --window rows:200 -o p.json");
        assert_eq!(bench.decay(&line).code, 0);
        serde_json::from_slice::<Value>(&bench.read("p.json").unwrap()).unwrap()
    };
    let run = |stream: &str, columns: &str| {
        let outcome = bench.decay(&format!("replay --profile p.json --stream {stream} {columns} --json"));
        (lines(&outcome).0, outcome.err)
    };
    let kinds = |alarms: &[Value]| -> Vec<String> {
        let mut kinds: Vec<_> = alarms.iter().map(|alarm| alarm["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    for (reference, more) in [("ref.csv", " --ignore confidence"), ("unsure.csv", " --confidence-column confidence")] {
        let profile = fit(reference, more);
        assert!(profile["confidence"].is_null() && profile["objective"].as_f64().is_some_and(|o| o > 0.1 && o < 0.16));
        let columns = format!("{labels} --ignore confidence");
        let (alarms, told) = run("broken.csv", &columns);
        assert_eq!((kinds(&alarms), &alarms[0]["score"]), (vec!["slo".to_owned()], &json!("errors+")));
        assert!(alarms[0]["window"].as_u64().unwrap() <= 3, "{}", alarms[0]);
        assert!(told.contains("held to the objective alone"), "{told}");
        assert_eq!(run("live.csv", &columns).0, Vec::<Value>::new());
    }
    // A profile of confidences, a stream whose column of them is not named: no row of it is an unsure one.
    fit("ref.csv", " --confidence-column confidence");
    assert_eq!(run("live.csv", "--ignore label,prediction,confidence").0, Vec::<Value>::new());
    assert_eq!(run("live.csv", &format!("{labels} --ignore confidence")).0, Vec::<Value>::new());
    assert_eq!(kinds(&run("broken.csv", &format!("{labels} --ignore confidence")).0), ["slo"]);
    let all = run("broken.csv", &format!("{labels} --confidence-column confidence")).0;
    assert_eq!(kinds(&all), ["calibration", "slo"]);
}

#[test]
fn labels_that_say_little_are_told() {
    let rows = |label: &dyn Fn(usize) -> String, answer: &dyn Fn(usize) -> String| {
        (0..3_000)
            .fold("x,y,p\n".to_owned(), |text, i| text + &format!("{},{},{}\n", i * 37 % 101, label(i), answer(i)))
    };
    let digit = |i: usize| (i * 7 % 3).to_string();
    let bench = Bench::new(&[
        ("right.csv", &rows(&digit, &digit)),
        ("constant.csv", &rows(&|_| "1".into(), &|_| "1".into())),
        ("none.csv", &rows(&|_| String::new(), &digit)),
        ("decimal.csv", &rows(&|i| format!("0.{}", i % 50), &|i| format!("0.{}", i * 7 % 51))),
        ("other.csv", &rows(&|i| ["a", "b", "c"][i * 7 % 3].into(), &digit)),
    ]);
    let fit = |file: &str| {
        let columns = "--label-column y --prediction-column p --window rows:50";
        bench.decay(&format!("fit --reference {file} {columns} -o p.json"))
    };
    assert!(fit("none.csv").err.contains("no row has a label"));
    assert!(fit("decimal.csv").err.contains("% of the labelled rows are answered otherwise"));
    for file in ["constant.csv", "right.csv"] {
        let told = fit(file);
        assert!(told.out.contains("error rate 0.00 %") && !told.err.contains("answered otherwise"), "{}", told.err);
        assert!(told.err.contains("without confidences labels are held to the objective alone"), "{}", told.err);
    }
    let live = bench.decay("replay --profile p.json --stream other.csv --label-column y --prediction-column p --json");
    let (alarms, _) = lines(&live);
    assert!(alarms.iter().all(|alarm| alarm["kind"] == "slo") && !alarms.is_empty(), "{alarms:?}");
    assert!(live.err.contains("labels a, b, c, answers 0, 1, 2: write labels as the model's classes"), "{}", live.err);
}
