//! What the inference API refuses: the exact status, the words, and that it goes on serving.

use std::time::Duration;

use serde_json::{Value, json};
use tern_agent::clock::Moment;
use tern_protocol::{
    frames::{Limits, Slot},
    report::v1::ErrorKind,
};

use crate::{
    client::{Client, digits_request, request, slow_request},
    fixture::{Bench, Bundle, LIMITS, pixels},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_breach_of_the_contract_has_its_status_and_words() {
    let bundle = Bundle::digits("1.0.0");
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    let good = pixels(0);
    let with = |at: usize, value: Value| {
        let mut data = json!(good);
        data[at] = value;
        request("FP32", &json!([1, 8, 8]), &data)
    };
    let cases = [
        (request("FP64", &json!([1, 8, 8]), &json!(good)), "input `pixels` is FP32, got FP64"),
        (request("FP32", &json!([64]), &json!(good)), "input `pixels` has shape [-1, 8, 8], got [64]"),
        (request("FP32", &json!([1, 8, 7]), &json!(good)), "input `pixels` has shape [-1, 8, 8], got [1, 8, 7]"),
        (request("FP32", &json!([0, 8, 8]), &json!([])), "0 rows in one request: send 1 to 4096"),
        (request("FP32", &json!([5000, 8, 8]), &json!(good)), "5000 rows in one request"),
        (request("FP32", &json!([2, 8, 8]), &json!(good)), "holds 64 values, its shape [2, 8, 8] needs 128"),
        (request("FP32", &json!([1, 8, 8]), &json!(&good[1..])), "holds 63 values, its shape [1, 8, 8] needs 64"),
        (request("FP32", &json!([1, -8, 8]), &json!(good)), "malformed request"),
        (with(7, json!(16.5)), "`pixels`, value 7: 16.5 is outside 0 to 16"),
        (with(0, json!(-0.01)), "outside 0 to 16"),
        (with(3, Value::Null), "`pixels`, value 3: NaN is not allowed"),
        (with(3, json!("4")), "input `pixels` holds a value of another type"),
        (with(3, json!([4])), "neither flat nor nested"),
        (json!({"inputs": []}), "input `pixels` is missing"),
        (json!({}), "missing field `inputs`"),
        (
            json!({"inputs": [{"name": "pixel", "datatype": "FP32", "shape": [1, 8, 8], "data": []}]}),
            "no input `pixel`; its inputs are pixels",
        ),
        (json!({"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8]}]}), "input `pixels` has no data"),
        (json!([1]), "malformed request"),
    ];
    let count = cases.len();
    for (body, wanted) in cases {
        let reply = client.infer("meter-digits", &body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(wanted), "{wanted}: {}", reply.error());
        assert_eq!(reply.json()["model_version"], "1.0.0");
    }
    let twice = json!({"inputs": [digits_request(&good)["inputs"][0], digits_request(&good)["inputs"][0]]});
    assert!(client.infer("meter-digits", &twice).error().contains("given twice"));
    let mut unknown_output = digits_request(&good);
    unknown_output["outputs"] = json!([{"name": "labels"}]);
    assert!(client.infer("meter-digits", &unknown_output).error().contains("no output `labels`"));

    let refused = bench.increments(|sum| sum.errors.iter().map(|e| e.count).sum::<u64>() >= count as u64 + 2).await;
    assert_eq!(refused.inferences, 0);
    assert!(refused.errors.iter().all(|e| matches!(e.kind, ErrorKind::Contract | ErrorKind::BadRequest)));
    assert_eq!(client.infer("meter-digits", &digits_request(&good)).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused_with_words() {
    let bench = Bench::start(LIMITS, &[&Bundle::digits("1.0.0")]).await;
    let mut client = Client::tcp(bench.tcp);
    let infer = "/v2/models/meter-digits/infer";
    let json = digits_request(&pixels(0)).to_string();
    let nan = json.replacen("0.0", "NaN", 1);
    let deep = format!("{{\"inputs\":{}", "[".repeat(100_000));
    for body in ["", "{", "null", "\u{0}", &json[..json.len() - 1], &nan, &deep, &format!("{json}x")] {
        let reply = client.post(infer, "", body.as_bytes());
        assert_eq!(reply.status, 400, "{}", &body[..body.len().min(40)]);
        assert!(reply.error().starts_with("malformed request"), "{}", reply.error());
    }
    let binary = |size: u64| {
        let input =
            json!({"name": "pixels", "shape": [1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": size}});
        json!({"inputs": [input]}).to_string()
    };
    let cases = [
        (binary(256), 0, 255, "is cut short"),
        (binary(256), 0, 257, "1 bytes follow the binary data"),
        (binary(255), 0, 255, "does not fit its shape"),
        (binary(u64::MAX), 0, 0, "does not fit its shape"),
        (binary(256), 1000, 0, "longer than the body"),
    ];
    for (json, more, bytes, wanted) in cases {
        let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len() + more);
        let reply = client.post(infer, &headers, &[json.as_bytes(), &vec![0; bytes]].concat());
        assert_eq!((reply.status, reply.error().contains(wanted)), (400, true), "{}", reply.error());
    }
    assert_eq!(client.post(infer, "Inference-Header-Content-Length: x\r\n", b"{}").status, 400);
    assert_eq!(client.post(infer, "Content-Encoding: gzip\r\n", b"{}").status, 415);
    let nan_raw: Vec<u8> = vec![f32::NAN; 64].iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = binary(256);
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let reply = client.post(infer, &headers, &[json.as_bytes(), &nan_raw].concat());
    assert_eq!((reply.status, reply.error().contains("NaN is not allowed")), (400, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_methods_are_told_apart() {
    let bundle = Bundle::digits("1.0.0");
    let bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::tcp(bench.tcp);
    let body = digits_request(&pixels(0));
    assert_eq!(client.infer("digits", &body).status, 404);
    assert_eq!(client.get("/v2/models/digits").error(), "no model `digits` on this device");
    let other = client.get("/v2/models/meter-digits/versions/2.0.0");
    assert_eq!((other.status, other.error().contains("`1.0.0` answers")), (404, true));
    assert_eq!(client.get("/v3").status, 404);
    assert_eq!(client.get("/v2/models/meter-digits/infer").status, 405);
    assert_eq!(client.post("/v2", "", b"").status, 405);

    // Loaded is not yet serving.
    let mut second = Bundle::digits("1.0.0");
    second.manifest["model"] = "demo/second@1.0.0".into();
    bench.worker().load(Slot(2), second.opened()).await.unwrap();
    assert_eq!(client.get("/v2/health/ready").status, 503);
    assert_eq!(client.infer("second", &body).status, 503);
    bench.worker().swap(Slot(2)).await.unwrap();
    assert_eq!(client.infer("second", &body).status, 200);
    assert_eq!(client.get("/v2/health/ready").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_slow_clients_are_bounded() {
    let limits = Limits { request_bytes: 4096, ..LIMITS };
    let mut bench = Bench::start(limits, &[&Bundle::digits("1.0.0")]).await;
    let infer = "/v2/models/meter-digits/infer";
    let too_large = Client::tcp(bench.tcp).post(infer, "", &vec![b' '; 4097]);
    assert_eq!((too_large.status, too_large.error().as_str()), (413, "request body is over the limit of 4096 bytes"));
    let endless = Client::tcp(bench.tcp).post_head(infer, 1 << 40);
    assert_eq!((endless.status, endless.header("connection")), (413, Some("close")));

    let mut chunked = Client::unix(&bench.socket);
    chunked.send(format!("POST {infer} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    for _ in 0..5 {
        chunked.send(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes());
    }
    assert_eq!(chunked.reply().unwrap().status, 413);

    let mut slow = Client::tcp(bench.tcp);
    slow.send(format!("POST {infer} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{{").as_bytes());
    // Others are served while it dawdles.
    assert_eq!(Client::tcp(bench.tcp).infer("meter-digits", &digits_request(&pixels(1))).status, 200);
    assert_eq!(slow.reply().unwrap().status, 408);
    assert!(slow.reply().is_none(), "the connection is closed");
    let seen = bench.increments(|sum| sum.errors.iter().map(|e| e.count).sum::<u64>() >= 4).await;
    assert!(seen.errors.iter().all(|e| e.kind == ErrorKind::BadRequest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants_costs_no_answer() {
    let bench = Bench::start(LIMITS, &[]).await;
    let mut client = Client::unix(&bench.socket);
    let asks = |length: usize| format!("GET /v2 HTTP/1.1\r\nHost: tern\r\nContent-Length: {length}\r\n\r\n");
    client.send(&[asks(70_000).as_bytes(), &[b'x'; 70_000]].concat());
    assert_eq!(client.reply().unwrap().status, 200);
    assert_eq!(client.get("/v2").status, 200, "the connection goes on");
    client.send(asks(1 << 30).as_bytes());
    let reply = client.reply().unwrap();
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close")),
        "what is too much ends it, and says so"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_the_next_is_served() {
    let limits = Limits { connections: 2, ..LIMITS };
    let bench = Bench::start(limits, &[&Bundle::digits("1.0.0")]).await;
    let mut held = [Client::tcp(bench.tcp), Client::tcp(bench.tcp)];
    held.iter_mut().for_each(|client| assert_eq!(client.get("/v2").status, 200));
    assert!(Client::tcp(bench.tcp).reply().is_none());
    drop(held);
    let deadline = Moment::now().after(Duration::from_secs(10));
    loop {
        let mut client = Client::tcp(bench.tcp);
        client.send(b"GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n");
        match client.reply() {
            Some(reply) => break assert_eq!(reply.status, 200),
            None => assert!(!deadline.remaining().is_zero(), "no room again"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_is_429_at_once_and_late_is_504() {
    let slow = Bundle::slow(384, 150);
    let limits = Limits { threads: 1, queue: 1, ..LIMITS };
    let mut bench = Bench::start(limits, &[&slow]).await;
    let socket = bench.socket.clone();
    let replies = tokio::task::spawn_blocking(move || {
        let mut clients: Vec<Client> = (0..8).map(|_| Client::unix(&socket)).collect();
        let body = slow_request().to_string();
        clients.iter_mut().for_each(|client| client.start("/v2/models/slow/infer", "", body.as_bytes()));
        clients.iter_mut().map(|client| client.reply().unwrap()).collect::<Vec<_>>()
    });
    let replies = replies.await.unwrap();
    let of = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!((of(200), of(429)), (2, 6));
    let refused = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(
        (refused.error().as_str(), refused.header("retry-after")),
        ("too many requests at once: try again later", Some("1"))
    );
    let counted = bench.increments(|sum| sum.inferences >= 2).await;
    let overload: u64 = counted.errors.iter().filter(|e| e.kind == ErrorKind::Overload).map(|e| e.count).sum();
    assert_eq!(overload, 6);

    let limits = Limits { deadline_ms: 20, ..LIMITS };
    let bench = Bench::start(limits, &[&slow]).await;
    let late = Client::unix(&bench.socket).infer("slow", &slow_request());
    assert_eq!((late.status, late.error().as_str()), (504, "no answer within 20 ms"));
}
