//! The values of a request, from JSON or from binary data straight into typed vectors of the size that the shape says.
//!
//! In JSON the values of a tensor are one flat list or are nested exactly as the shape says. `null` is a missing value:
//! NaN for floating-point tensors (the contract's policy decides), refused for others. Words (`BYTES`) are UTF-8: strings in JSON,
//! and in binary data each the number of its bytes, in four, before them.

use std::{borrow::Cow, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tern_engine::{DType, Data};

/// Bytes before each word of binary data, which say how many follow.
const LENGTH: usize = 4;

/// A tensor whose values are still to come.
pub(super) struct Blank {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) total: usize,
    pub(super) data: Data,
    /// Bytes of binary data that hold its values; none where they are in the JSON.
    pub(super) binary: Option<usize>,
}

macro_rules! by_type {
    ($data:expr, $values:ident => $do:expr) => {
        match $data {
            Data::Bool($values) => $do,
            Data::U8($values) => $do,
            Data::U16($values) => $do,
            Data::U32($values) => $do,
            Data::U64($values) => $do,
            Data::I8($values) => $do,
            Data::I16($values) => $do,
            Data::I32($values) => $do,
            Data::I64($values) => $do,
            Data::F32($values) => $do,
            Data::F64($values) => $do,
            Data::Bytes($values) => $do,
        }
    };
}

/// An empty vector for `total` values.
pub(super) fn empty(dtype: DType, total: usize) -> Data {
    match dtype {
        DType::Bool => Data::Bool(Vec::with_capacity(total)),
        DType::U8 => Data::U8(Vec::with_capacity(total)),
        DType::U16 => Data::U16(Vec::with_capacity(total)),
        DType::U32 => Data::U32(Vec::with_capacity(total)),
        DType::U64 => Data::U64(Vec::with_capacity(total)),
        DType::I8 => Data::I8(Vec::with_capacity(total)),
        DType::I16 => Data::I16(Vec::with_capacity(total)),
        DType::I32 => Data::I32(Vec::with_capacity(total)),
        DType::I64 => Data::I64(Vec::with_capacity(total)),
        DType::F32 => Data::F32(Vec::with_capacity(total)),
        DType::F64 => Data::F64(Vec::with_capacity(total)),
        // Words take more room than the request that they came in, so it is made as they come.
        DType::Bytes => Data::Bytes(Vec::new()),
    }
}

/// The least bytes that `total` values take as binary data, which is all that they take unless they are words.
pub(super) fn least_binary(dtype: DType, total: usize) -> Option<usize> {
    dtype.size().unwrap_or(LENGTH).checked_mul(total)
}

/// `total` zeros, or words of no letters.
pub(super) fn zeros(dtype: DType, total: usize) -> Option<Data> {
    let mut data = empty(dtype, total);
    let bytes = vec![0; least_binary(dtype, total)?];
    by_type!(&mut data, values => Scalar::extend(values, &bytes, total)).ok()?;
    Some(data)
}

/// Fills the tensors whose values are in the JSON; `blanks` stand in the order of the request's inputs.
pub(super) fn fill_from_json(json: &[u8], blanks: &mut [Blank]) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Request(blanks).deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| format!("malformed request: {error}"))
}

/// Fills the other tensors from what follows the JSON, one after the other.
pub(super) fn fill_from_binary(mut bytes: &[u8], blanks: &mut [Blank]) -> Result<(), String> {
    for blank in blanks {
        let Some(size) = blank.binary else { continue };
        let Some((values, rest)) = bytes.split_at_checked(size) else {
            return Err(format!("binary data of `{}` is cut short: {size} bytes are wanted", blank.name));
        };
        read_binary(values, blank)?;
        bytes = rest;
    }
    if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the binary data", bytes.len())) }
}

fn read_binary(bytes: &[u8], blank: &mut Blank) -> Result<(), String> {
    let read = by_type!(&mut blank.data, values => Scalar::extend(values, bytes, blank.total));
    read.map_err(|why| format!("binary data of `{}`: {why}", blank.name))
}

fn fixed<T>(
    values: &mut Vec<T>,
    bytes: &[u8],
    total: usize,
    from_le: impl Fn(&[u8]) -> Option<T>,
) -> Result<(), String> {
    if total.checked_mul(size_of::<T>()) != Some(bytes.len()) {
        return Err(format!("{} bytes do not hold {total} values of {} bytes", bytes.len(), size_of::<T>()));
    }
    values.reserve_exact(total);
    for chunk in bytes.chunks_exact(size_of::<T>()) {
        values.push(from_le(chunk).ok_or("a BOOL is 0 or 1")?);
    }
    Ok(())
}

