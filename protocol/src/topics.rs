//! The MQTT topic tree of DESIGN 7, and who may touch which part of it.
//!
//! `tern/v1/<fleet>/<device>/…` and `tern/v1/<fleet>/_fleet/…`. Topics are parsed once, here; the broker's policy and the
//! agent's link both ask this module and compare no strings of their own.

use std::fmt;

use crate::ids::{DeviceId, FleetId, InvalidName, ModelId, ModelName};

const ROOT: &str = "tern/v1";

/// A topic of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTopic {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// What is below it.
    pub channel: Channel,
}

/// What is below a device's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Online or offline: retained JSON, also the last will.
    Status,
    /// The signed desired state, from the server.
    Desired,
    /// What the device runs: retained JSON.
    Twin,
    /// Windows and events: binary.
    Report,
    /// What the server has committed of reports.
    Watermark,
    /// Figures of one model, for people: retained JSON.
    Model(ModelId),
    /// Figures of the device, for people: retained JSON.
    System,
}

/// Why a topic is refused to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefusal {
    /// It is not in the tree.
    #[error("topic is not one of tern's")]
    Unknown,
    /// It belongs to another device or fleet.
    #[error("topic belongs to {0}")]
    Foreign(String),
    /// It is the device's own, but written or read by the server only.
    #[error("topic is not for the device to use this way")]
    Direction,
    /// Retained where the tree says it must not be, or the reverse.
    #[error("topic must{0} be retained")]
    Retain(&'static str),
}

impl From<InvalidName> for TopicRefusal {
    fn from(_: InvalidName) -> Self {
        Self::Unknown
    }
}

impl fmt::Display for DeviceTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/{}/{}/", self.fleet, self.device)?;
        match &self.channel {
            Channel::Status => f.write_str("status"),
            Channel::Desired => f.write_str("desired"),
            Channel::Twin => f.write_str("twin"),
            Channel::Report => f.write_str("report"),
            Channel::Watermark => f.write_str("watermark"),
            Channel::System => f.write_str("m/system"),
            Channel::Model(model) => write!(f, "m/{model}"),
        }
    }
}

impl DeviceTopic {
    /// The topic in `text`.
    ///
    /// # Errors
    /// [`TopicRefusal::Unknown`] where it is not a device's topic of this tree. Wildcards are in no name, so a filter
    /// with wildcards is refused too.
    pub fn parse(text: &str) -> Result<Self, TopicRefusal> {
        let rest = text.strip_prefix(ROOT).and_then(|r| r.strip_prefix('/')).ok_or(TopicRefusal::Unknown)?;
        let mut parts = rest.splitn(3, '/');
        let (Some(fleet), Some(device), Some(below)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TopicRefusal::Unknown);
        };
        let channel = match below {
            "status" => Channel::Status,
            "desired" => Channel::Desired,
            "twin" => Channel::Twin,
            "report" => Channel::Report,
            "watermark" => Channel::Watermark,
            "m/system" => Channel::System,
            _ => Channel::Model(below.strip_prefix("m/").ok_or(TopicRefusal::Unknown)?.parse()?),
        };
        Ok(Self { fleet: fleet.parse()?, device: device.parse()?, channel })
    }
}

impl Channel {
    /// Whether messages here are retained.
    pub fn retained(&self) -> bool {
        matches!(self, Self::Status | Self::Twin | Self::Model(_) | Self::System)
    }

    fn written_by_device(&self) -> bool {
        !matches!(self, Self::Desired | Self::Watermark)
    }
}

/// What the server says of the fleet as a whole, for people and dashboards: retained JSON; an empty payload clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetChannel {
    /// One model.
    Model(ModelName),
    /// One rollout, by its id.
    Rollout(String),
    /// One incident, by its number.
    Incident(u64),
}

/// The topic of `channel` in `fleet`.
pub fn fleet_topic(fleet: &FleetId, channel: &FleetChannel) -> String {
    match channel {
        FleetChannel::Model(model) => format!("{ROOT}/{fleet}/_fleet/model/{}/{}", model.team, model.model),
        FleetChannel::Rollout(id) => format!("{ROOT}/{fleet}/_fleet/rollout/{id}"),
        FleetChannel::Incident(number) => format!("{ROOT}/{fleet}/_fleet/incident/{number}"),
    }
}

