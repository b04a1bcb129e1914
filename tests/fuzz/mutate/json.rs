//! JSON: a tree that can also hold what no library writes, such as a name twice or a number of a thousand digits.

use serde_json::Value;

use super::{binary, times};
use crate::random::Random;

/// A value, with members in the order in which they are written.
#[derive(Clone)]
enum Node {
    /// Written as it is: numbers, literals, and what is no JSON at all.
    Raw(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn of(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::of).collect()),
            Value::Object(members) => Self::Object(members.into_iter().map(|(name, v)| (name, Self::of(v))).collect()),
            scalar => Self::Raw(scalar.to_string()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Text(text) => out.push_str(&Value::String(text.clone()).to_string()),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, item)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    Self::Text(name.clone()).write(out);
                    out.push(':');
                    item.write(out);
                }
                out.push('}');
            }
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Self::Raw(_) | Self::Text(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Object(members) => members.iter().map(|(_, item)| item.count()).sum(),
        }
    }

    /// How long it is when written.
    fn length(&self) -> usize {
        let mut text = String::new();
        self.write(&mut text);
        text.len()
    }

    /// The node of this number, in the order of writing.
    fn nth(&mut self, number: usize) -> &mut Self {
        let mut left = number;
        self.find(&mut left).expect("a number below the count")
    }

    fn find(&mut self, left: &mut usize) -> Option<&mut Self> {
        if *left == 0 {
            return Some(self);
        }
        *left -= 1;
        match self {
            Self::Raw(_) | Self::Text(_) => None,
            Self::List(items) => items.iter_mut().find_map(|item| item.find(left)),
            Self::Object(members) => members.iter_mut().find_map(|(_, item)| item.find(left)),
        }
    }
}

/// One edit of a document, as JSON where it is JSON.
pub(super) fn mutate(input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let (Some(mut tree), Some(mut donor)) = (parse(&input), parse(other)) else {
        return binary::mutate(input, other, random);
    };
    let at = random.below(tree.count());
    let from = random.below(donor.count());
    let node = tree.nth(at);
    match random.below(6) {
        0 => *node = odd(random),
        1 => *node = donor.nth(from).clone(),
        _ => edit(node, random),
    }
    let mut text = String::new();
    tree.write(&mut text);
    text.into_bytes()
}

fn parse(bytes: &[u8]) -> Option<Node> {
    serde_json::from_slice(bytes).ok().map(Node::of)
}

fn edit(node: &mut Node, random: &mut Random) {
    match node {
        Node::Raw(text) => *text = number(text, random),
        Node::Text(text) => *text = string(text, random),
        Node::List(items) => edit_list(items, random),
        Node::Object(members) => edit_object(members, random),
    }
}

fn edit_list(items: &mut Vec<Node>, random: &mut Random) {
    let at = random.below(items.len());
    match random.below(6) {
        0 => items.clear(),
        1 if !items.is_empty() => drop(items.remove(at)),
        2 if !items.is_empty() => {
            let item = items[at].clone();
            let most = if random.once_in(8) { 100_000 } else { 2000 } / item.count();
            let wanted = random.length(most.max(1));
            let length = item.length();
            items.extend(std::iter::repeat_n(item, times(wanted, length)));
        }
        3 => items.reverse(),
        4 => items.insert(at, odd(random)),
        _ => items.push(odd(random)),
    }
}

fn edit_object(members: &mut Vec<(String, Node)>, random: &mut Random) {
    let at = random.below(members.len());
    match random.below(7) {
        0 if !members.is_empty() => drop(members.remove(at)),
        // A name twice, with the same value or another.
        1 if !members.is_empty() => {
            let twice = members[at].clone();
            members.insert(at, twice);
        }
        2 if !members.is_empty() => {
            let name = members[at].0.clone();
            let place = if random.once_in(2) { at } else { members.len() };
            members.insert(place, (name, odd(random)));
        }
        3 if !members.is_empty() => members[at].0 = string(&members[at].0, random),
        4 => members.reverse(),
        5 => members.extend((0..random.length(2000)).map(|number| (format!("m{number}"), Node::Raw("0".into())))),
        _ => members.push((string("name", random), odd(random))),
    }
}

/// A value that fits nowhere.
fn odd(random: &mut Random) -> Node {
    const LITERALS: [&str; 12] =
        ["null", "true", "false", "[]", "{}", "\"\"", "NaN", "", "\"\\ud800\"", "\"\\u0000\"", "[[[]]]", "{\"\":{}}"];
    match random.below(5) {
        0 => Node::Raw(deep(random)),
        1 => Node::Raw(number("0", random)),
        2 => Node::Text(string("", random)),
        _ => Node::Raw((*random.pick(&LITERALS)).to_owned()),
    }
}

/// Brackets within brackets, closed or not.
fn deep(random: &mut Random) -> String {
    let depth = *random.pick(&[3, 20, 63, 126, 127, 128, 129, 130, 200, 1000, 1000, 2000, 100_000]);
    let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}")]);
    let closes = if random.once_in(4) { 0 } else { depth };
    format!("{}0{}", open.repeat(depth), close.repeat(closes))
}

fn number(text: &str, random: &mut Random) -> String {
    const ODD: [&str; 24] = [
        "-1",
        "0",
        "1",
        "2",
        "-0",
        "-0.0",
        "0.1",
        "1e400",
        "-1e400",
        "1e308",
        "1e-400",
        "1E5",
        "127",
        "256",
        "65536",
        "2147483648",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1.0",
        "5e-324",
    ];
    match random.below(8) {
        0 => "9".repeat(1 + random.length(5000)),
        1 => format!("0.{}", "3".repeat(1 + random.length(2000))),
        2 => text
            .parse::<i64>()
            .map_or_else(|_| "1".into(), |n| n.wrapping_add(1 - 2 * random.below(2) as i64).to_string()),
        3 => format!("\"{text}\""),
        _ => (*random.pick(&ODD)).to_owned(),
    }
}

pub(super) fn string(text: &str, random: &mut Random) -> String {
    const ODD: [&str; 26] = [
        "",
        " ",
        "a",
        "..",
        "../../etc/passwd",
        "/",
        "a/b/c",
        "*",
        "#",
        "+",
        "_fleet",
        "\0",
        "\u{7f}",
        "\u{202e}abc",
        "\u{feff}",
        "ä",
        "𝔸",
        "1.0.0",
        "1.0.0-rc.1+b",
        "0",
        "-1",
        "null",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "-009999-01-02T01:59:59Z",
        "2026-06-01T00:00:00[Europe/Zurich]",
    ];
    match random.below(8) {
        0 if random.once_in(8) => "x".repeat(1 << random.below(19)),
        0 => "x".repeat(1 << random.below(13)),
        1 => text.repeat(times(2 + random.length(100), text.len())),
        2 => text.to_uppercase(),
        3 => text.chars().rev().collect(),
        4 if !text.is_empty() => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = random.below(chars.len());
            chars[at] = *random.pick(&['0', 'f', '.', '/', '@', '-', '\u{0}', 'é', 'G']);
            chars.into_iter().collect()
        }
        5 => format!("{text}{}", random.pick(&ODD)),
        _ => (*random.pick(&ODD)).to_owned(),
    }
}
