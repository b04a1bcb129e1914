//! A tensor's contract made ready to enforce, and its enforcement on values.
//!
//! A value that is not a number falls under the policy for NaN, an infinity under the range where there is one and under
//! NaN otherwise. Clamping moves a value to the nearest allowed one; NaN has none and becomes the allowed value nearest
//! to zero. Bounds are compared in the tensor's own type, so that a bound of 0.1 admits the nearest FP32 to 0.1.

use tern_engine::Data;
use tern_protocol::contract::{Range, TensorContract, Violation};

use super::counters::Breaches;

/// What is allowed in one tensor.
pub(super) struct Rules {
    pub(super) name: String,
    nan: Violation,
    /// One for all values, or one per column of the last axis.
    columns: Vec<Column>,
}

#[derive(Clone)]
struct Column {
    name: Option<String>,
    range: Option<Range>,
    categories: Vec<f64>,
    /// The same where values are words.
    words: Vec<String>,
}

/// The first value that must be refused.
#[derive(Debug, PartialEq)]
pub(super) enum Breach {
    NotFinite(String),
    Outside(String),
}

impl Rules {
    pub(super) fn new(tensor: &TensorContract) -> Self {
        let columns = if tensor.features.is_empty() {
            vec![Column { name: None, range: tensor.range, categories: Vec::new(), words: Vec::new() }]
        } else {
            let column = |feature: &tern_protocol::contract::Feature| Column {
                name: Some(feature.name.clone()),
                range: feature.range.or(tensor.range),
                categories: feature.categories.iter().filter_map(|text| text.parse().ok()).collect(),
                words: feature.categories.clone(),
            };
            tensor.features.iter().map(column).collect()
        };
        Self { name: tensor.name.clone(), nan: tensor.nan, columns }
    }

    /// Enforces the contract on `data` and counts what was clamped or flagged.
    pub(super) fn enforce(&self, data: &mut Data) -> Result<Breaches, Breach> {
        match data {
            Data::U8(values) => self.scan(values),
            Data::U16(values) => self.scan(values),
            Data::U32(values) => self.scan(values),
            Data::U64(values) => self.scan(values),
            Data::I8(values) => self.scan(values),
            Data::I16(values) => self.scan(values),
            Data::I32(values) => self.scan(values),
            Data::I64(values) => self.scan(values),
            Data::F32(values) => self.scan(values),
            Data::F64(values) => self.scan(values),
            Data::Bool(_) => Ok(Breaches::default()),
            Data::Bytes(values) => self.read(values),
        }
    }

    /// Words are only held against categories; none is near to another, so clamping is flagging.
    fn read(&self, values: &[Vec<u8>]) -> Result<Breaches, Breach> {
        let mut breaches = Breaches::default();
        for (at, (value, column)) in values.iter().zip(self.columns.iter().cycle()).enumerate() {
            if column.words.is_empty() || column.words.iter().any(|word| word.as_bytes() == value) {
                continue;
            }
            match column.range.map_or(Violation::Reject, |range| range.outside) {
                Violation::Reject => {
                    let word: String = String::from_utf8_lossy(value).chars().take(64).collect();
                    let place = self.place(column, at);
                    return Err(Breach::Outside(format!("{place}: {word:?} is no known category")));
                }
                Violation::Flag | Violation::Clamp => breaches.flagged += 1,
            }
        }
        Ok(breaches)
    }

    fn scan<T: Value>(&self, values: &mut [T]) -> Result<Breaches, Breach> {
        let mut breaches = Breaches::default();
        let width = self.columns.len();
        for (offset, column) in self.columns.iter().enumerate() {
            let (low, high) = match column.range {
                Some(range) => (T::at_least(range.min), T::at_most(range.max)),
                None => (T::LOWEST, T::HIGHEST),
            };
            for at in (offset..values.len()).step_by(width) {
                let value = values[at];
                if value >= low && value <= high && column.knows(value.number()) {
                    continue;
                }
                let policy = self.policy(column, value);
                match policy {
                    Violation::Reject => return Err(self.breach(column, at, value.number())),
                    Violation::Flag => breaches.flagged += 1,
                    // Between categories there is no nearest one.
                    Violation::Clamp if value >= low && value <= high => breaches.flagged += 1,
                    Violation::Clamp => {
                        values[at] = value.into_range(low, high);
                        breaches.clamped += 1;
                    }
                }
            }
        }
        Ok(breaches)
    }