/// The bytes of `data` in little-endian order, appended to `out`.
pub(super) fn write_binary(data: &Data, out: &mut Vec<u8>) {
    by_type!(data, values => values.iter().for_each(|value| value.append_le(out)));
}

/// An element that JSON or bytes can become.
trait Scalar: Sized {
    /// Appends the `total` values that all of `bytes` hold.
    fn extend(values: &mut Vec<Self>, bytes: &[u8], total: usize) -> Result<(), String>;
    fn append_le(&self, out: &mut Vec<u8>);
    fn from_u64(_: u64) -> Option<Self> {
        None
    }
    fn from_i64(_: i64) -> Option<Self> {
        None
    }
    fn from_f64(_: f64) -> Option<Self> {
        None
    }
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn missing() -> Option<Self> {
        None
    }
}

macro_rules! bytes_of {
    ($t:ty) => {
        fn extend(values: &mut Vec<Self>, bytes: &[u8], total: usize) -> Result<(), String> {
            fixed(values, bytes, total, |bytes| Some(<$t>::from_le_bytes(bytes.try_into().ok()?)))
        }
        fn append_le(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
    };
}

macro_rules! integers {
    ($($t:ty),*) => { $(impl Scalar for $t {
        bytes_of!($t);
        fn from_u64(value: u64) -> Option<Self> { value.try_into().ok() }
        fn from_i64(value: i64) -> Option<Self> { value.try_into().ok() }
    })* };
}

macro_rules! floats {
    ($($t:ty),*) => { $(impl Scalar for $t {
        bytes_of!($t);
        fn from_u64(value: u64) -> Option<Self> { Some(value as $t) }
        fn from_i64(value: i64) -> Option<Self> { Some(value as $t) }
        fn from_f64(value: f64) -> Option<Self> { Some(value as $t) }
        fn missing() -> Option<Self> { Some(<$t>::NAN) }
    })* };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);
floats!(f32, f64);

impl Scalar for bool {
    fn extend(values: &mut Vec<Self>, bytes: &[u8], total: usize) -> Result<(), String> {
        fixed(values, bytes, total, |bytes| match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        })
    }
    fn append_le(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Scalar for Vec<u8> {
    fn extend(values: &mut Vec<Self>, mut bytes: &[u8], total: usize) -> Result<(), String> {
        let short = || format!("its bytes do not hold {total} words");
        for _ in 0..total {
            let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(short)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short())?;
            let (word, rest) = rest.split_at_checked(length).ok_or_else(short)?;
            str::from_utf8(word).map_err(|_| "a word is not UTF-8")?;
            values.push(word.to_vec());
            bytes = rest;
        }
        if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes follow its {total} words", bytes.len())) }
    }
    fn append_le(&self, out: &mut Vec<u8>) {
        // No answer comes near to it.
        out.extend_from_slice(&u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(self);
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.as_bytes().to_vec())
    }
}

/// The request object: only `inputs` is read.
struct Request<'b>(&'b mut [Blank]);

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "inputs" => map.next_value_seed(Inputs(&mut *self.0))?,
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

struct Inputs<'b>(&'b mut [Blank]);

impl<'de> DeserializeSeed<'de> for Inputs<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of inputs")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for blank in self.0 {
            list.next_element_seed(Input(blank))?;
        }
        Ok(())
    }
}

struct Input<'b>(&'b mut Blank);

impl<'de> DeserializeSeed<'de> for Input<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Input<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Blank { name, shape, total, data, binary } = self.0;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != "data" || binary.is_some() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let (shape, total) = (&shape[..], *total);
            by_type!(&mut *data, values => {
                let mut form = Form::Unknown;
                map.next_value_seed(Cells { values, name, shape, total, depth: 0, form: &mut form })
            })?;
        }
        if binary.is_none() && data.len() != *total {
            let message = format!("input `{name}` holds {} values, its shape {shape:?} needs {total}", data.len());
            return Err(de::Error::custom(message));
        }
        Ok(())
    }
}

/// How the values of a tensor are written down.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Unknown,
    Flat,
    Nested,
}

/// What stands at `depth` brackets: a list, or a value.
struct Cells<'b, T> {
    values: &'b mut Vec<T>,
    name: &'b str,
    shape: &'b [usize],
    total: usize,
    depth: usize,
    form: &'b mut Form,
}

