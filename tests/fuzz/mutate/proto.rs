//! Protobuf without its schema: fields are found by the wire's own form, and what could be a message is entered as one, so that an edit
//! leaves every length around it right and the decoder goes on to the code behind it.

use super::binary;
use crate::random::Random;

/// How deep messages are entered.
const DEPTH: usize = 12;

#[derive(Clone)]
struct Field {
    tag: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Number(u64),
    /// Four or eight bytes.
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
}

/// One edit of a message, somewhere in it.
pub(super) fn mutate(input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(mut fields) = parse(&input) else { return binary::mutate(input, other, random) };
    let foreign = parse(other).unwrap_or_default();
    edit(&mut fields, &foreign, DEPTH, random);
    write(&fields)
}

fn edit(fields: &mut Vec<Field>, foreign: &[Field], depth: usize, random: &mut Random) {
    let at = random.below(fields.len());
    let Some(field) = fields.get_mut(at) else { return };
    // Downwards mostly: what is above is only what holds the rest together.
    if let (Value::Bytes(bytes), true) = (&mut field.value, depth > 0 && !random.once_in(5))
        && let Some(mut inner) = parse(bytes).filter(|inner| !inner.is_empty())
    {
        let alike = foreign.iter().find_map(|other| match &other.value {
            Value::Bytes(bytes) if other.tag == field.tag => parse(bytes),
            _ => None,
        });
        edit(&mut inner, &alike.unwrap_or_default(), depth - 1, random);
        *bytes = write(&inner);
        return;
    }
    match random.below(6) {
        0 => drop(fields.remove(at)),
        1 => {
            let copy = fields[at].clone();
            let most = if random.once_in(32) { 1000 } else { 4 };
            let times = 1 + random.length(most);
            fields.splice(at..at, std::iter::repeat_n(copy, times));
        }
        2 => {
            let to = random.below(fields.len());
            fields.swap(at, to);
        }
        3 if !foreign.is_empty() => {
            let field = random.pick(foreign).clone();
            fields.insert(at, field);
        }
        _ => change(&mut fields[at].value, random),
    }
}

fn change(value: &mut Value, random: &mut Random) {
    match value {
        // A small number is often the name of something else.
        Value::Number(number) if random.once_in(2) => *number = random.below(24) as u64,
        Value::Number(number) => *number = binary::edge(random),
        Value::Fixed(bytes) => {
            let number = binary::edge(random).to_le_bytes();
            let length = bytes.len();
            bytes.copy_from_slice(&number[..length]);
        }
        Value::Bytes(bytes) => *bytes = binary::mutate(std::mem::take(bytes), &[], random),
    }
}

fn parse(mut rest: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let mut take = |length: usize| {
            let (taken, tail) = rest.split_at_checked(length)?;
            rest = tail;
            Some(taken.to_vec())
        };
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Fixed(take(8)?),
            5 => Value::Fixed(take(4)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (taken, tail) = rest.split_at_checked(length)?;
                rest = tail;
                Value::Bytes(taken.to_vec())
            }
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        fields.push(Field { tag, value });
    }
    Some(fields)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend(binary::varint(field.tag, false));
        match &field.value {
            Value::Number(number) => bytes.extend(binary::varint(*number, false)),
            Value::Fixed(fixed) => bytes.extend(fixed),
            Value::Bytes(inner) => {
                bytes.extend(binary::varint(inner.len() as u64, false));
                bytes.extend(inner);
            }
        }
    }
    bytes
}
