//! How a living document is broken: by the form that it has, and now and then as if it had none.
//!
//! Everything follows from the random numbers that are handed in. Nothing here knows what a document means.

mod binary;
mod json;
mod message;
mod proto;
mod text;

pub(crate) use message::split;

use crate::random::Random;

/// What the bytes of a target look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON.
    Json,
    /// Postcard, DER, tensors: numbers of variable length, lengths, raw bytes.
    Binary,
    /// Protobuf, whose messages are edited within.
    Proto,
    /// A report: two bytes, then postcard, plain or in a zstd frame.
    Report,
    /// Text with a grammar of its own.
    Text,
    /// A request: a line with method and path, lines with headers, an empty line, the body.
    Message,
}

/// Longest input; what grows beyond it is cut.
pub(crate) const MOST: usize = 3 << 20;

/// A broken relative of the documents in `corpus`, which is not empty.
pub(crate) fn mutate(form: Form, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    for _ in 0..1 + random.length(4) {
        let other = random.pick(corpus);
        input = once(form, input, other, random);
        input.truncate(MOST);
    }
    input
}

/// `wanted` times, or as often as something of `length` bytes comes to more than the longest input: what an edit makes of
/// a target's memory is not the target's fault.
fn times(wanted: usize, length: usize) -> usize {
    wanted.min(MOST / length.max(1) + 1)
}

fn once(form: Form, input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    if random.once_in(8) {
        return binary::mutate(input, other, random);
    }
    match form {
        Form::Json => json::mutate(input, other, random),
        Form::Binary => binary::mutate(input, other, random),
        Form::Proto => proto::mutate(input, other, random),
        Form::Report => binary::mutate_report(input, other, random),
        Form::Text => text::mutate(input, other, random),
        Form::Message => message::mutate(input, other, random),
    }
}
