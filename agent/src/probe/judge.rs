//! Whether what the probe measured keeps the manifest's budget on this device class. Pure.

use tern_protocol::{frames::ProbeFacts, ids::DeviceClass, manifest::Manifest, refusal::RefusalCode};

use crate::admit::Refused;

/// Holds the measured figures against the budget of `class`; without a budget everything keeps it.
///
/// # Errors
/// `over-budget`, with the figure and the budget.
pub fn judge(facts: &ProbeFacts, manifest: &Manifest, class: &DeviceClass) -> Result<(), Refused> {
    let Some(budget) = manifest.budget(class) else { return Ok(()) };
    let over = |message: String| Err(Refused::new(RefusalCode::OverBudget, message));
    let p95_ms = facts.latency_us.1 as f64 / 1000.0;
    if let Some(most) = budget.p95_latency_ms.filter(|most| p95_ms > *most) {
        return over(format!("p95 latency of {p95_ms} ms is over the budget of {most} ms on `{class}`"));
    }
    if let Some(most) = budget.peak_rss_bytes.filter(|most| facts.peak_rss_bytes > most.0) {
        return over(format!("peak memory of {} B is over the budget of {most} on `{class}`", facts.peak_rss_bytes));
    }
    let total = manifest.total_bytes();
    if let Some(most) = budget.disk_bytes.filter(|most| total > *most) {
        return over(format!("bundle of {total} is over the budget of {most} on `{class}`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tern_protocol::canonical;

    fn manifest(budgets: serde_json::Value) -> Manifest {
        let file =
            |path: &str, role: &str| json!({"path": path, "role": role, "sha256": "00".repeat(32), "length": 10});
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [-1, 2], "nan": "reject"});
        let value = json!({
            "format": 1, "model": "demo/m@1.0.0", "minimum_agent": "0.1.0",
            "golden_tolerance": {"absolute": 0.0, "relative": 0.0},
            "files": [file("m.onnx", "model"), file("test_data_set_0/input_0.pb", "golden"), file("test_data_set_0/output_0.pb", "golden")],
            "contract": {"inputs": [tensor], "outputs": [tensor]}, "budgets": budgets,
        });
        Manifest::from_slice(&canonical::document(&value).unwrap()).unwrap()
    }

    fn facts() -> ProbeFacts {
        ProbeFacts {
            cases: 1,
            max_absolute: 0.0,
            load_us: 1,
            latency_us: (1000, 2000),
            peak_rss_bytes: 100,
            agent_version: "0.1.0".parse().unwrap(),
            lacking: vec![],
        }
    }

    #[test]
    fn each_figure_is_held_against_its_own_budget() {
        let class: DeviceClass = "small".parse().unwrap();
        let cases = [
            (json!({}), None),
            (json!({"*": {"p95_latency_ms": 2.0, "peak_rss_bytes": 100, "disk_bytes": 30}}), None),
            (json!({"*": {"p95_latency_ms": 1.9}}), Some("p95 latency of 2 ms")),
            (json!({"*": {"peak_rss_bytes": 99}}), Some("peak memory of 100 B")),
            (json!({"*": {"disk_bytes": 29}}), Some("bundle of 30 B")),
            (json!({"*": {"disk_bytes": 1}, "small": {"disk_bytes": 30}}), None),
        ];
        for (budgets, wanted) in cases {
            let verdict = judge(&facts(), &manifest(budgets.clone()), &class);
            match wanted {
                None => assert_eq!(verdict, Ok(()), "{budgets}"),
                Some(text) => {
                    let refused = verdict.unwrap_err();
                    assert_eq!(refused.code, RefusalCode::OverBudget);
                    assert!(refused.message.contains(text), "{}", refused.message);
                }
            }
        }
    }
}
