//! Which accesses are rows of their own and which are counted beside their like. Pure: accesses and the time in, rows out.
//!
//! The first of a kind is a row at once. The same again within [`PERIOD`] is counted; when the period is over, one row says
//! how many more there were. One caller has at most [`KINDS`] kinds of refusals at a time: further ones are one kind, of
//! "various". When strangers have [`STRANGERS`] kinds open, refusals of further strangers are one kind too, of "-". So
//! whatever is thrown at the server, rows per minute are bounded: by callers with a name and by [`STRANGERS`]. Who has a name
//! keeps it, whatever strangers do. Granted reads are never made vague, nor counted before their like is known to be recorded.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::{Access, Outcome, Who};

/// The same is counted for so long.
const PERIOD: SignedDuration = SignedDuration::from_secs(60);
/// Kinds of refusals that one caller has open.
const KINDS: usize = 32;
/// Kinds that all strangers together have open.
const STRANGERS: usize = 4096;
/// What stands for many resources.
const VARIOUS: &str = "various";

/// An access, and how often it came.
pub(super) type Rows = Vec<(Access, u64)>;

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Merger {
    open: HashMap<Access, Open>,
    kinds: HashMap<Who, usize>,
    strangers: usize,
    looked: Option<Timestamp>,
}

#[derive(Debug)]
struct Open {
    since: Timestamp,
    more: u64,
    /// Whether the first of it is known to be durable.
    recorded: bool,
}

impl Merger {
    /// Takes an access in; gives what is to be recorded now: counts that are due, and the access if it is the first of its
    /// kind, perhaps made vague. Nothing where it is counted.
    pub(super) fn note(&mut self, access: Access, now: Timestamp) -> Rows {
        // Looking through everything once a period is enough, and cheap.
        let is_time = self.looked.is_none_or(|looked| !is_within(looked, now));
        let mut rows = if is_time { self.due(now, false) } else { Rows::new() };
        let access = self.bounded(access);
        if let Some(open) = self.open.get_mut(&access) {
            if open.recorded || access.outcome != Outcome::Granted {
                open.more += 1;
            } else {
                rows.push((access, 1));
            }
            return rows;
        }
        *self.kinds.entry(access.who.clone()).or_default() += 1;
        self.strangers += usize::from(is_stranger(&access));
        self.open.insert(access.clone(), Open { since: now, more: 0, recorded: false });
        rows.push((access, 1));
        rows
    }

    /// Learns that an access is durable.
    pub(super) fn recorded(&mut self, access: &Access) {
        if let Some(open) = self.open.get_mut(access) {
            open.recorded = true;
        }
    }

    /// The counts whose period is over, or all.
    pub(super) fn due(&mut self, now: Timestamp, all: bool) -> Rows {
        self.looked = Some(now);
        let over = self.open.extract_if(|_, open| all || !is_within(open.since, now));
        let over: Vec<_> = over.collect();
        for (access, _) in &over {
            self.let_go(access);
        }
        over.into_iter().filter(|(_, open)| open.more > 0).map(|(access, open)| (access, open.more)).collect()
    }

    /// Takes back that an access was recorded: it could not be.
    pub(super) fn forget(&mut self, access: &Access) {
        if self.open.remove(access).is_some() {
            self.let_go(access);
        }
    }

    fn let_go(&mut self, access: &Access) {
        self.strangers -= usize::from(is_stranger(access));
        if let Some(kinds) = self.kinds.get_mut(&access.who) {
            *kinds -= 1;
            if *kinds == 0 {
                self.kinds.remove(&access.who);
            }
        }
    }

    fn bounded(&self, access: Access) -> Access {
        if access.outcome == Outcome::Granted || self.open.contains_key(&access) {
            return access;
        }
        let vague = |access: Access| {
            let (resource, reason) = (VARIOUS.into(), VARIOUS.into());
            Access { resource, reason, model: None, version: None, ..access }
        };
        if is_stranger(&access) && self.strangers >= STRANGERS {
            return Access { who: Who::Stranger(std::net::Ipv6Addr::UNSPECIFIED.into()), ..vague(access) };
        }
        if self.kinds.get(&access.who).is_some_and(|kinds| *kinds >= KINDS) { vague(access) } else { access }
    }
}

fn is_stranger(access: &Access) -> bool {
    matches!(access.who, Who::Stranger(_))
}

/// A clock that was set back ends the period.
fn is_within(since: Timestamp, now: Timestamp) -> bool {
    now >= since && now.duration_since(since) < PERIOD
}

