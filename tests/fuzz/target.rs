//! What is fuzzed: a name, a form, a bound, and code that takes one input and holds it against what must be true.

use crate::mutate::Form;

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken for a document.
    Accepted,
    /// It was not.
    Refused,
}

impl Verdict {
    /// Accepted where it is true.
    pub(crate) fn of(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// The code under test with whatever it needs around it.
pub(crate) trait Target {
    /// Small valid documents, made by our own code, by the names of their files.
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)>;

    /// Offers one input; panics where a property does not hold. Nothing of an input may change what becomes of the next.
    fn offer(&mut self, input: &[u8]) -> Verdict;
}

/// How often a target is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// A call of a function.
    Call,
    /// A call that signs, verifies, or takes several looks.
    Slow,
    /// An exchange with a server.
    Exchange,
}

impl Pace {
    /// Inputs of a plain and of a full run.
    pub(crate) fn inputs(self, is_full: bool) -> u64 {
        match (self, is_full) {
            (Self::Call, false) => 3000,
            (Self::Slow, false) => 2000,
            (Self::Exchange, false) => 1500,
            (Self::Call, true) => 200_000,
            (Self::Slow, true) => 100_000,
            (Self::Exchange, true) => 50_000,
        }
    }
}

/// An entry of the list of targets.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Its name, also that of its folders in `corpus` and `regressions`.
    pub(crate) name: &'static str,
    /// What its inputs look like.
    pub(crate) form: Form,
    /// How often it runs.
    pub(crate) pace: Pace,
    /// Memory beyond what it has at its start that an input may take, in MiB.
    pub(crate) memory_mib: u64,
    /// Makes it ready.
    pub(crate) make: fn() -> Box<dyn Target>,
}

impl Kind {
    /// A target that needs little memory.
    pub(crate) fn new(name: &'static str, form: Form, pace: Pace, make: fn() -> Box<dyn Target>) -> Self {
        Self { name, form, pace, memory_mib: 128, make }
    }

    /// The same with another bound of memory.
    pub(crate) fn within(self, memory_mib: u64) -> Self {
        Self { memory_mib, ..self }
    }
}
