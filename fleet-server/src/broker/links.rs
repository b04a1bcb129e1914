//! The table of live connections: limits, one-time tickets of the loopback hop, and who is seated as which client.
//!
//! A ticket is the loopback source address of a connection that the front has made; the core's authentication hook
//! redeems it once. Every entry is owned by a guard, so it goes when its connection's task goes, however that ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rmqtt::types::Id;
use tern_protocol::digest::Digest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::policy::{Connection, End, Identity, Policy};
use super::{Limits, Refusal};

/// One connection from the front, or from the self-test.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) kind: Kind,
    redeemed: AtomicBool,
    /// When the certificate ends, in seconds since 1970: a renewal moves it.
    not_after: AtomicU64,
    phase: Mutex<Phase>,
    end: watch::Sender<Option<End>>,
}

/// Who stands behind a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A certificate that the front has verified.
    Certificate,
    /// The self-test's stranger: the policy is asked for its every request.
    Probe,
    /// The self-test's onlooker: may subscribe to anything.
    Observer,
}

/// What the policy has been told about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Connected,
    Ended,
}

impl Link {
    pub(super) fn name(&self) -> &str {
        &self.connection.identity.name
    }

    /// Returns whether the core has seen a CONNECT of the connection.
    pub(super) fn is_redeemed(&self) -> bool {
        self.redeemed.load(Relaxed)
    }

    /// Asks the connection to end; the first reason stays.
    pub(super) fn end(&self, reason: End) {
        self.end.send_if_modified(|end| end.is_none() && end.replace(reason).is_none());
    }

    pub(super) fn ending(&self) -> watch::Receiver<Option<End>> {
        self.end.subscribe()
    }

    /// Tells the policy of the connection, unless the link has ended meanwhile.
    pub(super) fn report_connected(&self, policy: &dyn Policy) {
        let mut phase = lock(&self.phase);
        if self.kind == Kind::Certificate && *phase == Phase::Opening {
            *phase = Phase::Connected;
            policy.on_connected(&self.connection);
        }
    }

    fn report_ended(&self, policy: &dyn Policy, end: End) {
        if std::mem::replace(&mut *lock(&self.phase), Phase::Ended) == Phase::Connected {
            policy.on_disconnected(&self.connection, end);
        }
    }
}

/// All live connections.
pub(super) struct Links {
    table: Mutex<Table>,
    limits: Limits,
}

#[derive(Default)]
struct Table {
    stopping: bool,
    last_number: u64,
    occupied: usize,
    by_source: HashMap<IpAddr, usize>,
    by_name: HashMap<String, Vec<Arc<Link>>>,
    tickets: HashMap<SocketAddr, Arc<Link>>,
    seats: HashMap<String, Seat>,
}

/// The connection that the core has last authenticated for a client.
struct Seat {
    id: Id,
    link: Arc<Link>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    pub(super) fn new(limits: Limits) -> Links {
        Links { table: Mutex::default(), limits }
    }

    /// Takes a place for a connection from `peer`, before its handshake.
    pub(super) fn occupy(self: &Arc<Self>, peer: SocketAddr) -> Result<Place, Refusal> {
        let source = source(peer.ip());
        let mut table = lock(&self.table);
        if table.stopping {
            return Err(Refusal::Stopping);
        }
        if table.occupied >= self.limits.connections {
            return Err(Refusal::Full);
        }
        let from_source = table.by_source.entry(source).or_default();
        if *from_source >= self.limits.connections_per_source {
            return Err(Refusal::SourceFull);
        }
        *from_source += 1;
        table.occupied += 1;
        Ok(Place { links: self.clone(), source })
    }

    /// Registers a connection under its certificate name; `policy` hears of its end.
    pub(super) fn register(
        self: &Arc<Self>,
        identity: Identity,
        policy: Option<Arc<dyn Policy>>,
        kind: Kind,
    ) -> Result<Registered, Refusal> {
        let mut table = lock(&self.table);
        if table.stopping {
            return Err(Refusal::Stopping);
        }
        if table.by_name.get(&identity.name).is_some_and(|links| links.len() >= self.limits.connections_per_name) {
            return Err(Refusal::NameFull);
        }
        // The self-test's connections have no number: the policy never hears of them.
        table.last_number += u64::from(kind == Kind::Certificate);
        let number = if kind == Kind::Certificate { table.last_number } else { 0 };
        let not_after = AtomicU64::new(seconds(identity.not_after));
        let connection = Connection { number, identity };
        let (end, _) = watch::channel(None);
        let link = Arc::new(Link {
            connection,
            kind,
            redeemed: AtomicBool::new(false),
            not_after,
            phase: Mutex::new(Phase::Opening),
            end,
        });
        table.by_name.entry(link.name().to_owned()).or_default().push(link.clone());
        Ok(Registered { links: self.clone(), link, policy, end: End::Stopping })
    }

