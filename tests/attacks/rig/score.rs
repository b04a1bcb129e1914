//! How many attacks were made, in how many variants, how many were refused, and what was answered meanwhile.
//!
//! Each attack says its own line as it ends; the last of all says the sum. They go past the test harness's capture, so that
//! they can be read off any run.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};

use super::super::ATTACKS;

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    attacks: usize,
    variants: u64,
    refusals: u64,
    answers: u64,
}

static SUM: Mutex<Sum> = Mutex::new(Sum { attacks: 0, variants: 0, refusals: 0, answers: 0 });

/// The count of one attack.
#[derive(Debug)]
pub(crate) struct Score {
    attack: &'static str,
    variants: u64,
    refusals: u64,
}

impl Score {
    pub(crate) fn begin(attack: &'static str) -> Self {
        assert!(ATTACKS.contains(&attack), "{attack} is not on the list of attacks");
        Self { attack, variants: 0, refusals: 0 }
    }

    /// A variant was tried and refused as it must be.
    pub(crate) fn refused(&mut self) {
        self.variants += 1;
        self.refusals += 1;
    }

    /// The attack is over.
    pub(crate) fn end(&mut self, answers: u64) {
        let Self { attack, variants, refusals } = *self;
        let mut sum = SUM.lock().unwrap_or_else(PoisonError::into_inner);
        sum.attacks += 1;
        sum.variants += variants;
        sum.refusals += refusals;
        sum.answers += answers;
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "attack {attack}: {variants} variants, {refusals} refused, {answers} answers meanwhile");
        if sum.attacks == ATTACKS.len() {
            let Sum { attacks, variants, refusals, answers } = *sum;
            let _ = writeln!(
                out,
                "attacks: {attacks} attacks, {variants} variants, {refusals} refused, 0 succeeded, {answers} right answers \
                 meanwhile"
            );
        }
    }
}
