//! Fuzzing of everything that reads bytes from outside: living documents, broken by the form that they have, and held
//! against what must be true of whatever comes out. The toolchain is stable, so nothing measures coverage; documents
//! from our own writers, edits that know JSON, postcard, zstd and HTTP, and re-signing stand in for it.
//!
//! Each target runs in a process of its own. `TERN_FULL=1` runs millions of inputs; `TERN_FUZZ_SEED` begins elsewhere,
//! `TERN_FUZZ_ONLY` offers one input, names of targets choose among them, and `TERN_FUZZ_CORPUS=write` writes the corpus anew.

mod child;
mod corpus;
mod mutate;
mod overseer;
mod random;
mod target;
mod targets;

use std::{path::Path, process::ExitCode};

use overseer::{Order, Outcome};
use target::Kind;
use tern_agent::clock::Moment;

/// Where random numbers begin unless somebody says otherwise.
const SEED: u64 = 4;

fn main() -> ExitCode {
    let (kinds, variable) = (targets::all(), |name: &str| std::env::var(name).ok());
    if let (Some(child), Some(mark)) = (variable("TERN_FUZZ_CHILD"), variable("TERN_FUZZ_MARK")) {
        be_child(&kinds, &child, Path::new(&mark));
        return ExitCode::SUCCESS;
    }
    // What begins with a dash is meant for the test runner that this is not.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |kind: &Kind| wanted.is_empty() || wanted.iter().any(|word| kind.name.contains(word.as_str()));
    let (chosen, others): (Vec<Kind>, Vec<Kind>) = kinds.into_iter().partition(is_wanted);
    if variable("TERN_FUZZ_CORPUS").is_some_and(|what| what == "write") {
        chosen.into_iter().for_each(corpus::write);
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| variable(name).map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    let is_full = variable("TERN_FULL").is_some_and(|full| full == "1");
    let order = Order { seed: number("TERN_FUZZ_SEED").unwrap_or(SEED), is_full, only: number("TERN_FUZZ_ONLY") };
    println!("\nfuzzing {} targets with TERN_FUZZ_SEED={}\n{}", chosen.len(), order.seed, overseer::head());
    let begun = Moment::now();
    report(&overseer::run(&chosen, order), others.len(), begun.elapsed().as_secs_f64())
}

fn be_child(kinds: &[Kind], order: &str, mark: &Path) {
    let words: Vec<&str> = order.split(' ').collect();
    let [name, seed, from, to] = words[..] else { panic!("an order of another form: {order}") };
    let kind = kinds.iter().find(|kind| kind.name == name).expect("a known target");
    let number = |text: &str| text.parse().expect("a number");
    child::run(*kind, number(seed), (number(from), number(to)), mark);
}

/// Tells what failed, and the counts in the words of Cargo's own test runner.
fn report(outcomes: &[Outcome], left_out: usize, seconds: f64) -> ExitCode {
    let failures: Vec<_> = outcomes.iter().filter_map(|o| Some((o.name, o.result.as_ref().err()?))).collect();
    for (name, words) in &failures {
        println!("\n---- {name} ----\n{words}");
    }
    let figures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()).collect();
    let (executions, accepted) = figures.iter().fold((0, 0), |(e, a), f| (e + f.executions, a + f.accepted));
    println!("\n{executions} executions, {accepted} accepted, {} crashes", failures.len());
    let (said, failed) = (if failures.is_empty() { "ok" } else { "FAILED" }, failures.len());
    let passed = outcomes.len() - failed;
    println!(
        "\ntest result: {said}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out; \
         finished in {seconds:.2}s\n"
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
