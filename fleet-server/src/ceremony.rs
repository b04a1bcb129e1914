//! A ceremony: several people agree, offline and by files, on which keys count from now on.
//!
//! [`wanted`] reads what is declared, [`faults`] refuses what would defeat the split of powers, [`trust`] turns it into the
//! next root and targets, [`words`] says what changes, [`signing`] adds and counts signatures by the rules of devices.
//! All of it is pure: files, people and the server are `cli/ceremony.rs`'s and the repository's.

pub mod faults;
pub mod signing;
pub mod trust;
pub mod wanted;
pub mod words;

#[cfg(test)]
mod tests;
