//! The start-up self-test: sees with its own eyes that strangers are refused, before anybody can reach the broker.
//!
//! The core answers yes where a hook gives no answer, so a wiring mistake or a changed dependency would open every
//! topic without a sign. The test goes through the loopback listener as any client would. It needs nothing from the
//! policy but honest answers about the client `$probe`, a name that no certificate can have.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tern_protocol::digest::Digest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::links::{Kind, Links, Registered, Ticket};
use super::mqtt::{Core, Qos};
use super::policy::Identity;
use super::probe::Probe;

/// The stranger whom the policy must refuse everything.
const PROBE: &str = "$probe";

/// The onlooker that sees what is routed.
const OBSERVER: &str = "$observer";

/// Bound on each step; a loopback answer takes milliseconds.
const STEP: Duration = Duration::from_secs(10);

/// What the self-test tries as the client `$probe`.
#[derive(Debug, Clone)]
pub struct SelfTest {
    /// A topic that only some other client may publish on or leave a will on.
    pub topic: String,
    /// A filter that only some other client may subscribe to.
    pub filter: String,
}

/// One step of the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTestStep {
    /// A connection that did not come through the front is refused.
    NoTicket,
    /// A client id that is not the certificate name is refused.
    ForeignClientId,
    /// A last will on a foreign topic is refused.
    ForeignWill,
    /// The onlooker connects and subscribes, so that the next steps prove something.
    Observer,
    /// A subscribe to a foreign filter is refused.
    ForeignSubscribe,
    /// A publish on a foreign topic drops the connection without an acknowledgement.
    ForeignPublish,
    /// That publish was routed to nobody.
    Routing,
}

impl fmt::Display for SelfTestStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SelfTestStep::NoTicket => "connection past the front",
            SelfTestStep::ForeignClientId => "foreign client id",
            SelfTestStep::ForeignWill => "foreign last will",
            SelfTestStep::Observer => "onlooker",
            SelfTestStep::ForeignSubscribe => "foreign subscribe",
            SelfTestStep::ForeignPublish => "foreign publish",
            SelfTestStep::Routing => "routing of a foreign publish",
        })
    }
}

/// A client of the self-test. The ticket goes before the stream, the registration after both.
struct Client {
    _ticket: Option<Ticket>,
    probe: Probe<TcpStream>,
    _registered: Option<Registered>,
}

/// Runs all steps; the first that fails, or does not end in time, is the error.
pub(super) async fn run(test: &SelfTest, core: &Core, links: &Arc<Links>) -> Result<(), SelfTestStep> {
    let stranger = || client(PROBE, Kind::Probe, core, links);

    expect(SelfTestStep::NoTicket, async {
        let stream = TcpStream::connect(core.address()).await?;
        let mut past_the_front = Client { _ticket: None, probe: Probe::new(stream), _registered: None };
        Ok(!past_the_front.probe.connect(PROBE, None).await?)
    })
    .await?;
    expect(SelfTestStep::ForeignClientId, async { Ok(!stranger().await?.probe.connect("someone", None).await?) })
        .await?;
    expect(SelfTestStep::ForeignWill, async { Ok(!stranger().await?.probe.connect(PROBE, Some(&test.topic)).await?) })
        .await?;

    let mut observer = client(OBSERVER, Kind::Observer, core, links).await.map_err(|_| SelfTestStep::Observer)?;
    expect(SelfTestStep::Observer, async {
        Ok(observer.probe.connect(OBSERVER, None).await? && observer.probe.subscribe(&test.topic).await?)
    })
    .await?;

    // One connection for both: a client id that comes back at once can meet the core still clearing its old session.
    let mut probe = stranger().await.map_err(|_| SelfTestStep::ForeignSubscribe)?;
    expect(SelfTestStep::ForeignSubscribe, async {
        Ok(probe.probe.connect(PROBE, None).await? && !probe.probe.subscribe(&test.filter).await?)
    })
    .await?;
    expect(SelfTestStep::ForeignPublish, async { Ok(!probe.probe.publish(&test.topic, b"foreign").await?) }).await?;
    expect(SelfTestStep::Routing, async {
        // Routed in order, so the foreign message would arrive before this one.
        core.publish(test.topic.clone(), "marker".into(), Qos::AtMostOnce, false).await?;
        Ok(observer.probe.delivered().await? == b"marker")
    })
    .await
}

