//! Labels that come after their predictions: what becomes of each, and what control hears of them.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tern_protocol::{
    frames::{LateLabels, Limits, Slot},
    report::v1::ErrorKind,
};

use crate::{
    client::{Client, Reply, digits_request},
    fixture::{Bench, Bundle, LIMITS, label, pixels},
};

fn send(client: &mut Client, items: &Value) -> Reply {
    client.post("/v2/models/meter-digits/feedback", "", json!({"feedback": items}).to_string().as_bytes())
}

fn statuses(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    json["feedback"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap().to_owned()).collect()
}

/// Asks under this id and returns the one in the reply.
fn ask(client: &mut Client, id: Option<&str>, sets: &[usize]) -> String {
    let rows: Vec<f32> = sets.iter().flat_map(|set| pixels(*set)).collect();
    let mut body = digits_request(&rows);
    body["id"] = json!(id);
    let reply = client.infer("meter-digits", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_label_is_told_what_became_of_it() {
    let mut bench = Bench::start(LIMITS, &[&Bundle::watched("1.0.0")]).await;
    let mut client = Client::unix(&bench.socket);
    assert_eq!(ask(&mut client, Some("mine"), &[0, 1]), "mine");
    let made = ask(&mut client, None, &[2]);
    let other = ask(&mut client, Some(""), &[3]);
    assert!(!made.is_empty() && !other.is_empty() && made != other, "{made} {other}");

    let wrong = (label(1) + 1) % 10;
    let reply = send(
        &mut client,
        &json!([
            {"id": "mine", "label": label(0)},
            {"id": "mine", "row": 1, "label": wrong.to_string()},
            {"id": "mine", "row": 1, "label": label(1)},
            {"id": "mine", "row": 2, "label": 1},
            {"id": made, "row": 0, "label": label(2).to_string()},
            {"id": "nobody's", "label": 1},
        ]),
    );
    assert_eq!(reply.status, 200);
    let fates = ["accepted", "accepted", "already-labelled", "unknown-row", "accepted", "unknown-id"];
    assert_eq!(statuses(&reply), fates);
    assert_eq!(reply.json()["feedback"][1], json!({"id": "mine", "row": 1, "status": "accepted"}));
    let again = send(&mut client, &json!([{"id": "mine", "label": wrong}]));
    assert_eq!((again.status, statuses(&again)), (200, vec!["already-labelled".to_owned()]));
    let nobody = send(&mut client, &json!([{"id": "a", "label": 1}, {"id": "b", "label": 1}]));
    assert_eq!((nobody.status, statuses(&nobody)), (404, vec!["unknown-id".to_owned(); 2]));

    let counted = bench.increments(|sum| sum.labels.iter().map(|late| late.n).sum::<u64>() >= 3).await;
    assert_eq!(
        counted.labels.iter().map(|late| (late.n, late.errors)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (3, 1)
    );
    assert!(counted.errors.is_empty(), "feedback is no inference: {:?}", counted.errors);
    client.await_figure("tern_labels_total{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 3");
    client.await_figure("tern_label_errors_total{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 1");
    client.await_figure("tern_feedback_total{status=\"unknown-id\"} 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_of_a_wrong_kind_counts_nowhere_and_can_be_corrected() {
    let mut bench = Bench::start(LIMITS, &[&Bundle::watched("1.0.0")]).await;
    let mut client = Client::unix(&bench.socket);
    ask(&mut client, Some("mine"), &[0, 1]);
    let labels = [json!("three"), json!(8.5), json!(true), Value::Null, json!([1]), json!({"a": 1}), json!(1u64 << 63)];
    let mut items: Vec<Value> = labels.iter().map(|label| json!({"id": "mine", "label": label})).collect();
    items.push(json!({"id": "mine", "row": 1, "label": label(1)}));
    let reply = send(&mut client, &json!(items));
    let mut fates = vec!["bad-label"; labels.len()];
    fates.push("accepted");
    assert_eq!((reply.status, statuses(&reply)), (200, fates.iter().map(|fate| (*fate).to_owned()).collect()));
    let right = send(&mut client, &json!([{"id": "mine", "label": label(0)}]));
    assert_eq!((right.status, statuses(&right)), (200, vec!["accepted".to_owned()]));

    let counted = bench.increments(|sum| sum.labels.iter().map(|late| late.n).sum::<u64>() >= 2).await;
    let sum = counted.labels.iter().fold((0, 0), |(n, errors), late| (n + late.n, errors + late.errors));
    assert_eq!(sum, (2, 0));
    client.await_figure("tern_labels_total{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 2");
    client.await_figure("tern_label_errors_total{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 0");
    client.await_figure("tern_feedback_total{status=\"bad-label\"} 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_label_names_the_increment_and_the_bin_of_its_row() {
    let bundle = Bundle::watched("1.0.0");
    let profile: tern_stats::profile::Profile = serde_json::from_slice(&bundle.reference).unwrap();
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    // Three increments of one row; the label of the second comes after all of them.
    let mut numbers = Vec::new();
    for set in 0..3 {
        ask(&mut client, Some(&set.to_string()), &[set]);
        numbers.push(bench.increments(|sum| sum.rows >= 1).await);
    }
    assert_eq!(send(&mut client, &json!([{"id": "1", "label": label(1)}])).status, 200);
    let told = bench.increments(|sum| !sum.labels.is_empty()).await;
    let bin = numbers[1].sums.confidence.iter().position(|count| *count == 1).unwrap();
    assert!(bin < profile.confidence.unwrap().bins.len());
    let late = LateLabels { increment: numbers[1].number, bin: bin as u32, n: 1, errors: 0 };
    assert_eq!((told.rows, told.inferences, &told.labels[..]), (0, 0, &[late][..]));
    assert!(told.number > numbers[2].number);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_an_answer_may_label_it_at_once() {
    let mut bench = Bench::start(Limits { threads: 4, ..LIMITS }, &[&Bundle::watched("1.0.0")]).await;
    let clients: Vec<_> = (0..3usize)
        .map(|number| {
            let socket = bench.socket.clone();
            std::thread::spawn(move || {
                let mut client = Client::unix(&socket);
                for i in 0..40 {
                    let id = ask(&mut client, None, &[(number + i) % 16]);
                    let reply = send(&mut client, &json!([{"id": id, "label": label((number + i) % 16)}]));
                    assert_eq!((reply.status, statuses(&reply)), (200, vec!["accepted".to_owned()]));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let counted = bench.increments(|sum| sum.labels.iter().map(|late| late.n).sum::<u64>() >= 120).await;
    assert_eq!(counted.labels.iter().map(|late| late.errors).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_feedback_is_refused_with_words() {
    let mut mute = Bundle::digits("1.0.0");
    mute.manifest["model"] = "demo/mute@1.0.0".into();
    let bench = Bench::start(Limits { request_bytes: 1 << 16, ..LIMITS }, &[&Bundle::watched("1.0.0"), &mute]).await;
    let mut client = Client::unix(&bench.socket);
    let path = "/v2/models/meter-digits/feedback";
    for (body, words) in [
        ("", "malformed feedback"),
        ("{}", "missing field `feedback`"),
        (r#"{"feedback": []}"#, "feedback holds no label"),
        (r#"{"feedback": [{"id": "a"}]}"#, "missing field `label`"),
        (r#"{"feedback": [{"id": 3, "label": 1}]}"#, "invalid type"),
        (r#"{"feedback": [{"id": "a", "label": [1}]}"#, "malformed feedback"),
    ] {
        let reply = client.post(path, "", body.as_bytes());
        assert_eq!((reply.status, reply.error().contains(words)), (400, true), "{}", reply.error());
    }
    let short: Vec<Value> = (0..4097).map(|_| json!({"id": "", "label": 1})).collect();
    let reply = client.post(path, "", json!({"feedback": short}).to_string().as_bytes());
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(client.get(path).status, 405);
    let item = json!({"feedback": [{"id": "a", "label": 1}]}).to_string();
    assert_eq!(
        client.post("/v2/models/nobody/feedback", "", item.as_bytes()).error(),
        "no model `nobody` on this device"
    );
    let other = client.post("/v2/models/meter-digits/versions/2.0.0/feedback", "", item.as_bytes());
    assert_eq!((other.status, other.error().contains("`1.0.0` answers")), (404, true));

    // A model whose contract names no prediction can be neither right nor wrong.
    let body = digits_request(&pixels(0));
    assert_eq!(client.infer("mute", &body).status, 200);
    let item = json!({"feedback": [{"id": "r-1", "label": 1}]}).to_string();
    let reply = client.post("/v2/models/mute/feedback", "", item.as_bytes());
    assert_eq!((reply.status, statuses(&reply)), (400, vec!["no-prediction".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_labels_than_rows_in_a_request_are_refused() {
    let bench = Bench::start(LIMITS, &[&Bundle::watched("1.0.0")]).await;
    let many: Vec<Value> = (0..4097).map(|_| json!({"id": "", "label": 1})).collect();
    let reply = send(&mut Client::unix(&bench.socket), &json!(many));
    assert_eq!((reply.status, reply.error().contains("at most 4096")), (400, true), "{}", reply.error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_replaced_still_takes_labels_until_it_is_drained() {
    let (old, new) = (Bundle::watched("1.0.0"), Bundle::watched("1.0.1"));
    let bench = Bench::start(LIMITS, &[&old]).await;
    let mut client = Client::unix(&bench.socket);
    ask(&mut client, Some("old"), &[0, 1]);
    bench.worker().load(Slot(2), new.opened()).await.unwrap();
    bench.worker().swap(Slot(2)).await.unwrap();
    ask(&mut client, Some("new"), &[1]);
    let both = json!([{"id": "old", "label": label(0)}, {"id": "new", "label": label(1)}]);
    assert_eq!(statuses(&send(&mut client, &both)), ["accepted", "accepted"]);
    let item = json!({"feedback": [{"id": "old", "row": 1, "label": 1}]}).to_string();
    let of = |client: &mut Client, version: &str| {
        client.post(&format!("/v2/models/meter-digits/versions/{version}/feedback"), "", item.as_bytes())
    };
    assert_eq!(of(&mut client, "1.0.1").status, 404);
    assert_eq!(of(&mut client, "1.0.0").status, 200);
    bench.worker().drain(Slot(1)).await.unwrap();
    assert_eq!(send(&mut client, &json!([{"id": "old", "row": 1, "label": 1}])).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_pushes_the_oldest_out_and_a_restart_forgets_all() {
    let bundle = Bundle::watched("1.0.0");
    let mut bench = Bench::start(Limits { request_bytes: 4 << 20, ..LIMITS }, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    let raw: Vec<u8> = (0..4096).flat_map(|_| pixels(0)).flat_map(f32::to_le_bytes).collect();
    for id in 0..40 {
        let parameters = json!({"binary_data_size": raw.len()});
        let input = json!({"name": "pixels", "shape": [4096, 8, 8], "datatype": "FP32", "parameters": parameters});
        let head = json!({"id": id.to_string(), "inputs": [input], "outputs": [{"name": "label"}]}).to_string();
        let headers = format!("Inference-Header-Content-Length: {}\r\n", head.len());
        let reply = client.post("/v2/models/meter-digits/infer", &headers, &[head.as_bytes(), &raw].concat());
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let first_and_last = json!([{"id": "0", "row": 9, "label": 1}, {"id": "39", "row": 4095, "label": 1}]);
    assert_eq!(statuses(&send(&mut client, &first_and_last)), ["unknown-id", "accepted"]);

    let pid = Pid::from_raw(bench.worker().pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    bench.started = bench.supervisor.start(vec![bundle.restore(1)]).await.unwrap();
    let mut client = Client::unix(&bench.socket);
    assert_eq!(send(&mut client, &json!([{"id": "39", "label": 1}])).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_number_is_a_failure_and_no_row() {
    let mut bundle = Bundle::slow(8, 1);
    bundle.manifest["contract"]["inputs"][0]["nan"] = "flag".into();
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let missing = json!({"id": "x", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [null]}]});
    assert_eq!(Client::unix(&bench.socket).infer("slow", &missing).status, 500);
    let counted = bench.increments(|sum| !sum.errors.is_empty()).await;
    assert_eq!((counted.errors[0].kind, counted.rows, counted.sums.rows), (ErrorKind::NotFinite, 0, 0));
}