    fn policy<T: Value>(&self, column: &Column, value: T) -> Violation {
        match column.range {
            Some(range) if !value.number().is_nan() => range.outside,
            None if value.number().is_finite() => Violation::Reject,
            _ => self.nan,
        }
    }

    fn place(&self, column: &Column, at: usize) -> String {
        match &column.name {
            Some(feature) => format!("`{}`, feature `{feature}`, value {at}", self.name),
            None => format!("`{}`, value {at}", self.name),
        }
    }

    fn breach(&self, column: &Column, at: usize, value: f64) -> Breach {
        let place = self.place(column, at);
        match column.range {
            Some(range) if !value.is_nan() && column.knows(value) => {
                Breach::Outside(format!("{place}: {value} is outside {} to {}", range.min, range.max))
            }
            _ if !value.is_finite() => Breach::NotFinite(format!("{place}: {value} is not allowed")),
            _ => Breach::Outside(format!("{place}: {value} is no known category")),
        }
    }
}

impl Column {
    fn knows(&self, value: f64) -> bool {
        self.categories.is_empty() || self.categories.contains(&value)
    }
}

/// A numeric element type.
trait Value: Copy + PartialOrd {
    /// The lowest finite value.
    const LOWEST: Self;
    /// The highest finite value.
    const HIGHEST: Self;
    fn number(self) -> f64;
    fn at_least(bound: f64) -> Self;
    fn at_most(bound: f64) -> Self;
    fn zero() -> Self;

    fn into_range(self, low: Self, high: Self) -> Self {
        let nearest = |value: Self| if value < low { low } else { high };
        if self.number().is_nan() {
            if Self::zero() >= low && Self::zero() <= high { Self::zero() } else { nearest(Self::zero()) }
        } else {
            nearest(self)
        }
    }
}

macro_rules! integers {
    ($($t:ty),*) => { $(impl Value for $t {
        const LOWEST: Self = <$t>::MIN;
        const HIGHEST: Self = <$t>::MAX;
        fn number(self) -> f64 { self as f64 }
        // `as` saturates, which is the bound that is meant.
        fn at_least(bound: f64) -> Self { bound.ceil() as $t }
        fn at_most(bound: f64) -> Self { bound.floor() as $t }
        fn zero() -> Self { 0 }
    })* };
}

macro_rules! floats {
    ($($t:ty),*) => { $(impl Value for $t {
        const LOWEST: Self = <$t>::MIN;
        const HIGHEST: Self = <$t>::MAX;
        fn number(self) -> f64 { f64::from(self) }
        fn at_least(bound: f64) -> Self { bound as $t }
        fn at_most(bound: f64) -> Self { bound as $t }
        fn zero() -> Self { 0.0 }
    })* };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);
