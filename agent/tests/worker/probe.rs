//! The probe's verdicts on good, wrong, broken and greedy models.

use std::time::Duration;

use tern_agent::probe::{self, ProbeLimits, ProbeOrder};
use tern_protocol::{digest::Digest, frames::ProbeResult, refusal::RefusalCode};
use tern_stats::profile::Profile;

use crate::fixture::{Bundle, programs, put};

fn order(bundle: &Bundle, limits: ProbeLimits) -> ProbeOrder {
    ProbeOrder::gather(bundle.bytes(), "generic".parse().unwrap(), limits, |file| bundle.find(file)).unwrap()
}

fn verdict(bundle: &Bundle, limits: ProbeLimits) -> (RefusalCode, String) {
    match probe::run(&programs(), &order(bundle, limits)) {
        ProbeResult::Failed { code, message } => (code, message),
        ProbeResult::Passed(facts) => panic!("passed: {facts:?}"),
    }
}

#[test]
fn a_good_version_passes_with_its_figures() {
    let bundle = Bundle::digits("1.0.0");
    let ProbeResult::Passed(facts) = probe::run(&programs(), &order(&bundle, ProbeLimits::default())) else {
        panic!("1.0.0 must pass")
    };
    assert_eq!(facts.cases, 16);
    assert!(facts.max_absolute <= 1e-4, "{}", facts.max_absolute);
    assert!(facts.latency_us.0 > 0 && facts.latency_us.0 <= facts.latency_us.1);
    assert!(facts.peak_rss_bytes > 0 && facts.peak_rss_bytes < 64 << 20, "{}", facts.peak_rss_bytes);
    assert!(!facts.lacking.iter().any(|text| text.contains("still")), "{:?}", facts.lacking);
}

#[test]
fn a_wrong_golden_vector_is_named() {
    let (code, message) = verdict(&Bundle::digits("1.0.2"), ProbeLimits::default());
    assert_eq!(code, RefusalCode::GoldenMismatch);
    for part in ["test_data_set_", "output `", "expected, got"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_budget_that_is_broken_is_named() {
    let mut bundle = Bundle::digits("1.0.0");
    bundle.manifest["budgets"]["*"]["p95_latency_ms"] = 0.000_1.into();
    let (code, message) = verdict(&bundle, ProbeLimits::default());
    assert_eq!(code, RefusalCode::OverBudget);
    assert!(message.contains("p95 latency"), "{message}");
}

#[test]
fn what_is_no_model_does_not_load() {
    let mut bundle = Bundle::slow(8, 1);
    let garbage: Vec<u8> = (0..1000u32).map(|at| (at * 31 % 251) as u8).collect();
    put(&bundle.folder.join("model.onnx"), &garbage);
    bundle.manifest["files"][0]["length"] = garbage.len().into();
    bundle.manifest["files"][0]["sha256"] = Digest::of(&garbage).to_string().into();
    assert_eq!(verdict(&bundle, ProbeLimits::default()).0, RefusalCode::LoadFailed);
}

#[test]
fn a_file_that_is_not_the_signed_one_is_refused() {
    let bundle = Bundle::slow(8, 1);
    let gathered = order(&bundle, ProbeLimits::default());
    put(&bundle.folder.join("model.onnx"), &[0; 10]);
    let ProbeResult::Failed { code, .. } = probe::run(&programs(), &gathered) else { panic!("passed") };
    assert_eq!(code, RefusalCode::BlobLength);

    let bundle = Bundle::slow(8, 1);
    let golden = bundle.folder.join("test_data_set_0/output_0.pb");
    let mut bytes = std::fs::read(&golden).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    put(&golden, &bytes);
    let open = |file: &tern_protocol::manifest::File| std::fs::File::open(bundle.folder.join(&file.path));
    let class = "generic".parse().unwrap();
    let refused = ProbeOrder::gather(bundle.bytes(), class, ProbeLimits::default(), open).unwrap_err();
    assert_eq!(refused.code, RefusalCode::BlobDigest);
}

#[test]
fn a_profile_must_be_the_signed_one_and_fit_the_contract() {
    let good = Bundle::watched("1.0.0");
    let verdict_of = |bundle: &Bundle| probe::run(&programs(), &order(bundle, ProbeLimits::default()));
    assert!(matches!(verdict_of(&good), ProbeResult::Passed(_)));

    let profile: Profile = serde_json::from_slice(&good.reference).unwrap();
    let change = |change: fn(&mut Bundle, Profile)| {
        let mut bundle = Bundle::watched("1.0.0");
        change(&mut bundle, profile.clone());
        verdict(&bundle, ProbeLimits::default())
    };
    let (code, message) = change(|bundle, mut profile| {
        profile.features.swap(0, 1);
        bundle.set_reference(&profile);
    });
    assert_eq!(code, RefusalCode::ContractMismatch);
    assert!(message.contains("contrast(pixels)") && message.contains("fit the profile again"), "{message}");
    let (code, message) = change(|bundle, _| bundle.manifest["contract"]["prediction"] = serde_json::Value::Null);
    assert_eq!((code, message.contains("outputs")), (RefusalCode::ContractMismatch, true), "{message}");
    let (code, _) = change(|bundle, mut profile| {
        profile.features[0].scores[0].sigma = -1.0;
        bundle.set_reference(&profile);
    });
    assert_eq!(code, RefusalCode::ContractMismatch);

    // What is not the signed one does not even reach the probe.
    let mut other = Bundle::watched("1.0.0");
    other.reference[10] ^= 1;
    let class = "generic".parse().unwrap();
    let gathered = ProbeOrder::gather(other.bytes(), class, ProbeLimits::default(), |file| other.find(file));
    assert_eq!(gathered.unwrap_err().code, RefusalCode::BlobDigest);
}

#[test]
fn limits_on_memory_time_and_patience_end_the_probe() {
    let defaults = ProbeLimits::default();
    let large = Bundle::slow(2048, 1);
    let (code, message) = verdict(&large, ProbeLimits { memory_bytes: 64 << 20, ..defaults });
    assert_eq!(code, RefusalCode::ProbeDied);
    assert!(message.contains("signal 6"), "{message}");

    let endless = Bundle::slow(512, 3000);
    let (code, message) = verdict(&endless, ProbeLimits { cpu_seconds: 1, ..defaults });
    assert_eq!((code, message.contains("signal 24")), (RefusalCode::ProbeDied, true), "{message}");
    let (code, message) = verdict(&endless, ProbeLimits { wall: Duration::from_millis(300), ..defaults });
    assert_eq!((code, message.as_str()), (RefusalCode::ProbeDied, "probe gave no result within 0.3 s"));
}

#[test]
fn a_program_that_is_no_probe_is_a_failure() {
    let nothing = tern_agent::SelfExec { executable: "/bin/true".into(), prefix: Vec::new() };
    let bundle = Bundle::slow(8, 1);
    let ProbeResult::Failed { code, message } = probe::run(&nothing, &order(&bundle, ProbeLimits::default())) else {
        panic!("passed")
    };
    assert_eq!(code, RefusalCode::ProbeDied, "{message}");
}