/// The topic of the audit log's newest head, which every device may read.
pub fn audit_head(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/_fleet/audit/head")
}

/// The topic that `device` of `fleet` publishes to, where it may.
///
/// # Errors
/// Why it may not. Last wills obey the same rule.
pub fn may_publish(fleet: &FleetId, device: &DeviceId, topic: &str, retain: bool) -> Result<Channel, TopicRefusal> {
    let parsed = own(fleet, device, topic)?;
    if !parsed.written_by_device() {
        return Err(TopicRefusal::Direction);
    }
    match (parsed.retained(), retain) {
        (true, false) => Err(TopicRefusal::Retain("")),
        (false, true) => Err(TopicRefusal::Retain(" not")),
        _ => Ok(parsed),
    }
}

/// Whether `device` of `fleet` may subscribe to `filter`: its own desired state and watermark, and the audit head.
///
/// # Errors
/// Why it may not. No wildcard is ever granted.
pub fn may_subscribe(fleet: &FleetId, device: &DeviceId, filter: &str) -> Result<(), TopicRefusal> {
    if filter == audit_head(fleet) {
        return Ok(());
    }
    match own(fleet, device, filter)? {
        Channel::Desired | Channel::Watermark => Ok(()),
        _ => Err(TopicRefusal::Direction),
    }
}

/// Whether a reader, such as a dashboard, may subscribe to `filter`: what devices and server say for people. Wildcards may
/// stand for a device and below `m/` and `_fleet/`, never where they would reach what is between a device and the server.
pub fn may_read(fleet: &FleetId, filter: &str) -> bool {
    let Some(rest) = filter.strip_prefix(ROOT).and_then(|r| r.strip_prefix('/')) else { return false };
    let parts: Vec<&str> = rest.split('/').collect();
    let [of, who, below @ ..] = &parts[..] else { return false };
    if *of != fleet.as_str() {
        return false;
    }
    if *who == "_fleet" {
        return are_levels(below);
    }
    let is_device = *who == "+" || who.parse::<DeviceId>().is_ok();
    let is_for_people = match below {
        ["status" | "twin"] => true,
        ["m", figures] => ["#", "+"].contains(figures) || figures.parse::<ModelId>().is_ok(),
        _ => false,
    };
    is_device && is_for_people
}

/// Whether these are levels of a filter: `#` is the last if it is there, wildcards stand alone.
fn are_levels(levels: &[&str]) -> bool {
    let Some((last, before)) = levels.split_last() else { return false };
    let is_level = |level: &str| level == "+" || !level.is_empty() && !level.contains(['+', '#']);
    before.iter().all(|level| is_level(level)) && (*last == "#" || is_level(last))
}