impl<T: Scalar> Cells<'_, T> {
    fn take<E: de::Error>(self, value: Option<T>) -> Result<(), E> {
        let flat = self.depth == 1 && *self.form != Form::Nested;
        let nested = self.depth == self.shape.len() && *self.form != Form::Flat;
        if !flat && !nested {
            return Err(self.misshapen());
        }
        if !nested {
            *self.form = Form::Flat;
        }
        if self.values.len() >= self.total {
            let (name, total) = (self.name, self.total);
            return Err(E::custom(format!("input `{name}` holds more than the {total} values of its shape")));
        }
        let name = self.name;
        self.values.push(value.ok_or_else(|| E::custom(format!("input `{name}` holds a value of another type")))?);
        Ok(())
    }

    fn misshapen<E: de::Error>(&self) -> E {
        E::custom(format!("values of input `{}` are neither flat nor nested as its shape {:?}", self.name, self.shape))
    }
}

impl<'de, T: Scalar> DeserializeSeed<'de> for Cells<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Scalar> Visitor<'de> for Cells<'_, T> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "values of input `{}`", self.name)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.take(T::from_u64(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.take(T::from_i64(value))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.take(T::from_f64(value))
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.take(T::from_bool(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.take(T::from_text(text))
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.take(T::missing())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let deeper = self.depth > 0;
        if deeper && (*self.form == Form::Flat || self.depth >= self.shape.len()) {
            return Err(self.misshapen());
        }
        if deeper {
            *self.form = Form::Nested;
        }
        let mut items = 0;
        loop {
            let (values, form) = (&mut *self.values, &mut *self.form);
            let (name, shape, total, depth) = (self.name, self.shape, self.total, self.depth + 1);
            if list.next_element_seed(Cells { values, name, shape, total, depth, form })?.is_none() {
                break;
            }
            items += 1;
        }
        if *self.form == Form::Nested && self.shape.get(self.depth) != Some(&items) {
            return Err(self.misshapen());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(dtype: DType, shape: &[usize], data: &str) -> Result<Data, String> {
        let total = shape.iter().product();
        let data_of = empty(dtype, total);
        let mut blanks = [Blank { name: "x".into(), shape: shape.to_vec(), total, data: data_of, binary: None }];
        fill_from_json(format!(r#"{{"a":[{{}}],"inputs":[{{"b":1,"data":{data}}}]}}"#).as_bytes(), &mut blanks)?;
        let [blank] = blanks;
        Ok(blank.data)
    }

    #[test]
    fn flat_and_nested_lists_are_the_same_values() {
        let wanted = Data::F32(vec![1.0, 2.5, -3.0, 4.0]);
        for text in ["[1,2.5,-3,4]", "[[1,2.5],[-3,4]]", "[ [1.0, 2.5e0], [-3, 4] ]"] {
            assert_eq!(read(DType::F32, &[2, 2], text), Ok(wanted.clone()), "{text}");
        }
        assert_eq!(read(DType::F32, &[2, 1, 2], "[[[1,2.5]],[[-3,4]]]"), Ok(wanted));
        assert_eq!(read(DType::I64, &[1], "[9223372036854775807]"), Ok(Data::I64(vec![i64::MAX])));
        assert_eq!(read(DType::Bool, &[2], "[true,false]"), Ok(Data::Bool(vec![true, false])));
        let words = Data::Bytes(vec![b"a".to_vec(), "ü\"".as_bytes().to_vec()]);
        assert_eq!(read(DType::Bytes, &[2, 1], r#"[["a"],["\u00fc\""]]"#), Ok(words.clone()));
        assert_eq!(read(DType::Bytes, &[2, 1], r#"["a","ü\""]"#), Ok(words));
        assert_eq!(read(DType::I8, &[], "[3]"), Ok(Data::I8(vec![3])));
        assert_eq!(read(DType::I8, &[], "3"), Ok(Data::I8(vec![3])));
    }

    #[test]
    fn other_forms_are_refused_with_words() {
        let cases = [
            (DType::F32, "[1,2,3]", "holds 3 values, its shape [2, 2] needs 4"),
            (DType::F32, "[1,2,3,4,5]", "more than the 4 values"),
            (DType::F32, "[[1,2],3,4]", "neither flat nor nested"),
            (DType::F32, "[1,2,[3,4]]", "neither flat nor nested"),
            (DType::F32, "[[1,2,3],[4]]", "neither flat nor nested"),
            (DType::F32, "[[1],[2],[3],[4]]", "neither flat nor nested"),
            (DType::F32, "[[[1,2],[3,4]]]", "neither flat nor nested"),
            (DType::F32, "7", "neither flat nor nested"),
            (DType::F32, "[\"1\",2,3,4]", "another type"),
            (DType::Bytes, "[\"1\",2,\"\",\"4\"]", "another type"),
            (DType::Bytes, "[\"1\",null,\"\",\"4\"]", "another type"),
            (DType::Bytes, "[\"1\",\"2\"]", "holds 2 values, its shape [2, 2] needs 4"),
            (DType::F32, "{}", "expected values of input `x`"),
            (DType::F32, "[true,2,3,4]", "another type"),
            (DType::F32, "[1e999,2,3,4]", "number out of range"),
            (DType::F32, "[NaN,2,3,4]", "expected value"),
            (DType::U8, "[256,2,3,4]", "another type"),
            (DType::U8, "[1.5,2,3,4]", "another type"),
            (DType::U8, "[null,2,3,4]", "another type"),
            (DType::Bool, "[1,0,1,0]", "another type"),
        ];
        for (dtype, text, wanted) in cases {
            let error = read(dtype, &[2, 2], text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let Ok(Data::F32(missing)) = read(DType::F32, &[1], "[null]") else { panic!("null is a missing value") };
        assert!(missing[0].is_nan());
    }

    #[test]
    fn binary_data_must_fit_exactly() {
        let blank = |total, binary| Blank {
            name: "x".into(),
            shape: vec![total],
            total,
            data: empty(DType::U16, total),
            binary: Some(binary),
        };
        let mut good = [blank(2, 4), blank(1, 2)];
        fill_from_binary(&[1, 0, 2, 0, 3, 0], &mut good).unwrap();
        assert_eq!((&good[0].data, &good[1].data), (&Data::U16(vec![1, 2]), &Data::U16(vec![3])));
        assert!(fill_from_binary(&[1, 0, 2], &mut [blank(2, 4)]).unwrap_err().contains("cut short"));
        assert!(fill_from_binary(&[1, 0, 2], &mut [blank(1, 2)]).unwrap_err().contains("1 bytes follow"));
        assert!(fill_from_binary(&[1, 0, 2], &mut [blank(1, 3)]).unwrap_err().contains("do not hold"));
    }

    #[test]
    fn words_fill_their_binary_data_exactly() {
        let read = |total, bytes: &[u8]| {
            let data = empty(DType::Bytes, total);
            let mut blank = [Blank { name: "x".into(), shape: vec![total], total, data, binary: Some(bytes.len()) }];
            fill_from_binary(bytes, &mut blank).map(|()| blank[0].data.clone())
        };
        let words = Data::Bytes(vec![b"no".to_vec(), Vec::new(), "ü".as_bytes().to_vec()]);
        let mut bytes = Vec::new();
        write_binary(&words, &mut bytes);
        assert_eq!(bytes, [2, 0, 0, 0, b'n', b'o', 0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xbc]);
        assert_eq!(read(3, &bytes), Ok(words));
        for (total, wanted) in [(2, "6 bytes follow its 2 words"), (4, "do not hold 4 words")] {
            assert!(read(total, &bytes).unwrap_err().contains(wanted), "{total}");
        }
        assert!(read(1, &[0xff, 0xff, 0xff, 0xff]).unwrap_err().contains("do not hold 1 words"));
        assert!(read(1, &[1, 0, 0, 0, 0xff]).unwrap_err().contains("not UTF-8"));
        assert_eq!(zeros(DType::Bytes, 2), Some(Data::Bytes(vec![Vec::new(); 2])));
    }

    proptest! {
        #[test]
        fn floats_survive_json_and_bytes(values in proptest::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 1..20)) {
            let text = serde_json::to_string(&values).unwrap();
            prop_assert_eq!(read(DType::F32, &[values.len()], &text), Ok(Data::F32(values.clone())));
            let mut bytes = Vec::new();
            write_binary(&Data::F32(values.clone()), &mut bytes);
            let data = empty(DType::F32, values.len());
            let mut blank = [Blank { name: "x".into(), shape: vec![values.len()], total: values.len(), data, binary: Some(bytes.len()) }];
            fill_from_binary(&bytes, &mut blank).unwrap();
            prop_assert_eq!(&blank[0].data, &Data::F32(values));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]{}0-9,.eE\" truefalsn:-]{0,60}") {
            let _ = read(DType::F32, &[2, 2], &text);
            let _ = read(DType::I64, &[3], &text);
            let _ = read(DType::Bytes, &[2], &text);
        }
    }
}
