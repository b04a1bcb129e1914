//! Tests only: rows of `demo/m@1.0.0` as a device would send them.

use tern_protocol::{
    digest::Digest,
    report::v1::{Clock, System, Violations, Window},
};

/// A window that watches nothing.
pub(crate) fn window(number: u64, rows: u64) -> Window {
    let start_ms = 1_780_000_000_000 + i64::try_from(number).unwrap_or(0) * 60_000;
    Window {
        number,
        model: "demo/m".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        contract: Digest::of(b"contract"),
        boot: 1,
        start_ms,
        end_ms: start_ms + 60_000,
        clock: Clock::Trusted,
        inferences: rows,
        rows,
        errors: vec![],
        violations: Violations::default(),
        latency: vec![],
        features: vec![],
        outputs: vec![],
        confidence: vec![],
        feedback: vec![],
        system: System::default(),
    }
}
