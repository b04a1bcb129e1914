//! Label queries, as Kubernetes users write them: `site=hall-2,class!=old,line in (a,b),camera,!spare`; `*` for all.
//!
//! Terms are joined by "and". `class` and `device` stand for the device's class and name and hide labels of those
//! names. `!=` and `notin` also match devices that lack the label. Parsing happens once; matching is pure.

use std::{fmt, str::FromStr};

use tern_protocol::ids::{DeviceClass, DeviceId, Labels};

/// Longest selector, in bytes.
pub const MAX_BYTES: usize = 1024;
/// Most terms.
pub const MAX_TERMS: usize = 32;

/// A parsed label query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: Key,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Class,
    Device,
    Label(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// Text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// Nothing is in it.
    #[error("selector is empty: write * for all devices")]
    Empty,
    /// Longer than [`MAX_BYTES`] or more than [`MAX_TERMS`].
    #[error("selector is too long: at most {MAX_BYTES} bytes and {MAX_TERMS} terms")]
    TooLong,
    /// A term that cannot be read.
    #[error("cannot read {0:?}: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key")]
    BadTerm(String),
}

impl Selector {
    /// The selector of every device.
    pub fn all() -> Self {
        Self { text: "*".into(), terms: Vec::new() }
    }

    /// What both pick; none where that would be too long to be a selector.
    pub fn and(&self, other: &Self) -> Option<Self> {
        if other.is_within(self) {
            return Some(other.clone());
        }
        if self.is_within(other) {
            return Some(self.clone());
        }
        format!("{self},{other}").parse().ok()
    }

    /// Whether it has every term of `other`, so that whatever it picks `other` picks too.
    pub fn is_within(&self, other: &Self) -> bool {
        other.terms.iter().all(|term| self.terms.contains(term))
    }

    /// Whether it picks this device.
    pub fn matches(&self, device: &DeviceId, class: &DeviceClass, labels: &Labels) -> bool {
        self.terms.iter().all(|term| {
            let value = match &term.key {
                Key::Class => Some(class.as_str()),
                Key::Device => Some(device.as_str()),
                Key::Label(key) => labels.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v.as_str()),
            };
            match &term.test {
                Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
                Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(InvalidSelector::TooLong);
        }
        match text {
            "" => return Err(InvalidSelector::Empty),
            "*" => return Ok(Self::all()),
            _ => {}
        }
        let parts = split(text);
        if parts.len() > MAX_TERMS {
            return Err(InvalidSelector::TooLong);
        }
        let terms = parts
            .into_iter()
            .map(|part| {
                term(part.trim()).ok_or_else(|| InvalidSelector::BadTerm(part.trim().chars().take(80).collect()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), terms })
    }
}

/// Cuts at the commas that are in no parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn term(text: &str) -> Option<Term> {
    if let Some(rest) = text.strip_suffix(')') {
        let (head, list) = rest.split_once('(')?;
        let (name, word) = head.trim().split_once(char::is_whitespace)?;
        let values = list.split(',').map(|v| word_of(v.trim())).collect::<Option<Vec<_>>>()?;
        let test = match word.trim() {
            "in" => Test::In(values),
            "notin" => Test::NotIn(values),
            _ => return None,
        };
        return Some(Term { key: key(name)?, test });
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Some(Term { key: key(name)?, test: Test::NotIn(vec![word_of(value.trim())?]) });
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Term { key: key(name)?, test: Test::In(vec![word_of(value.trim())?]) });
    }
    match text.strip_prefix('!') {
        Some(name) => Some(Term { key: key(name)?, test: Test::Absent }),
        None => Some(Term { key: key(text)?, test: Test::Exists }),
    }
}

fn key(text: &str) -> Option<Key> {
    Some(match text.trim() {
        "class" => Key::Class,
        "device" => Key::Device,
        other => Key::Label(word_of(other)?),
    })
}

/// A word that could be a label: anything else is a typing mistake that would silently match nothing.
fn word_of(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    ((1..=63).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picks(selector: &str) -> bool {
        let labels: Labels = [("site", "hall-2"), ("line", "a")]
            .into_iter()
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
            .collect();
        let selector: Selector = selector.parse().unwrap();
        selector.matches(&"cam-1".parse().unwrap(), &"jetson".parse().unwrap(), &labels)
    }

    #[test]
    fn every_form_of_a_term_picks_and_passes_over() {
        for yes in [
            "*",
            "site=hall-2",
            "site==hall-2",
            "site = hall-2 , line=a",
            "site!=hall-1",
            "absent!=x",
            "line in (a,b)",
            "line notin (c)",
            "absent notin (c)",
            "site",
            "!spare",
            "class=jetson",
            "device=cam-1",
            "device in (cam-2, cam-1),site",
        ] {
            assert!(picks(yes), "{yes}");
        }
        for no in [
            "site=hall-1",
            "site!=hall-2",
            "line in (b,c)",
            "line notin (a)",
            "absent",
            "absent=x",
            "!site",
            "class!=jetson",
            "device=cam-2",
            "site=hall-2,line=b",
        ] {
            assert!(!picks(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_rather_than_matching_something() {
        assert_eq!("".parse::<Selector>(), Err(InvalidSelector::Empty));
        assert_eq!("a".repeat(2000).parse::<Selector>(), Err(InvalidSelector::TooLong));
        assert_eq!(vec!["a"; 40].join(",").parse::<Selector>(), Err(InvalidSelector::TooLong));
        for text in [",", "a,", "a=", "=a", "a b", "a in b", "a in ()", "a of (b)", "a=b c", "!", "**", "a>3", "in (a)"]
        {
            assert!(matches!(text.parse::<Selector>(), Err(InvalidSelector::BadTerm(_))), "{text}");
        }
    }

    #[test]
    fn selectors_are_joined_and_held_against_each_other() {
        let selector = |text: &str| text.parse::<Selector>().unwrap();
        let (all, site) = (Selector::all(), selector("site=hall-2"));
        assert_eq!(all.and(&site), Some(site.clone()));
        assert_eq!(site.and(&all), Some(site.clone()));
        assert_eq!(site.and(&selector("line=a")), Some(selector("site=hall-2,line=a")));
        let longest = selector(&vec!["a"; MAX_TERMS].join(","));
        assert_eq!(longest.and(&site), None);
        assert!(site.is_within(&all) && !all.is_within(&site));
        assert!(selector("line=a,site==hall-2").is_within(&site) && !selector("site=hall-1").is_within(&site));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in "[a-z!=(), *]{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }
    }
}
