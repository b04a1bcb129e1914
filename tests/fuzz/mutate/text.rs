//! Text with a grammar of its own: lines, words, punctuation.

use super::{binary, json, times};
use crate::random::Random;

/// What holds grammars together.
const MARKS: [&str; 24] = [
    ",", "=", "!", "!=", "(", ")", " in ", " notin ", "*", "/", "@", ".", "-", ":", "\n", "[", "]", "{", "}", "\"",
    "\"\"\"", "#", "%", "\t",
];

/// One edit of `input`, as text where it is text.
pub(super) fn mutate(input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let Ok(text) = String::from_utf8(input) else { return Vec::from("\u{fffd}") };
    let edges: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = random.below(edges.len());
    let end = (at + random.length(40)).min(edges.len() - 1);
    let (before, within, after) = (&text[..edges[at]], &text[edges[at]..edges[end]], &text[edges[end]..]);
    match random.below(8) {
        0 => [before, after].concat().into(),
        1 => [before, *random.pick(&MARKS), within, after].concat().into(),
        2 => [before, *random.pick(&MARKS), after].concat().into(),
        3 => [before, &within.repeat(times(1 + random.length(500), within.len())), after].concat().into(),
        4 => [before, &json::string(within, random), after].concat().into(),
        5 => lines(&text, random).into(),
        _ => binary::mutate(text.into_bytes(), other, random),
    }
}

/// A line removed, doubled, or moved to the end.
fn lines(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let line = lines.remove(random.below(lines.len()));
    match random.below(3) {
        0 => {}
        1 => lines.extend([line, line]),
        _ => lines.push(line),
    }
    lines.join("\n")
}