    /// Connects to the core's loopback listener with a ticket for `link`.
    pub(super) async fn connect(self: &Arc<Self>, link: &Arc<Link>, core: SocketAddr) -> io::Result<Loopback> {
        let socket = TcpSocket::new_v4()?;
        // The ticket must stand before the core can see the connection, so the port is chosen first.
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        lock(&self.table).tickets.insert(address, link.clone());
        let ticket = Ticket { links: self.clone(), address };
        let stream = socket.connect(core).await?;
        stream.set_nodelay(true)?;
        Ok(Loopback { ticket, stream })
    }

    /// Takes the ticket of the loopback address `from`; a second call finds none.
    pub(super) fn redeem(&self, from: SocketAddr) -> Option<Arc<Link>> {
        let link = lock(&self.table).tickets.remove(&from)?;
        link.redeemed.store(true, Relaxed);
        Some(link)
    }

    /// Seats `link` as the client of session `id`, if it is still there.
    pub(super) fn seat(&self, id: Id, link: Arc<Link>) {
        let mut table = lock(&self.table);
        let registered =
            table.by_name.get(link.name()).is_some_and(|links| links.iter().any(|l| Arc::ptr_eq(l, &link)));
        if registered {
            table.seats.insert(link.name().to_owned(), Seat { id, link });
        }
    }

    /// Returns the link that is seated for session `id`.
    pub(super) fn seated(&self, id: &Id) -> Option<Arc<Link>> {
        let table = lock(&self.table);
        table.seats.get(&*id.client_id).filter(|seat| seat.id == *id).map(|seat| seat.link.clone())
    }

    /// Returns whether another connection than session `id` is seated for its client.
    pub(super) fn superseded(&self, id: &Id) -> bool {
        lock(&self.table).seats.get(&*id.client_id).is_some_and(|seat| seat.id != *id)
    }

    /// Returns whether another connection has taken the seat of `link`.
    pub(super) fn unseated(&self, link: &Arc<Link>) -> bool {
        lock(&self.table).seats.get(link.name()).is_some_and(|seat| !Arc::ptr_eq(&seat.link, link))
    }

    /// Ends the older connections of the client of `link`, once the core has taken its session over.
    pub(super) fn end_older(&self, link: &Link) {
        // Collected first: the policy may call back into the table while it is told of a connection.
        let others = lock(&self.table).by_name.get(link.name()).cloned().unwrap_or_default();
        for other in others.iter().filter(|other| other.connection.number < link.connection.number) {
            if *lock(&other.phase) == Phase::Connected {
                other.end(End::TakenOver);
            }
        }
    }

    pub(super) fn end_all_of(&self, name: &str, reason: End) -> usize {
        let table = lock(&self.table);
        let links = table.by_name.get(name).map_or(&[][..], Vec::as_slice);
        links.iter().for_each(|link| link.end(reason));
        links.len()
    }

    /// Ends every connection whose certificate has reached its end at `now`.
    pub(super) fn end_expired(&self, now: SystemTime) {
        for link in lock(&self.table).by_name.values().flatten() {
            if link.not_after.load(Relaxed) <= seconds(now) {
                link.end(End::Expired);
            }
        }
    }

    /// Lets the connections of `name` with this key live on until `not_after`: their certificate was renewed.
    pub(super) fn extend(&self, name: &str, key_sha256: &Digest, not_after: SystemTime) {
        for link in lock(&self.table).by_name.get(name).into_iter().flatten() {
            if link.connection.identity.key_sha256 == *key_sha256 {
                link.not_after.fetch_max(seconds(not_after), Relaxed);
            }
        }
    }

    /// Ends every connection and lets no other in.
    pub(super) fn stop(&self) {
        let mut table = lock(&self.table);
        table.stopping = true;
        table.by_name.values().flatten().for_each(|link| link.end(End::Stopping));
    }

    pub(super) fn live(&self, name: &str) -> usize {
        lock(&self.table).by_name.get(name).map_or(0, Vec::len)
    }

    pub(super) fn occupied(&self) -> usize {
        lock(&self.table).occupied
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The unit that the per-source limit counts: an IPv4 address, or an IPv6 /64, since a host owns a whole one.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// A place among the front's connections.
pub(super) struct Place {
    links: Arc<Links>,
    source: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.links.table);
        table.occupied -= 1;
        if let Some(from_source) = table.by_source.get_mut(&self.source) {
            *from_source -= 1;
            if *from_source == 0 {
                table.by_source.remove(&self.source);
            }
        }
    }
}

