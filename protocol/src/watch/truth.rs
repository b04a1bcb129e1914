//! The truth of a row, as somebody tells it, held against what the output that predicts can say at all.
//!
//! Only what that output could have answered is right or wrong; anything else is a mistake of whoever tells it.

use super::{EXACT, Watch, find};
use crate::contract::DataType;

/// A label, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// Text.
    Text(String),
    /// What no output can say: a fraction, a list, nothing.
    Other,
}

impl Watch {
    /// The label in the words that predictions are told in; none where the predicting output cannot say it, or there is none.
    ///
    /// Flags are for BOOL, text for BYTES, whole numbers of the type's range for integers. These may be text too, as JSON
    /// or as the contract's categories write them.
    pub fn told(&self, truth: &Truth) -> Option<String> {
        let label = self.label?;
        let spelled = &self.outputs.spelled[label];
        let datatype = self.outputs.tensors[self.outputs.watched[label].tensor].datatype;
        let whole = |whole: i128| {
            let known = find(spelled, whole as f64);
            is_within(datatype, whole).then(|| known.map_or_else(|| whole.to_string(), str::to_owned))
        };
        match (datatype, truth) {
            (DataType::Bytes, Truth::Text(text)) => Some(text.clone()),
            (DataType::Bool, Truth::Flag(flag)) => {
                let known = find(spelled, f64::from(u8::from(*flag)));
                Some(known.map_or_else(|| flag.to_string(), str::to_owned))
            }
            (_, Truth::Whole(number)) => whole(*number),
            (_, Truth::Text(text)) => whole(number_in(text, spelled)?),
            _ => None,
        }
    }
}

/// Whether an integer output can hold `whole`; another output never can.
fn is_within(datatype: DataType, whole: i128) -> bool {
    match datatype {
        DataType::Uint8 => u8::try_from(whole).is_ok(),
        DataType::Uint16 => u16::try_from(whole).is_ok(),
        DataType::Uint32 => u32::try_from(whole).is_ok(),
        DataType::Uint64 => u64::try_from(whole).is_ok(),
        DataType::Int8 => i8::try_from(whole).is_ok(),
        DataType::Int16 => i16::try_from(whole).is_ok(),
        DataType::Int32 => i32::try_from(whole).is_ok(),
        DataType::Int64 => i64::try_from(whole).is_ok(),
        DataType::Bool | DataType::Fp16 | DataType::Fp32 | DataType::Fp64 | DataType::Bytes => false,
    }
}

/// The whole number that `text` spells: one spelling each, and that of a category.
fn number_in(text: &str, spelled: &[(f64, String)]) -> Option<i128> {
    if let Some(plain) = text.parse::<i128>().ok().filter(|number| number.to_string() == text) {
        return Some(plain);
    }
    let (number, _) = spelled.iter().find(|(_, category)| category == text)?;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(*number as i128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    fn watch(datatype: &str, categories: &[&str]) -> Watch {
        let label = serde_json::json!({"name": "y", "datatype": datatype, "shape": [-1, 1],
            "features": [{"name": "y", "categories": categories}]});
        let contract: Contract = serde_json::from_value(serde_json::json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
            "outputs": [label],
            "prediction": {"label": "y"},
        }))
        .unwrap();
        Watch::new(&contract)
    }

    fn text(text: &str) -> Truth {
        Truth::Text(text.into())
    }

    #[test]
    fn an_integer_output_takes_whole_numbers_of_its_range_in_one_spelling() {
        let watch = watch("INT64", &[]);
        for (truth, told) in [
            (Truth::Whole(3), "3"),
            (Truth::Whole(i64::MIN.into()), "-9223372036854775808"),
            (text("3"), "3"),
            (text("-7"), "-7"),
            // A double would make a neighbour of it.
            (text("9007199254740993"), "9007199254740993"),
        ] {
            assert_eq!(watch.told(&truth).as_deref(), Some(told), "{truth:?}");
        }
        for wrong in ["three", "", " 3", "+3", "03", "3.0", "-0", "8.5", "1e3", "NaN", "true", "9223372036854775808"] {
            assert_eq!(watch.told(&text(wrong)), None, "{wrong}");
        }
        for wrong in [Truth::Flag(true), Truth::Other, Truth::Whole(i128::from(i64::MAX) + 1), Truth::Whole(i128::MAX)]
        {
            assert_eq!(watch.told(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_integer_type_has_its_range() {
        for (datatype, min, max) in [
            ("UINT8", 0, i128::from(u8::MAX)),
            ("UINT16", 0, u16::MAX.into()),
            ("UINT32", 0, u32::MAX.into()),
            ("UINT64", 0, u64::MAX.into()),
            ("INT8", i8::MIN.into(), i8::MAX.into()),
            ("INT16", i16::MIN.into(), i16::MAX.into()),
            ("INT32", i32::MIN.into(), i32::MAX.into()),
            ("INT64", i64::MIN.into(), i64::MAX.into()),
        ] {
            let watch = watch(datatype, &[]);
            let can = |whole| watch.told(&Truth::Whole(whole)).is_some();
            assert_eq!([min - 1, min, max, max + 1].map(can), [false, true, true, false], "{datatype}");
        }
    }

    #[test]
    fn categories_are_told_as_the_contract_writes_them() {
        let numbers = watch("INT64", &["01", "2.0", "2.5", "other"]);
        assert_eq!(numbers.told(&Truth::Whole(1)).as_deref(), Some("01"));
        assert_eq!(numbers.told(&text("1")).as_deref(), Some("01"));
        assert_eq!(numbers.told(&text("2.0")).as_deref(), Some("2.0"));
        assert_eq!((numbers.told(&text("2.5")), numbers.told(&text("other"))), (None, None));
        let flags = watch("BOOL", &["0", "1"]);
        assert_eq!(flags.told(&Truth::Flag(true)).as_deref(), Some("1"));
    }

    #[test]
    fn flags_are_for_bool_and_text_is_for_bytes() {
        let (flags, words) = (watch("BOOL", &[]), watch("BYTES", &[]));
        assert_eq!((flags.told(&Truth::Flag(true)).as_deref(), flags.told(&text("true"))), (Some("true"), None));
        assert_eq!((flags.told(&Truth::Whole(1)), flags.told(&Truth::Other)), (None, None));
        assert_eq!(words.told(&text("cat")).as_deref(), Some("cat"));
        assert_eq!(
            [Truth::Whole(3), Truth::Flag(true), Truth::Other].map(|truth| words.told(&truth)),
            [None, None, None]
        );
    }
}
