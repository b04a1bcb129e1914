//! The Open Inference Protocol as clients use it.

use serde_json::{Value, json};

use crate::{
    client::{Client, digits_request},
    fixture::{Bench, Bundle, LIMITS, label, pixels},
};

#[tokio::test(flavor = "multi_thread")]
async fn real_digits_are_read_over_unix_and_tcp() {
    let bundle = Bundle::digits("1.0.0");
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    for mut client in [Client::unix(&bench.socket), Client::tcp(bench.tcp)] {
        for set in 0..16 {
            let reply = client.infer("meter-digits", &digits_request(&pixels(set)));
            assert_eq!(reply.status, 200, "{reply:?}");
            let json = reply.json();
            assert_eq!(json["model_name"], "meter-digits");
            assert_eq!(json["model_version"], "1.0.0");
            assert_eq!(json["id"], "r-1");
            assert_eq!(json["parameters"], json!({"contract_digest": bundle.contract_digest()}));
            assert_eq!(
                json["outputs"][0],
                json!({"name": "label", "datatype": "INT64", "shape": [1], "data": [label(set)]})
            );
            assert_eq!(json["outputs"][1]["shape"], json!([1, 10]));
            let sum: f64 = json["outputs"][1]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        }
    }
    let counted = bench.increments(|sum| sum.inferences >= 32).await;
    assert_eq!((counted.inferences, counted.rows, counted.errors.len()), (32, 32, 0));
    let mut client = Client::tcp(bench.tcp);
    client.await_figure("tern_inferences_total{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 32");
    client.await_figure("tern_inference_seconds_count{model=\"meter-digits\",version=\"1.0.0\",slot=\"1\"} 32");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_may_be_nested_or_flat_and_outputs_chosen() {
    let bundle = Bundle::digits("1.0.0");
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    let rows: Vec<Vec<f32>> = (0..5).map(pixels).collect();
    let labels: Vec<i64> = (0..5).map(label).collect();
    let nested: Vec<Vec<&[f32]>> = rows.iter().map(|row| row.chunks(8).collect()).collect();
    for data in [json!(nested), json!(rows.concat())] {
        let body = json!({
            "inputs": [{"data": data, "shape": [5, 8, 8], "name": "pixels", "datatype": "FP32"}],
            "outputs": [{"name": "label"}],
        });
        let json = client.infer("meter-digits", &body).json();
        assert_eq!(json["outputs"], json!([{"name": "label", "datatype": "INT64", "shape": [5], "data": labels}]));
    }
    assert_eq!(bench.increments(|sum| sum.rows >= 10).await.inferences, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_go_in_and_come_out() {
    let bundle = Bundle::digits("1.0.0");
    let bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::tcp(bench.tcp);
    let raw: Vec<u8> = pixels(3).iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = json!({
        "inputs": [{"name": "pixels", "shape": [1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 256}}],
        "parameters": {"binary_data_output": true},
    })
    .to_string();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let body = [json.as_bytes(), &raw].concat();
    let reply = client.post("/v2/models/meter-digits/versions/1.0.0/infer", &headers, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&reply.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 8}));
    assert_eq!(head["outputs"][1]["parameters"], json!({"binary_data_size": 40}));
    assert_eq!(head["outputs"][0].get("data"), None);
    let binary = &reply.body[length..];
    assert_eq!(binary.len(), 48);
    assert_eq!(i64::from_le_bytes(binary[..8].try_into().unwrap()), label(3));

    // The same tensor in binary, the answer half in JSON.
    let json = json!({
        "inputs": [{"name": "pixels", "shape": [1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 256}}],
        "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let reply = client.post("/v2/models/meter-digits/infer", &headers, &[json.as_bytes(), &raw].concat());
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&reply.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["data"], json!([label(3)]));
    assert_eq!(reply.body.len() - length, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_what_is_served() {
    let bundle = Bundle::digits("1.0.0");
    let bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::tcp(bench.tcp);
    assert_eq!(client.get("/v2").json()["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(client.get("/v2/health/live").status, 200);
    assert_eq!(client.get("/v2/health/ready").json(), json!({"ready": true}));
    for path in ["/v2/models/meter-digits", "/v2/models/meter-digits/versions/1.0.0"] {
        let model = client.get(path).json();
        assert_eq!(model["name"], "meter-digits");
        assert_eq!(model["versions"], json!(["1.0.0"]));
        assert_eq!(model["inputs"], json!([{"name": "pixels", "datatype": "FP32", "shape": [-1, 8, 8]}]));
        assert_eq!(model["parameters"]["contract_digest"], bundle.contract_digest());
        assert_eq!(client.get(&format!("{path}/ready")).status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clamped_and_flagged_values_are_noted_and_counted() {
    let mut bundle = Bundle::digits("1.0.0");
    bundle.manifest["contract"]["inputs"][0]["range"]["outside"] = "clamp".into();
    bundle.manifest["contract"]["inputs"][0]["nan"] = "flag".into();
    let bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::tcp(bench.tcp);
    let mut off = pixels(0);
    off[0] = 99.0;
    off[1] = -1.0;
    let json = client.infer("meter-digits", &digits_request(&off)).json();
    assert_eq!(json["parameters"], json!({"contract_digest": bundle.contract_digest(), "clamped": 2}));
    assert_eq!(json["outputs"][0]["data"], json!([label(0)]));

    // A missing value is flagged and goes in.
    let mut body = digits_request(&pixels(0));
    body["inputs"][0]["data"][5] = Value::Null;
    let reply = client.infer("meter-digits", &body);
    assert_eq!((reply.status, &reply.json()["parameters"]["flagged"]), (200, &json!(1)));
    client.await_figure("slot=\"1\",action=\"clamp\"} 2");
    client.await_figure("slot=\"1\",action=\"flag\"} 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_no_number_is_not_handed_out() {
    let mut bundle = Bundle::slow(8, 1);
    bundle.manifest["contract"]["inputs"][0]["nan"] = "flag".into();
    let bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::tcp(bench.tcp);
    let missing = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [null]}]});
    let reply = client.infer("slow", &missing);
    assert_eq!((reply.status, reply.error().as_str()), (500, "output `y`, value 0: NaN is not allowed"));
    client.await_figure("slot=\"1\",kind=\"not-finite\"} 1");
}
