//! What the worst report that fits through the door unfolds to in memory. Alone in its process: it reads the peak.

use std::fs::read_to_string;

use tern_protocol::report::{self, Body, MAX_BYTES, MAX_DECODED_BYTES, MAX_ROW_BYTES};

/// Peak of this process's memory so far, in bytes.
fn peak() -> usize {
    let status = read_to_string("/proc/self/status").expect("linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A window up to its features, in postcard: what stands behind is a list of them.
fn head(out: &mut Vec<u8>) {
    let text = |out: &mut Vec<u8>, text: &str| {
        varint(out, text.len());
        out.extend(text.as_bytes());
    };
    out.extend([0, 1]);
    text(out, "demo/m");
    text(out, "1.0.0");
    out.extend([9; 32]);
    // Boot, start, end, clock, inferences, rows, errors, three violations, latency.
    out.extend([0; 11]);
}

/// A report whose rows have `length` bytes each and whose window holds as many of `element` as fit.
fn worst(length: usize, element: &[u8]) -> Vec<u8> {
    let mut body = vec![7; 16];
    let count = ((MAX_DECODED_BYTES - 64) / length).min(4096);
    varint(&mut body, count);
    for sequence in 1..=count {
        varint(&mut body, sequence);
        head(&mut body);
        let elements = (length - 128) / element.len();
        varint(&mut body, elements);
        (0..elements).for_each(|_| body.extend(element));
        // Outputs, confidence, feedback, five figures of the system.
        body.extend([0; 8]);
    }
    assert!(body.len() <= MAX_DECODED_BYTES);
    let mut payload = vec![report::NEWEST, 1];
    payload.extend(zstd::bulk::compress(&body, 3).expect("it compresses"));
    assert!(payload.len() <= MAX_BYTES);
    payload
}

/// Twenty-fold is what one row unfolds to, twice over while its list grows; the body itself stands beside it.
const LIMIT: usize = MAX_DECODED_BYTES + 48 * MAX_ROW_BYTES;

#[test]
fn the_worst_report_unfolds_to_little() {
    // The smallest categorical: kind, no counts, other, missing, no sketch.
    let smallest = [1, 0, 0, 0, 0];
    // Many rows, rows as long as they may be, and one over it.
    for (length, rows) in [(1024, 4095), (MAX_ROW_BYTES - 64, 4), (MAX_DECODED_BYTES - 128, 1)] {
        let report = worst(length, &smallest);
        let before = peak();
        let mut seen = 0;
        let stream = Body::of(&report).unwrap().rows(|_| seen += 1);
        assert!(stream.is_ok() && seen == rows, "{seen} rows of {length} bytes");
        let grown = peak() - before;
        println!("{seen} rows of {length} bytes: {} KiB", grown >> 10);
        assert!(grown < LIMIT, "{grown} bytes for {seen} rows of {length}");
    }
}