#[cfg(test)]
mod tests {
    use super::{super::Action, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    fn refused(who: &str, resource: &str) -> Access {
        Access::refused(Who::Operator(who.into()), Action::Request, resource, "r", "wrong-role")
    }

    fn once(access: &Access) -> Rows {
        vec![(access.clone(), 1)]
    }

    #[test]
    fn the_first_is_a_row_and_the_rest_of_its_minute_another() {
        let mut merger = Merger::default();
        let access = refused("eve", "/a");
        assert_eq!(merger.note(access.clone(), at(0)), once(&access));
        for second in 1..60 {
            assert_eq!(merger.note(access.clone(), at(second)), []);
        }
        let due = vec![(access.clone(), 59), (access.clone(), 1)];
        assert_eq!(merger.note(access.clone(), at(60)), due);
        assert_eq!(merger.note(access.clone(), at(61)), []);
        assert_eq!(merger.due(at(62), false), []);
        assert_eq!(merger.due(at(62), true), [(access, 1)]);
        assert!(merger.open.is_empty() && merger.kinds.is_empty());
    }

    #[test]
    fn what_differs_in_anything_is_a_row_of_its_own() {
        let mut merger = Merger::default();
        let base = refused("eve", "/a");
        let others = [
            refused("mallory", "/a"),
            refused("eve", "/b"),
            Access { reason: "other".into(), ..base.clone() },
            Access { outcome: Outcome::Refused("bad-token"), ..base.clone() },
            Access { outcome: Outcome::Granted, ..base.clone() },
        ];
        for access in [base].into_iter().chain(others) {
            assert_eq!(merger.note(access.clone(), at(0)), once(&access));
        }
    }

    #[test]
    fn a_clock_that_goes_back_ends_the_period() {
        let mut merger = Merger::default();
        let access = refused("eve", "/a");
        assert_eq!(merger.note(access.clone(), at(1000)), once(&access));
        assert_eq!(merger.note(access.clone(), at(1001)), []);
        assert_eq!(merger.note(access.clone(), at(0)), vec![(access.clone(), 1), (access, 1)]);
    }

    #[test]
    fn one_caller_that_asks_for_ever_new_things_fills_no_disk() {
        let mut merger = Merger::default();
        let mut rows = 0;
        for index in 0..100_000 {
            rows += merger.note(refused("eve", &format!("/{index}")), at(0)).len();
        }
        assert_eq!(rows, KINDS + 1);
        let due = merger.due(at(60), false);
        assert_eq!(
            due.iter().map(|(access, times)| (access.resource.as_str(), *times)).collect::<Vec<_>>(),
            [(VARIOUS, (100_000 - KINDS - 1) as u64)]
        );
        let access = refused("eve", "/new");
        assert_eq!(merger.note(access.clone(), at(61)), once(&access), "the next minute is exact again");
    }

    #[test]
    fn ever_new_callers_fill_no_disk_and_hide_no_granted_read() {
        let mut merger = Merger::default();
        let stranger = |index: u32| {
            let who = Who::Stranger(std::net::Ipv4Addr::from(index).into());
            Access::refused(who, Action::Request, "/a", "r", "bad-token")
        };
        let rows = (0..50_000).map(|index| merger.note(stranger(index), at(0)).len()).sum::<usize>();
        assert_eq!(rows, STRANGERS + 1);
        let granted = Access::granted(Who::Operator("ann".into()), Action::ReadBlob, "d", "r");
        for named in [granted, refused("eve", "/a")] {
            assert_eq!(merger.note(named.clone(), at(0)), once(&named), "who has a name keeps it");
        }
        let total: u64 = merger.due(at(60), false).iter().map(|(_, times)| times).sum();
        assert_eq!(total as usize + rows, 50_000, "every one is counted");
        assert_eq!(merger.due(at(60), true), []);
        assert_eq!((merger.strangers, merger.kinds.len()), (0, 0));
    }

    #[test]
    fn a_granted_read_counts_beside_its_like_once_that_is_recorded() {
        let mut merger = Merger::default();
        let granted = Access::granted(Who::Operator("ann".into()), Action::ReadBlob, "d", "r");
        for _ in 0..2 {
            assert_eq!(merger.note(granted.clone(), at(0)), once(&granted));
        }
        merger.recorded(&granted);
        assert_eq!(merger.note(granted, at(1)), []);
    }

    #[test]
    fn what_could_not_be_recorded_is_tried_again() {
        let mut merger = Merger::default();
        let access = refused("eve", "/a");
        assert_eq!(merger.note(access.clone(), at(0)), once(&access));
        merger.forget(&access);
        assert_eq!(merger.note(access.clone(), at(0)), once(&access));
    }
}
