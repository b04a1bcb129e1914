//! The one error of numbers that do not belong together.

/// Two things that should have one shape have not: counted under another profile, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected}, found {found}")]
pub struct ShapeMismatch {
    /// What differs.
    pub what: &'static str,
    /// How many there should be.
    pub expected: usize,
    /// How many there are.
    pub found: usize,
}

/// Checks that `found` is `expected`.
pub(crate) fn same(what: &'static str, expected: usize, found: usize) -> Result<(), ShapeMismatch> {
    if expected == found { Ok(()) } else { Err(ShapeMismatch { what, expected, found }) }
}
