//! How often one party may ask: a device on its routes, an address where machines enrol.
//!
//! A party has an allowance that fills up at a steady pace; whoever has used it up is answered 429 at once, before a body is
//! read, a record looked at or a certificate made, and is told when to come again. An install asks a few hundred times, a
//! factory behind one address enrols a few hundred machines in a row: both fit. The table is bounded: full, it is emptied,
//! which forgives everybody. Nobody is held for what another device asks.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tern_protocol::digest::Digest;

use crate::clock::Moment;

/// Time in which an allowance fills up from empty.
const FULL: Duration = Duration::from_secs(60);
/// Parties that are remembered.
const PARTIES: usize = 1 << 16;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// The holder of a key, by its digest: whoever has a key that was replaced uses nothing up of the device's own.
    Key(Digest),
    /// Whoever sits at an address; of IPv6 a /64, since a host owns a whole one.
    Address(IpAddr),
}

impl Party {
    /// The party at this address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What is left of an allowance, as the time that it would take to fill up from empty.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: Duration,
    at: Duration,
}

impl Allowance {
    /// Takes one request, which costs so much, at `now`, or says how long until one is left.
    fn take(&mut self, one: Duration, now: Duration) -> Result<(), Duration> {
        self.left = FULL.min(self.left + now.saturating_sub(self.at));
        self.at = now;
        match self.left.checked_sub(one) {
            Some(left) => self.left = left,
            None => return Err(one - self.left),
        }
        Ok(())
    }
}

/// Every party's allowance.
#[derive(Debug)]
pub struct Rates {
    began: Moment,
    one: Duration,
    table: Mutex<HashMap<Party, Allowance>>,
}

impl Rates {
    /// Rates by which a party may ask `at_once` times, and as often in each minute from then on.
    pub fn new(at_once: u32) -> Self {
        Self { began: Moment::now(), one: FULL / at_once.max(1), table: Mutex::default() }
    }

    /// Takes one request of this party, or says how long until it may come again.
    ///
    /// # Errors
    /// Where its allowance is used up.
    pub fn take(&self, party: Party) -> Result<(), Duration> {
        self.take_at(party, self.began.elapsed())
    }

    fn take_at(&self, party: Party, now: Duration) -> Result<(), Duration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= PARTIES && !table.contains_key(&party) {
            table.clear();
        }
        table.entry(party).or_insert(Allowance { left: FULL, at: now }).take(self.one, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(address: &str) -> Party {
        Party::at(address.parse().unwrap())
    }

    #[test]
    fn an_allowance_is_used_up_fills_again_and_is_one_partys_own() {
        const BURST: u32 = 600;
        const ONE: Duration = Duration::from_millis(100);
        let (rates, device) = (Rates::new(BURST), Party::Key(Digest::of(b"cam-1")));
        for _ in 0..BURST {
            assert_eq!(rates.take_at(device.clone(), Duration::ZERO), Ok(()));
        }
        assert_eq!(rates.take_at(device.clone(), Duration::ZERO), Err(ONE));
        assert_eq!(rates.take_at(party("192.0.2.1"), Duration::ZERO), Ok(()));
        assert_eq!(rates.take_at(Party::Key(Digest::of(b"cam-2")), Duration::ZERO), Ok(()));
        // Who asks in vain loses nothing by it.
        let half = ONE / 2;
        assert_eq!(rates.take_at(device.clone(), half), Err(half));
        assert_eq!(rates.take_at(device.clone(), ONE), Ok(()));
        assert_eq!(rates.take_at(device.clone(), ONE), Err(ONE));
        // It fills up, and no further.
        let later = FULL * 9;
        for _ in 0..BURST {
            assert_eq!(rates.take_at(device.clone(), later), Ok(()));
        }
        assert_eq!(rates.take_at(device, later), Err(ONE));
    }

    #[test]
    fn a_host_is_one_party_however_many_addresses_it_has() {
        assert_eq!(party("2001:db8::1"), party("2001:db8::2:3"));
        assert_ne!(party("2001:db8::1"), party("2001:db8:0:1::1"));
        assert_eq!(party("::ffff:192.0.2.1"), party("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded() {
        let rates = Rates::new(1);
        for n in 0..u32::try_from(PARTIES).unwrap() + 9 {
            assert_eq!(rates.take_at(Party::Address(IpAddr::V4(n.into())), Duration::ZERO), Ok(()));
        }
        assert_eq!(rates.table.lock().unwrap().len(), 9);
    }
}
