//! `docs/mqtt.md` against the code: its examples are what the types write, its tables explain every member, and its rules of
//! access are those of the broker.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tern_fleet_server::forms::{
    incident::{IncidentRow, ModelFigures},
    rollouts::RolloutRow,
};
use tern_protocol::{
    figures,
    ids::FleetId,
    topics::{self, DeviceTopic, FleetChannel, fleet_topic},
    twin::{Status, Twin},
    watermark::Watermark,
};

use super::tree::{none, read};

/// A part of the page about one topic.
struct Section {
    topic: String,
    text: String,
}

impl Section {
    fn example(&self) -> Option<Value> {
        let json = self.text.split("```json\n").nth(1)?.split("```").next()?;
        Some(serde_json::from_str(json).unwrap_or_else(|error| panic!("{}: {error}", self.topic)))
    }

    /// The members that the table explains.
    fn explained(&self) -> BTreeSet<String> {
        let cells = self.text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        cells.flat_map(|cell| cell.split("`, `").map(|name| name.trim_matches('`').to_owned())).collect()
    }
}

fn sections() -> Vec<Section> {
    let page = read("docs/mqtt.md");
    let parts = page.split("\n### `").skip(1);
    let section = |part: &str| {
        let (topic, text) = part.split_once("`\n").expect("a heading with a topic");
        Section { topic: topic.to_owned(), text: text.split("\n## ").next().unwrap_or_default().to_owned() }
    };
    parts.map(section).collect()
}

/// What the type makes of the example: the same, where the page is right.
fn told<T: Serialize + DeserializeOwned>(example: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(example.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

fn told_of(topic: &str, example: &Value) -> Result<Value, String> {
    match topic {
        "<device>/status" => told::<Status>(example),
        "<device>/twin" => told::<Twin>(example),
        "<device>/m/<model>" => told::<figures::ModelFigures>(example),
        "<device>/m/system" => told::<figures::SystemFigures>(example),
        "<device>/watermark" => told::<Watermark>(example),
        "_fleet/model/<team>/<model>" => told::<ModelFigures>(example),
        "_fleet/rollout/<id>" => told::<RolloutRow>(example),
        "_fleet/incident/<number>" => told::<IncidentRow>(example),
        other => Err(format!("no type is known of {other}")),
    }
}

/// The names of an object's members and of those within; the names of labels are the user's.
fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                found.insert(name.clone());
                if name != "labels" {
                    members(inner, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, found)),
        _ => {}
    }
}

#[test]
fn examples_are_what_the_types_write_and_every_member_is_explained() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for section in sections() {
        let Some(example) = section.example() else { continue };
        seen += 1;
        match told_of(&section.topic, &example) {
            Ok(told) if told == example => {}
            Ok(told) => wrong.push(format!("{}: the type writes {told}", section.topic)),
            Err(error) => wrong.push(format!("{}: {error}", section.topic)),
        }
        let mut named = BTreeSet::new();
        members(&example, &mut named);
        let explained = section.explained();
        wrong.extend(named.difference(&explained).map(|name| format!("{}: {name} is not explained", section.topic)));
    }
    assert_eq!(seen, 8, "topics with an example");
    none(&wrong, "docs/mqtt.md says something else than the code: bring both together");
}

#[test]
fn the_table_of_topics_is_that_of_the_code() {
    let fleet: FleetId = "f".parse().expect("a name");
    let page = read("docs/mqtt.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains(" → "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let sections: BTreeSet<_> = sections().into_iter().map(|section| section.topic).collect();
    let mut wrong = Vec::new();
    let named: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    wrong
        .extend(named.symmetric_difference(&sections).map(|topic| format!("{topic} has a row or a section, not both")));
    for row in &rows {
        let path = row[0].trim_matches('`');
        let topic = format!("tern/v1/f/{}", path.replace("<device>", "cam-1").replace(['<', '>'], ""));
        let topic = topic.replace("incident/number", "incident/7");
        let is_retained = match DeviceTopic::parse(&topic) {
            Ok(parsed) => parsed.channel.retained(),
            Err(_) => path.starts_with("_fleet/"),
        };
        if (row[2] == "yes") != is_retained {
            wrong.push(format!("{path}: retained is {is_retained}"));
        }
        if (row[4] == "read") != topics::may_read(&fleet, &topic) {
            wrong.push(format!("{path}: dashboards may read it, or may not, unlike the page says"));
        }
    }
    for channel in [
        FleetChannel::Model("team/model".parse().expect("a name")),
        FleetChannel::Rollout("id".into()),
        FleetChannel::Incident(7),
    ] {
        let topic = fleet_topic(&fleet, &channel);
        let known = rows.iter().any(|row| {
            let path = row[0].trim_matches('`').replace(['<', '>'], "").replace("incident/number", "incident/7");
            topic == format!("tern/v1/f/{path}")
        });
        if !known {
            wrong.push(format!("{topic} is not on the page"));
        }
    }
    assert_eq!(rows.len(), 10, "topics");
    none(&wrong, "the table of docs/mqtt.md and the code differ");
}

#[test]
fn what_the_page_lets_dashboards_subscribe_to_is_granted() {
    let fleet: FleetId = "plant-7".parse().expect("a name");
    let page = read("docs/mqtt.md");
    let block = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a list of filters");
    let filters: Vec<_> = block.lines().map(|line| line.replace("<fleet>", "plant-7")).collect();
    assert_eq!(filters.len(), 4);
    let wrong: Vec<_> = filters.into_iter().filter(|filter| !topics::may_read(&fleet, filter)).collect();
    none(&wrong, "the broker refuses these, the page promises them");
}