floats!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;
    use tern_protocol::contract::{DataType, Feature};

    fn rules(range: Option<(f64, f64, Violation)>, nan: Violation) -> Rules {
        let range = range.map(|(min, max, outside)| Range { min, max, outside });
        let tensor = TensorContract {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![-1, 2],
            range,
            nan,
            features: vec![],
            derive: vec![],
        };
        Rules::new(&tensor)
    }

    fn enforce(rules: &Rules, values: &[f32]) -> Result<(Vec<f32>, Breaches), Breach> {
        let mut data = Data::F32(values.to_vec());
        let breaches = rules.enforce(&mut data)?;
        match data {
            Data::F32(values) => Ok((values, breaches)),
            _ => unreachable!(),
        }
    }

    #[test]
    fn each_policy_does_what_it_says() {
        let reject = rules(Some((0.0, 16.0, Violation::Reject)), Violation::Reject);
        assert_eq!(enforce(&reject, &[0.0, 16.0]).unwrap().1, Breaches::default());
        assert!(
            matches!(enforce(&reject, &[0.0, 16.5]), Err(Breach::Outside(text)) if text.contains("16.5 is outside 0 to 16"))
        );
        assert!(matches!(enforce(&reject, &[f32::NAN]), Err(Breach::NotFinite(_))));
        assert!(matches!(enforce(&reject, &[f32::INFINITY]), Err(Breach::Outside(_))));

        let clamp = rules(Some((1.0, 16.0, Violation::Clamp)), Violation::Clamp);
        let (values, breaches) = enforce(&clamp, &[-5.0, 99.0, f32::NAN, f32::INFINITY, 2.0]).unwrap();
        assert_eq!((values, breaches.clamped), (vec![1.0, 16.0, 1.0, 16.0, 2.0], 4));

        let flag = rules(Some((0.0, 16.0, Violation::Flag)), Violation::Flag);
        let (values, breaches) = enforce(&flag, &[-5.0, f32::NAN]).unwrap();
        assert_eq!((values[0], breaches), (-5.0, Breaches { clamped: 0, flagged: 2 }));
    }

    #[test]
    fn without_a_range_only_numbers_are_asked_for() {
        let bare = rules(None, Violation::Reject);
        assert_eq!(enforce(&bare, &[f32::MAX, f32::MIN]).unwrap().1, Breaches::default());
        assert!(matches!(enforce(&bare, &[f32::INFINITY]), Err(Breach::NotFinite(_))));
        let clamp = rules(None, Violation::Clamp);
        assert_eq!(enforce(&clamp, &[f32::INFINITY, f32::NAN]).unwrap().0, [f32::MAX, 0.0]);
    }

    #[test]
    fn a_bound_admits_its_own_nearest_value() {
        let tenth = rules(Some((0.1, 0.3, Violation::Reject)), Violation::Reject);
        assert!(enforce(&tenth, &[0.1, 0.3]).is_ok());
        let mut bytes = Data::U8(vec![0, 255]);
        let wide = rules(Some((-3.5, 300.0, Violation::Reject)), Violation::Reject);
        assert_eq!(wide.enforce(&mut bytes), Ok(Breaches::default()));
    }

    #[test]
    fn columns_have_their_own_ranges_and_categories() {
        let range = |min, max| Some(Range { min, max, outside: Violation::Reject });
        let tensor = TensorContract {
            name: "x".into(),
            datatype: DataType::Int64,
            shape: vec![-1, 2],
            range: range(0.0, 100.0),
            nan: Violation::Reject,
            features: vec![
                Feature { name: "age".into(), range: range(0.0, 9.0), categories: vec![] },
                Feature { name: "kind".into(), range: None, categories: vec!["1".into(), "7".into()] },
            ],
            derive: vec![],
        };
        let rules = Rules::new(&tensor);
        assert!(rules.enforce(&mut Data::I64(vec![9, 1, 0, 7])).is_ok());
        assert!(
            matches!(rules.enforce(&mut Data::I64(vec![9, 1, 10, 7])), Err(Breach::Outside(t)) if t.contains("`age`, value 2"))
        );
        assert!(
            matches!(rules.enforce(&mut Data::I64(vec![9, 2])), Err(Breach::Outside(t)) if t.contains("no known category"))
        );
    }

    #[test]
    fn words_are_held_against_the_categories_of_their_column() {
        let feature = |name: &str, categories: &[&str], range| Feature {
            name: name.into(),
            range,
            categories: categories.iter().map(|word| (*word).to_owned()).collect(),
        };
        let flagged = Some(Range { min: 0.0, max: 0.0, outside: Violation::Flag });
        let tensor = TensorContract {
            name: "x".into(),
            datatype: DataType::Bytes,
            shape: vec![-1, 3],
            range: None,
            nan: Violation::Reject,
            features: vec![
                feature("any", &[], None),
                feature("kind", &["7", "pump"], None),
                feature("town", &["Köln"], flagged),
            ],
            derive: vec![],
        };
        let rules = Rules::new(&tensor);
        let enforce =
            |words: [&str; 3]| rules.enforce(&mut Data::Bytes(words.map(|word| word.as_bytes().to_vec()).to_vec()));
        assert_eq!(enforce(["", "pump", "Köln"]), Ok(Breaches::default()));
        assert_eq!(enforce(["x", "7", "Bonn"]), Ok(Breaches { clamped: 0, flagged: 1 }));
        let refused = enforce(["x", "7.0", "Köln"]);
        assert!(
            matches!(&refused, Err(Breach::Outside(text)) if text.contains("`kind`, value 1: \"7.0\" is no known category")),
            "{refused:?}"
        );
    }
}
