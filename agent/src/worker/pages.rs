//! The pages that people, clients and Prometheus read: server and model metadata, health, figures.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tern_protocol::contract::TensorContract;

use super::{
    counters::{BOUNDS_US, KINDS},
    failure::Failure,
    feedback::Fate,
    service::Service,
    slots::Loaded,
};

pub(super) fn server() -> Value {
    json!({
        "name": "tern-agent",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    })
}

pub(super) fn model(service: &Service, loaded: &Loaded) -> Value {
    let tensors = |tensors: &[TensorContract]| -> Vec<Value> {
        let one = |t: &TensorContract| json!({"name": t.name, "datatype": t.datatype.name(), "shape": t.shape});
        tensors.iter().map(one).collect()
    };
    json!({
        "name": loaded.model_name,
        "versions": service.slots.versions(&loaded.model_name),
        "platform": "onnx_tract",
        "inputs": tensors(&loaded.manifest.contract.inputs),
        "outputs": tensors(&loaded.manifest.contract.outputs),
        "model_version": loaded.version,
        "parameters": {"contract_digest": loaded.contract_digest},
    })
}

/// All figures in the text format of Prometheus. Names of models and versions need no escaping by their own rules.
pub(super) fn metrics(service: &Service) -> String {
    let mut out = String::new();
    let loaded = service.slots.all();
    family(&mut out, "tern_inferences_total", "counter", "Inferences answered.");
    for version in &loaded {
        line(&mut out, "tern_inferences_total", version, "", &version.counters.inferences);
    }
    family(&mut out, "tern_inference_rows_total", "counter", "Rows in answered inferences.");
    for version in &loaded {
        line(&mut out, "tern_inference_rows_total", version, "", &version.counters.rows);
    }
    family(&mut out, "tern_inference_errors_total", "counter", "Failed inferences by kind.");
    for version in &loaded {
        for ((_, kind), count) in KINDS.iter().zip(&version.counters.errors) {
            line(&mut out, "tern_inference_errors_total", version, &format!(",kind=\"{kind}\""), count);
        }
    }
    family(&mut out, "tern_contract_violations_total", "counter", "Values that broke the contract, by what was done.");
    for version in &loaded {
        let counters = &version.counters;
        for (action, count) in
            [("reject", &counters.rejected), ("clamp", &counters.clamped), ("flag", &counters.flagged)]
        {
            line(&mut out, "tern_contract_violations_total", version, &format!(",action=\"{action}\""), count);
        }
    }
    family(&mut out, "tern_inference_seconds", "histogram", "Time from a request's last byte to its answer.");
    loaded.iter().for_each(|version| latency(&mut out, version));
    family(&mut out, "tern_labels_total", "counter", "Labels that came for predictions.");
    for version in &loaded {
        line(&mut out, "tern_labels_total", version, "", &version.counters.labels);
    }
    family(&mut out, "tern_label_errors_total", "counter", "Labels that contradict their predictions.");
    for version in &loaded {
        line(&mut out, "tern_label_errors_total", version, "", &version.counters.label_errors);
    }
    family(&mut out, "tern_feedback_total", "counter", "Labels in feedback requests, by what became of them.");
    for (fate, count) in Fate::ALL.iter().zip(&service.fates) {
        let _ = writeln!(out, "tern_feedback_total{{status=\"{}\"}} {}", fate.name(), count.load(Relaxed));
    }
    family(&mut out, "tern_requests_refused_total", "counter", "Requests that got no inference, by cause.");
    for (label, count) in Failure::LABELS.iter().zip(&service.refused) {
        let _ = writeln!(out, "tern_requests_refused_total{{cause=\"{label}\"}} {}", count.load(Relaxed));
    }
    family(&mut out, "tern_queue_length", "gauge", "Requests that wait for an inference thread.");
    let _ = writeln!(out, "tern_queue_length {}", service.queue.waiting());
    out
}

// Writing to a string cannot fail; the results below are `Ok` by construction.

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(version: &Loaded) -> String {
    format!("model=\"{}\",version=\"{}\",slot=\"{}\"", version.model_name, version.version, version.slot.0)
}

fn line(out: &mut String, name: &str, version: &Loaded, more: &str, count: &AtomicU64) {
    let _ = writeln!(out, "{name}{{{}{more}}} {}", labels(version), count.load(Relaxed));
}

fn latency(out: &mut String, version: &Loaded) {
    let labels = labels(version);
    let mut below = 0;
    for (cell, count) in version.counters.latency_cells.iter().enumerate() {
        below += count.load(Relaxed);
        let bound = BOUNDS_US.get(cell).map_or_else(|| "+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
        let _ = writeln!(out, "tern_inference_seconds_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    let sum = version.counters.latency_sum_us.load(Relaxed) as f64 / 1e6;
    let _ =
        writeln!(out, "tern_inference_seconds_sum{{{labels}}} {sum}\ntern_inference_seconds_count{{{labels}}} {below}");
}
