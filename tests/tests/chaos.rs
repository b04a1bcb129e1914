//! The quickstart's story while a server, an agent and a worker are killed in every step: it ends as told all the same.
//!
//! One seed by default, ten with `TERN_FULL=1` (as `tests/run --full` sets it). A failure names its seed.

use std::path::PathBuf;

use tern_examples::{
    hardships::Hardships,
    processes::Programs,
    story::{self, Options, Told},
};

fn seeds() -> std::ops::Range<u64> {
    if std::env::var_os("TERN_FULL").is_some() { 1..11 } else { 1..2 }
}

async fn tell(seed: u64) -> Told {
    // Kept after a failure: the logs in it say what happened.
    let scratch = tempfile::Builder::new().prefix("tern-").tempdir().expect("a temporary folder").keep();
    let assets = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"));
    let programs = Programs::new(env!("CARGO_BIN_EXE_tern-under-test"));
    let options = Options {
        programs,
        scratch: scratch.clone(),
        assets,
        chaos: Some(seed),
        hardships: Hardships::default(),
        seed,
        aloud: false,
    };
    match story::tell(options).await {
        Ok(told) => told,
        Err(error) => panic!("seed {seed}, logs in {}: {error:#}", scratch.display()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_step_the_story_ends_as_told() {
    for seed in seeds() {
        let told = tell(seed).await;
        let scratch = told.world.scratch.clone();
        assert!(told.facts.ended_as_told, "seed {seed}, logs in {}: {:?}", scratch.display(), told.facts.faults);
        let kills = told.facts.kills.expect("chaos was asked for");
        let fewest = [kills.servers, kills.agents, kills.workers, kills.connections].into_iter().min();
        assert!(fewest >= Some(3), "seed {seed}: {kills:?}");
        told.world.stop().await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        std::fs::remove_dir_all(scratch).expect("the scratch folder goes");
    }
}
