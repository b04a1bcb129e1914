//! The house rules that a machine can check: who may depend on whom, what a file looks like, what documents promise.
//!
//! Each test is one rule, and its message says what to do. It reads the work tree as it stands and asks Cargo offline;
//! it must never depend on a commit, a network or another test.

mod tidy {
    mod crates;
    mod deployment;
    mod documents;
    mod metadata;
    mod mqtt;
    mod readme;
    mod sources;
    mod tree;
}