async fn expect(step: SelfTestStep, trial: impl Future<Output = anyhow::Result<bool>>) -> Result<(), SelfTestStep> {
    match timeout(STEP, trial).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(step),
        Ok(Err(failure)) => {
            tracing::error!(%step, failure = format!("{failure:#}"), "broker self-test step failed");
            Err(step)
        }
        Err(_) => {
            tracing::error!(%step, "broker self-test step did not end in time");
            Err(step)
        }
    }
}

async fn client(name: &str, kind: Kind, core: &Core, links: &Arc<Links>) -> anyhow::Result<Client> {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // There is no certificate, and nobody is asked about it.
    let key_sha256 = Digest::of(&[]);
    let identity = Identity { name: name.to_owned(), key_sha256, peer, not_after: SystemTime::UNIX_EPOCH };
    let registered =
        links.register(identity, None, kind).map_err(|refusal| anyhow::anyhow!("register: {}", refusal.name()))?;
    let loopback = links.connect(&registered.link, core.address()).await?;
    Ok(Client { _ticket: Some(loopback.ticket), probe: Probe::new(loopback.stream), _registered: Some(registered) })
}

#[cfg(test)]
mod tests {
    use super::super::gate::Gate;
    use super::super::policy::{Answer, Connection, Denied, End, Passing, Policy, Publication, Rejected};
    use super::super::{Counters, Limits, Refusal};
    use super::*;

    struct Nobody;

    impl Policy for Nobody {
        fn authenticate<'a>(&'a self, _: &'a Identity) -> Answer<'a, Result<(), Denied>> {
            Box::pin(async { Err(Denied { reason: "nobody may".into() }) })
        }
        fn may_publish(&self, _: &str, _: &str, _: bool) -> bool {
            false
        }
        fn may_subscribe(&self, _: &str, _: &str) -> bool {
            false
        }
        fn may_will(&self, _: &str, _: &str, _: bool) -> bool {
            false
        }
        fn on_publish<'a>(&'a self, _: Publication<'a>) -> Answer<'a, Result<(), Rejected>> {
            Box::pin(async { Err(Rejected { reason: "nothing is taken".into(), passing: Passing::Never }) })
        }
        fn on_connected(&self, connection: &Connection) {
            panic!("the policy heard of {connection:?}");
        }
        fn on_disconnected(&self, connection: &Connection, _: End) {
            panic!("the policy heard of {connection:?}");
        }
    }

    #[tokio::test]
    async fn each_step_meets_exactly_the_refusal_that_it_is_for() {
        let (counters, links) = (Arc::new(Counters::default()), Arc::new(Links::new(Limits::default())));
        let gate = Arc::new(Gate::new(Arc::new(Nobody), links.clone(), counters.clone()));
        let core = Core::start(&Limits::default(), gate, counters.clone()).await.unwrap();
        let test = SelfTest { topic: "t/other/report".into(), filter: "t/other/#".into() };
        assert_eq!(run(&test, &core, &links).await, Ok(()));
        for refusal in Refusal::ALL {
            let met = matches!(refusal, Refusal::NoTicket | Refusal::WrongClientId | Refusal::Will | Refusal::Publish);
            // The policy also refuses the onlooker, whom the gate then lets through by its kind.
            let expected = u64::from(met || refusal == Refusal::Subscribe);
            assert_eq!(counters.refused(refusal), expected, "{refusal:?}");
        }
        assert_eq!(links.live(PROBE) + links.live(OBSERVER), 0);
    }
}
