//! Bytes: bits, runs, numbers of fixed and of variable length, splices; reports inside their frame.

use crate::random::Random;

/// Numbers at which code breaks.
const EDGES: [u64; 20] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    (4 << 20) - 1,
    4 << 20,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// One edit of `input`.
pub(super) fn mutate(mut input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let at = random.below(input.len() + 1);
    let end = (at + random.length(64)).min(input.len());
    match random.below(12) {
        0 | 1 => flip(&mut input, random),
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'\n', b'{', b'[']);
            }
        }
        3 => {
            let new: Vec<u8> = (0..1 + random.length(32)).map(|_| random.next() as u8).collect();
            input.splice(at..at, new);
        }
        4 => drop(input.drain(at..end)),
        5 => input.truncate(at),
        6 => {
            let run = input[at..end].to_vec();
            let times = random.length(2000);
            input.splice(at..at, run.repeat(times.min(64 + (1 << 20) / run.len().max(1))));
        }
        7 | 8 => {
            // A number of variable length, in place of the one that may stand here.
            let until = input[at..].iter().position(|byte| *byte < 0x80).map_or(at, |more| at + more + 1);
            let number = edge(random);
            input.splice(at..until, varint(number, random.once_in(4)));
        }
        9 => {
            let width = *random.pick(&[2, 4, 8]);
            let number = edge(random);
            let bytes = if random.once_in(2) {
                number.to_le_bytes()
            } else {
                number.rotate_left(64 - 8 * width as u32).to_be_bytes()
            };
            let until = (at + width).min(input.len());
            input.splice(at..until, bytes[..width].iter().copied());
        }
        10 => {
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let from = random.below(other.len() + 1);
            let to = (from + random.length(256)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
    }
    input
}

fn flip(input: &mut [u8], random: &mut Random) {
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

pub(super) fn edge(random: &mut Random) -> u64 {
    let number = *random.pick(&EDGES);
    if random.once_in(3) { number.wrapping_add(random.next() % 5).wrapping_sub(2) } else { number }
}

/// The number as postcard and protobuf write it; `wide`: with more bytes than it needs.
pub(super) fn varint(mut number: u64, wide: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    if wide {
        let last = bytes.len() - 1;
        bytes[last] |= 0x80;
        bytes.extend([0x80, 0]);
    }
    bytes
}

/// One edit of a report: of its header, its frame, or what the frame holds.
pub(super) fn mutate_report(input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    const ROOM: usize = 5 << 20;
    let unpacked = |payload: &[u8]| match payload {
        [_, 1, frame @ ..] => zstd::bulk::decompress(frame, ROOM).ok(),
        [_, _, body @ ..] => Some(body.to_vec()),
        _ => None,
    };
    let (Some(body), Some(other_body)) = (unpacked(&input), unpacked(other)) else {
        return mutate(input, other, random);
    };
    if random.once_in(8) {
        return mutate(input, other, random);
    }
    let body = match random.below(40) {
        // What unfolds to more than may be.
        0 => vec![random.next() as u8; 1 << (16 + random.below(7))],
        _ => mutate(body, &other_body, random),
    };
    if random.once_in(2) {
        return [&[1, 0][..], &body].concat();
    }
    let frame = zstd::bulk::compress(&body, 1).expect("memory compresses");
    let frames = if random.once_in(16) { frame.repeat(2) } else { frame };
    [&[1, 1][..], &frames].concat()
}