fn own(fleet: &FleetId, device: &DeviceId, topic: &str) -> Result<Channel, TopicRefusal> {
    let parsed = DeviceTopic::parse(topic)?;
    if parsed.fleet != *fleet || parsed.device != *device {
        return Err(TopicRefusal::Foreign(format!("{}/{}", parsed.fleet, parsed.device)));
    }
    Ok(parsed.channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> (FleetId, DeviceId) {
        ("f".parse().unwrap(), "d1".parse().unwrap())
    }

    #[test]
    fn a_device_writes_its_own_four_channels_only() {
        let (fleet, device) = names();
        let publish = |topic: &str, retain| may_publish(&fleet, &device, topic, retain);
        assert_eq!(publish("tern/v1/f/d1/status", true), Ok(Channel::Status));
        assert_eq!(publish("tern/v1/f/d1/twin", true), Ok(Channel::Twin));
        assert_eq!(publish("tern/v1/f/d1/report", false), Ok(Channel::Report));
        assert!(matches!(publish("tern/v1/f/d1/m/digits", true), Ok(Channel::Model(_))));
        assert_eq!(publish("tern/v1/f/d1/m/system", true), Ok(Channel::System));
        assert_eq!(publish("tern/v1/f/d1/desired", false), Err(TopicRefusal::Direction));
        assert_eq!(publish("tern/v1/f/d1/watermark", false), Err(TopicRefusal::Direction));
        assert_eq!(publish("tern/v1/f/d1/report", true), Err(TopicRefusal::Retain(" not")));
        assert_eq!(publish("tern/v1/f/d1/twin", false), Err(TopicRefusal::Retain("")));
        assert_eq!(publish("tern/v1/f/d10/twin", true), Err(TopicRefusal::Foreign("f/d10".into())));
        assert_eq!(publish("tern/v1/g/d1/twin", true), Err(TopicRefusal::Foreign("g/d1".into())));
        for topic in [
            "tern/v1/f/_fleet/audit/head",
            "$SYS/x",
            "tern/v1/f/d1",
            "tern/v1/f/d1/",
            "tern/v1/f/d1/twin/",
            "tern/v1/f/d1/m/a/b",
            "tern/v2/f/d1/twin",
            "tern/v1x/f/d1/twin",
        ] {
            assert_eq!(publish(topic, true), Err(TopicRefusal::Unknown), "{topic}");
        }
    }

    #[test]
    fn a_device_reads_its_own_orders_only() {
        let (fleet, device) = names();
        let subscribe = |filter: &str| may_subscribe(&fleet, &device, filter);
        for filter in ["tern/v1/f/d1/desired", "tern/v1/f/d1/watermark", "tern/v1/f/_fleet/audit/head"] {
            assert_eq!(subscribe(filter), Ok(()), "{filter}");
        }
        for filter in [
            "#",
            "+",
            "tern/v1/f/d1/#",
            "tern/v1/f/+/desired",
            "tern/v1/f/d2/desired",
            "tern/v1/f/d1/twin",
            "tern/v1/f/_fleet/#",
        ] {
            assert!(subscribe(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_reader_reads_what_is_said_for_people_only() {
        let (fleet, _) = names();
        for filter in [
            "tern/v1/f/d1/status",
            "tern/v1/f/+/status",
            "tern/v1/f/+/twin",
            "tern/v1/f/+/m/#",
            "tern/v1/f/d1/m/digits",
            "tern/v1/f/d1/m/+",
            "tern/v1/f/_fleet/#",
            "tern/v1/f/_fleet/model/+/+",
            "tern/v1/f/_fleet/incident/7",
            "tern/v1/f/_fleet/audit/head",
        ] {
            assert!(may_read(&fleet, filter), "{filter}");
        }
        for filter in [
            "#",
            "+/#",
            "tern/v1/#",
            "tern/v1/f/#",
            "tern/v1/f/+",
            "tern/v1/f/+/#",
            "tern/v1/f/+/+",
            "tern/v1/f/d1/#",
            "tern/v1/f/+/desired",
            "tern/v1/f/d1/watermark",
            "tern/v1/f/+/report",
            "tern/v1/g/+/status",
            "tern/v1/+/+/status",
            "tern/v1/+/_fleet/#",
            "+/v1/f/+/status",
            "tern/v1/f/+/m",
            "tern/v1/f/+/m/a/#",
            "tern/v1/f/_fleet",
            "tern/v1/f/_fleet/",
            "tern/v1/f/_fleet/#/x",
            "tern/v1/f/_fleet/a#",
            "$SYS/#",
            "",
        ] {
            assert!(!may_read(&fleet, filter), "{filter}");
        }
    }

    /// MQTT's own rule of which filter matches which topic.
    fn matches(filter: &str, topic: &str) -> bool {
        let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
        loop {
            match (filter.next(), topic.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    proptest! {
        #[test]
        fn no_filter_of_a_reader_matches_what_lies_between_device_and_server(
            levels in prop::collection::vec(prop::sample::select(vec![
                "tern", "v1", "f", "d1", "_fleet", "+", "#", "status", "m", "desired", "report", "watermark",
            ]), 1..7),
        ) {
            let filter = levels.join("/");
            if may_read(&names().0, &filter) {
                for below in ["desired", "report", "watermark"] {
                    let topic = format!("tern/v1/f/d1/{below}");
                    prop_assert!(!matches(&filter, &topic), "{} matches {}", filter, topic);
                }
            }
        }


        #[test]
        fn parsed_topics_print_as_they_were(text in "tern/v1/[a-z#+/]{1,12}/[a-z/]{1,12}") {
            if let Ok(topic) = DeviceTopic::parse(&text) { prop_assert_eq!(topic.to_string(), text); }
        }
    }
}
