//! The sandbox of a living worker, as the worker tried it and as the kernel tells it.

use crate::{
    client::{Client, digits_request},
    fixture::{Bench, Bundle, LIMITS, pixels},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_cannot_open_files_make_sockets_or_start_programs() {
    let bench = Bench::start(LIMITS, &[&Bundle::digits("1.0.0")]).await;
    // The worker tries each of them after confining itself and tells what still works.
    let still: Vec<_> = bench.started.lacking.iter().filter(|text| text.contains("still")).collect();
    assert!(still.is_empty(), "{still:?}");
    assert!(!bench.started.lacking.iter().any(|text| text.starts_with("seccomp")), "{:?}", bench.started.lacking);
    assert_eq!(Client::tcp(bench.tcp).infer("meter-digits", &digits_request(&pixels(0))).status, 200);

    let pid = bench.worker().pid();
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((line("Seccomp:").as_str(), line("NoNewPrivs:").as_str()), ("2", "1"));
        threads += 1;
    }
    assert!(threads >= 6, "{threads} threads");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.split('\0').all(|pair| pair.is_empty() || pair.starts_with("RUST_LOG=")), "{environment}");
}
