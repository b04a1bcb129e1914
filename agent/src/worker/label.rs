//! A label, as a client writes it: any JSON value, so that a wrong one is told by itself and the others beside it still count.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tern_protocol::watch::Truth;

pub(super) struct Label(pub(super) Truth);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Kind).map(Self)
    }
}

/// Reads over what is no label without keeping any of it.
struct Kind;

impl<'de> Visitor<'de> for Kind {
    type Value = Truth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Truth, E> {
        Ok(Truth::Flag(flag))
    }

    fn visit_i64<E>(self, whole: i64) -> Result<Truth, E> {
        Ok(Truth::Whole(whole.into()))
    }

    fn visit_u64<E>(self, whole: u64) -> Result<Truth, E> {
        Ok(Truth::Whole(whole.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Truth, E> {
        Ok(Truth::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Truth, E> {
        Ok(Truth::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Truth, E> {
        Ok(Truth::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Truth, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Truth::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Truth, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Truth::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_any_value_and_keeps_its_kind() {
        for (json, truth) in [
            ("3", Truth::Whole(3)),
            ("-3", Truth::Whole(-3)),
            ("18446744073709551615", Truth::Whole(u64::MAX.into())),
            ("18446744073709551616", Truth::Other),
            ("3.0", Truth::Other),
            ("8.5", Truth::Other),
            ("true", Truth::Flag(true)),
            (r#""th\u0072ee""#, Truth::Text("three".into())),
            ("null", Truth::Other),
            ("[1,[2]]", Truth::Other),
            (r#"{"a":{"b":1}}"#, Truth::Other),
        ] {
            assert_eq!(serde_json::from_str::<Label>(json).unwrap().0, truth, "{json}");
        }
        assert!(serde_json::from_str::<Label>("[1,").is_err());
    }
}