/// A registered connection; dropping it tells the policy that it ended.
pub(super) struct Registered {
    links: Arc<Links>,
    pub(super) link: Arc<Link>,
    policy: Option<Arc<dyn Policy>>,
    /// The reason that the policy will hear.
    pub(super) end: End,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Whoever waits on behalf of the connection learns that there is none any more.
        self.link.end(self.end);
        let name = self.link.name();
        {
            let mut table = lock(&self.links.table);
            if let Some(links) = table.by_name.get_mut(name) {
                links.retain(|link| !Arc::ptr_eq(link, &self.link));
                if links.is_empty() {
                    table.by_name.remove(name);
                }
            }
            if table.seats.get(name).is_some_and(|seat| Arc::ptr_eq(&seat.link, &self.link)) {
                table.seats.remove(name);
            }
        }
        if let Some(policy) = &self.policy {
            self.link.report_ended(policy.as_ref(), self.end);
        }
    }
}

/// A loopback connection to the core. The ticket stands first: it must be gone before the port can be used again.
pub(super) struct Loopback {
    pub(super) ticket: Ticket,
    pub(super) stream: TcpStream,
}

/// A ticket that goes unredeemed no further than its connection.
pub(super) struct Ticket {
    links: Arc<Links>,
    address: SocketAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.links.table).tickets.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    fn identity(name: &str) -> Identity {
        let key_sha256 = Digest::of(name.as_bytes());
        Identity { name: name.into(), key_sha256, peer: peer("192.0.2.1"), not_after: SystemTime::UNIX_EPOCH }
    }

    fn links(connections: usize, per_source: usize, per_name: usize) -> Arc<Links> {
        Arc::new(Links::new(Limits {
            connections,
            connections_per_source: per_source,
            connections_per_name: per_name,
            ..Limits::default()
        }))
    }

    #[test]
    fn places_are_bounded_in_total_and_per_source_and_come_back() {
        let links = links(3, 2, 1);
        let first = links.occupy(peer("192.0.2.1")).ok().unwrap();
        let _second = links.occupy(peer("::ffff:192.0.2.1")).ok().unwrap();
        assert_eq!(links.occupy(peer("192.0.2.1")).err(), Some(Refusal::SourceFull));
        let _third = links.occupy(peer("2001:db8::1")).ok().unwrap();
        assert_eq!(links.occupy(peer("198.51.100.9")).err(), Some(Refusal::Full));
        drop(first);
        assert!(links.occupy(peer("192.0.2.1")).is_ok());
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        assert_eq!(source("2001:db8::1".parse().unwrap()), source("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(source("2001:db8::1".parse().unwrap()), source("2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn names_are_bounded_and_the_first_end_stays() {
        let links = links(9, 9, 1);
        let registered = links.register(identity("a"), None, Kind::Certificate).ok().unwrap();
        assert_eq!(links.register(identity("a"), None, Kind::Certificate).err(), Some(Refusal::NameFull));
        assert_eq!(links.end_all_of("a", End::Cut), 1);
        links.end_expired(SystemTime::UNIX_EPOCH);
        assert_eq!(*registered.link.ending().borrow(), Some(End::Cut));
        drop(registered);
        assert_eq!(links.end_all_of("a", End::Cut), 0);
        links.stop();
        assert_eq!(links.register(identity("b"), None, Kind::Certificate).err(), Some(Refusal::Stopping));
        assert_eq!(links.occupy(peer("192.0.2.1")).err(), Some(Refusal::Stopping));
    }

    #[test]
    fn a_renewed_certificate_lets_the_connections_of_its_key_live_on() {
        let links = links(9, 9, 9);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let own = links.register(identity("a"), None, Kind::Certificate).ok().unwrap();
        let other = Identity { key_sha256: Digest::of(b"other"), ..identity("a") };
        let other = links.register(other, None, Kind::Certificate).ok().unwrap();
        links.extend("a", &Digest::of(b"a"), at(9));
        links.extend("a", &Digest::of(b"a"), at(5));
        links.end_expired(at(8));
        assert_eq!((*own.link.ending().borrow(), *other.link.ending().borrow()), (None, Some(End::Expired)));
        links.end_expired(at(9));
        assert_eq!(*own.link.ending().borrow(), Some(End::Expired));
    }

    #[tokio::test]
    async fn a_ticket_is_good_once_and_only_while_its_connection_lives() {
        let core = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let links = links(9, 9, 9);
        let registered = links.register(identity("a"), None, Kind::Certificate).ok().unwrap();
        let loopback = links.connect(&registered.link, core.local_addr().unwrap()).await.unwrap();
        let (_stream, from) = core.accept().await.unwrap();
        assert_eq!(links.redeem(from).unwrap().name(), "a");
        assert!(links.redeem(from).is_none());
        drop(loopback);

        let loopback = links.connect(&registered.link, core.local_addr().unwrap()).await.unwrap();
        let (_stream, from) = core.accept().await.unwrap();
        drop(loopback);
        assert!(links.redeem(from).is_none());
    }
}
