//! The quickstart's story where one device's clock stands at 1970, one's disk is full and one is without network for the
//! middle third: it ends as told, and what the devices counted is what the server counted.
//!
//! Needs root, or sudo without a password, for the small disk, and libfaketime for the clock.

use std::path::PathBuf;

use tern_examples::{
    hardships::Hardships,
    processes::Programs,
    story::{self, Options},
};

/// Devices by index; the ninth is there only for being away.
const HARDSHIPS: Hardships = Hardships { cables: true, clock_at_1970: Some(1), small_disk: Some(3), offline: Some(8) };

#[tokio::test(flavor = "multi_thread")]
async fn without_clock_disk_or_network_the_story_ends_as_told() {
    // Kept after a failure: the logs in it say what happened.
    let scratch = tempfile::Builder::new().prefix("tern-").tempdir().expect("a temporary folder").keep();
    let assets = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"));
    let programs = Programs::new(env!("CARGO_BIN_EXE_tern-under-test"));
    let options = Options {
        programs,
        scratch: scratch.clone(),
        assets,
        chaos: None,
        hardships: HARDSHIPS,
        seed: 1,
        aloud: false,
    };
    let told = match story::tell(options).await {
        Ok(told) => told,
        Err(error) => panic!("logs in {}: {error:#}", scratch.display()),
    };
    assert!(told.facts.ended_as_told, "logs in {}: {:#?}", scratch.display(), told.facts.faults);
    let counted = |name: &str| {
        let own = told.facts.accounts.counts.iter().filter(|count| count.device == name);
        own.map(|count| (count.on_device, count.on_server)).fold((0, 0), |(d, s), (a, b)| (d + a, s + b))
    };
    for name in ["cam-2", "cam-4", "cam-9"] {
        let (on_device, on_server) = counted(name);
        assert!(on_device > 1000 && on_device == on_server, "{name}: {on_device} and {on_server}");
    }
    told.world.stop().await.expect("every process ends when asked");
    drop(told);
    std::fs::remove_dir_all(scratch).expect("the scratch folder goes");
}
