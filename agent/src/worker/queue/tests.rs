//! That an answer does not wait for what is counted of it.

use std::{path::Path, thread};

use serde_json::json;
use tern_engine::{Limits, Model};
use tern_protocol::{canonical, frames::Slot, manifest::Manifest};

use super::*;
use crate::worker::{counters::Counters, slots::Slots};

/// The quickstart's digits, loaded and answering.
fn digits() -> Slots {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits/1.0.0");
    let model = Model::load(&std::fs::read(folder.join("model.onnx")).unwrap(), &Limits::default()).unwrap();
    let file = |path: &str, role: &str| json!({"path": path, "role": role, "sha256": "00".repeat(32), "length": 1});
    let manifest = json!({
        "format": 1, "model": "demo/meter-digits@1.0.0", "minimum_agent": "0.1.0",
        "golden_tolerance": {"absolute": 0.0, "relative": 0.0},
        "files": [file("m.onnx", "model"), file("test_data_set_0/input_0.pb", "golden"),
            file("test_data_set_0/output_0.pb", "golden")],
        "contract": {
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 8, 8]}],
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
            "prediction": {"label": "label", "confidence": "probabilities"},
        },
    });
    let manifest = Manifest::from_slice(&canonical::document(&manifest).unwrap()).unwrap();
    let slots = Slots::default();
    slots.insert(Loaded::new(Slot(1), manifest, model, None));
    assert!(slots.activate(Slot(1)));
    slots
}

#[test]
fn an_answer_goes_out_while_nothing_can_be_counted() {
    let slots = digits();
    let queue = Queue::new(1, 4);
    let body = json!({"id": "a", "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [2, 8, 8], "data": vec![1.0; 128]}]});
    let push = || {
        let (reply, answer) = oneshot::channel();
        let held = slots.hold("meter-digits", None).unwrap();
        let body = Bytes::from(body.to_string());
        queue.push(Job { held, body, json_bytes: None, admitted: Moment::now(), reply }).unwrap();
        answer
    };
    let loaded = slots.find("meter-digits", None).unwrap();
    let counted = |counters: &Counters| counters.inferences.load(Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| queue.work(0, |_| ()));
        let busy = loaded.ledger.hold_up();
        // Comes although its fold cannot even begin.
        assert!(push().blocking_recv().unwrap().is_ok());
        assert_eq!((counted(&loaded.counters), queue.folds[0].load(Acquire) % 2), (0, 1));
        drop(busy);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(queue.folded());
        assert_eq!(counted(&loaded.counters), 1);

        // Whoever has gone before the worker got to him is not counted.
        let busy = loaded.ledger.hold_up();
        assert!(push().blocking_recv().unwrap().is_ok());
        drop(push());
        drop(busy);
        assert!(push().blocking_recv().unwrap().is_ok());
        queue.close();
    });
    assert_eq!(counted(&loaded.counters), 3);
    assert_eq!(loaded.counters.rows.load(Relaxed), 6);
}
