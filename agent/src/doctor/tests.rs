//! The whole examination of machines that are not well.

use super::*;

async fn examined(text: &str) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    let text = text.replace("DIR", folder.path().to_str().unwrap());
    crate::disk::write_file(&path, text.as_bytes(), crate::disk::PLAIN).unwrap();
    examine(&path).await
}

fn verdict(findings: &[Finding], check: &str) -> Option<Verdict> {
    findings.iter().find(|f| f.check == check).map(|f| f.verdict)
}

#[tokio::test]
async fn a_bad_configuration_is_all_that_is_said() {
    let findings = examined("thread = 1").await;
    assert_eq!(findings.len(), 1);
    assert!(is_ill(&findings) && show(&findings).contains("thread"));
}

#[tokio::test]
async fn a_machine_that_is_no_device_is_told_to_enrol() {
    let findings = examined("state_dir = \"DIR\"\nruntime_dir = \"DIR\"").await;
    assert_eq!(verdict(&findings, "config"), Some(Verdict::Ok));
    assert_eq!(verdict(&findings, "identity"), Some(Verdict::Error));
    assert_eq!(verdict(&findings, "agent"), Some(Verdict::Warn));
    assert_eq!(verdict(&findings, "server"), None);
    assert!(is_ill(&findings) && show(&findings).contains("enroll --token"));
    assert!(findings.iter().all(|f| f.verdict == Verdict::Ok || !f.remedy.is_empty()), "each finding says what to do");
}
