//! Requests: the head as text, the body by what it holds; a length that the head tells follows its body, mostly.

use super::{binary, json, text};
use crate::random::Random;

/// The header that says how much of a body is JSON.
const JSON_LENGTH: &str = "inference-header-content-length: ";

/// One edit of a request.
pub(super) fn mutate(input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let (head, body) = split(&input);
    let (_, other_body) = split(other);
    if random.once_in(4) {
        return join(&text::mutate(head.to_vec(), split(other).0, random), body);
    }
    let told = String::from_utf8_lossy(head);
    let Some(length) = told.lines().find_map(|line| line.strip_prefix(JSON_LENGTH)?.parse::<usize>().ok()) else {
        return join(head, &json::mutate(body.to_vec(), other_body, random));
    };
    let (json, raw) = body.split_at(length.min(body.len()));
    let other_json = &other_body[..other_body.iter().rposition(|b| *b == b'}').map_or(0, |at| at + 1)];
    let (mut json, mut raw) = (json.to_vec(), raw.to_vec());
    match random.below(3) {
        0 => raw = binary::mutate(raw, other_body, random),
        _ => json = json::mutate(json, other_json, random),
    }
    let mut head = told.clone().into_owned();
    if !random.once_in(8) {
        head = head.replace(&format!("{JSON_LENGTH}{length}"), &format!("{JSON_LENGTH}{}", json.len()));
    }
    join(head.as_bytes(), &[json, raw].concat())
}

/// Head and body, which an empty line parts.
pub(crate) fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[]),
    }
}

fn join(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, b"\n\n", body].concat()
}
