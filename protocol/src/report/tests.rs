//! Golden bytes of every format version, every refusal, and arbitrary bytes.

use proptest::prelude::*;

use super::{v1::*, *};
use crate::{digest::Digest, ids::Generation, refusal::RefusalCode};

fn window() -> Window {
    Window {
        number: 7,
        model: "demo/m".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        contract: Digest::from_bytes([9; 32]),
        boot: 3,
        start_ms: 1_780_000_000_000,
        end_ms: 1_780_000_060_000,
        clock: Clock::Floored,
        inferences: 5,
        rows: 6,
        errors: vec![ErrorCount { kind: ErrorKind::Deadline, count: 1 }],
        violations: Violations { rejected: 1, clamped: 2, flagged: 3 },
        latency: vec![1, 2, 3],
        features: vec![
            Feature::Numeric(Numeric {
                cells: vec![4, 0, 2],
                n: 6,
                missing: 1,
                nan: 1,
                out: 1,
                s1: 0.5,
                s2: 2.25,
                sd_sum: 1.5,
                nd: 5,
                flat: 2,
            }),
            Feature::Categorical(Categorical { counts: vec![3, 2], other: 1, missing: 0, unseen: vec![8] }),
        ],
        outputs: vec![],
        confidence: vec![1, 5],
        feedback: vec![Feedback { n: 2, errors: 1 }],
        system: System { cpu_ms: 1, rss_bytes: 2, disk_free_bytes: 3, written_bytes: 4, temperature: Some(36.5) },
    }
}

fn report() -> Report {
    let (model, version) = (window().model, window().version);
    let correction = Correction { model: model.clone(), version: version.clone(), window: 6, bin: 1, n: 3, errors: 1 };
    let events = [
        EventKind::Activated { model: model.clone(), version: version.clone(), previous: None },
        EventKind::Committed { model: model.clone(), version: version.clone() },
        EventKind::TakenBack {
            model: model.clone(),
            version: version.clone(),
            to: None,
            code: RefusalCode::ProbationFailed,
        },
        EventKind::Refused {
            model: Some(model),
            version: Some(version),
            code: RefusalCode::GoldenMismatch,
            message: "x".into(),
        },
        EventKind::WorkerRestarted { cause: "signal 9".into() },
        EventKind::NewStream { previous: Some(Stream([2; 16])) },
    ];
    let mut items = vec![Item::Window(Box::new(window())), Item::Correction(correction)];
    items.extend(events.map(|kind| Item::Event(Event { at_ms: 1, generation: Generation(4), kind })));
    let rows = items.into_iter().zip(10..).map(|(item, sequence)| Row { sequence, item }).collect();
    Report { stream: Stream([1; 16]), rows }
}

fn refused(edit: impl FnOnce(&mut Report)) -> ReportError {
    let mut r = report();
    edit(&mut r);
    decode(&encode(&r, Codec::Plain).unwrap()).unwrap_err()
}

fn first_window(r: &mut Report) -> &mut Window {
    match &mut r.rows[0].item {
        Item::Window(window) => window,
        _ => panic!("the first row is a window"),
    }
}

#[test]
fn format_1_is_frozen() {
    let golden = hex::decode(include_str!("golden-1.hex").trim()).unwrap();
    assert_eq!(hex::encode(encode(&report(), Codec::Plain).unwrap()), hex::encode(&golden));
    assert_eq!(decode(&golden), Ok(report()));
}

#[test]
fn both_codecs_read_back() {
    for codec in [Codec::Plain, Codec::Zstd] {
        assert_eq!(decode(&encode(&report(), codec).unwrap()), Ok(report()), "{codec:?}");
    }
}

#[test]
fn each_broken_payload_has_its_variant() {
    let good = encode(&report(), Codec::Plain).unwrap();
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        decode(&bytes).unwrap_err()
    };
    assert_eq!(decode(&[1]), Err(ReportError::Truncated));
    assert_eq!(edited(&|b| b[0] = 2), ReportError::UnknownFormat(2));
    assert_eq!(edited(&|b| b[1] = 9), ReportError::UnknownCodec(9));
    assert_eq!(edited(&|b| b.push(0)), ReportError::LeftoverBytes(1));
    assert_eq!(edited(&|b| b.truncate(30)), ReportError::Malformed);
    assert_eq!(edited(&|b| b[1] = 1), ReportError::Compression);
    assert_eq!(decode(&vec![1; MAX_BYTES + 1]), Err(ReportError::TooLarge(MAX_BYTES + 1)));
}

#[test]
fn a_decompression_bomb_is_cut_off() {
    let bomb = zstd::bulk::compress(&vec![0; MAX_DECODED_BYTES + 1], 3).unwrap();
    assert!(bomb.len() < 10_000);
    assert_eq!(decode(&[&[1, 1][..], &bomb].concat()), Err(ReportError::Compression));
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let inconsistent = ReportError::Inconsistent;
    assert_eq!(refused(|r| r.rows[1].sequence = 10), inconsistent("sequences that do not grow"));
    assert_eq!(refused(|r| r.rows[0].sequence = 0), inconsistent("a sequence of 0"));
    assert_eq!(refused(|r| first_window(r).end_ms = 0), inconsistent("a window that ends before it starts"));
    assert_eq!(refused(|r| first_window(r).feedback[0].errors = 9), inconsistent("more errors than labels"));
    let numeric = |edit: fn(&mut Numeric)| {
        refused(|r| match &mut first_window(r).features[0] {
            Feature::Numeric(numeric) => edit(numeric),
            Feature::Categorical(_) => panic!("the first feature is numeric"),
        })
    };
    assert_eq!(numeric(|f| f.n = 7), inconsistent("cells that do not add up to n"));
    assert_eq!(numeric(|f| f.cells = vec![u64::MAX, 7]), inconsistent("cells that do not add up to n"));
    assert_eq!(numeric(|f| f.flat = 6), inconsistent("a share over one"));
    assert_eq!(numeric(|f| f.s1 = f64::NAN), inconsistent("a sum that is not finite"));
    assert_eq!(numeric(|f| f.cells = vec![0; MAX_CELLS + 1]), inconsistent("too many cells"));
}

type Kept = (u64, Result<Item, ReportError>, Vec<u8>);

fn open(payload: &[u8]) -> Result<(Stream, Vec<Kept>), ReportError> {
    let mut rows = Vec::new();
    let stream = Body::of(payload)?.rows(|row| rows.push((row.sequence, row.item, row.bytes.to_vec())))?;
    Ok((stream, rows))
}

#[test]
fn a_report_opens_row_by_row() {
    let rows = |report: &Report| {
        let (stream, rows) = open(&encode(report, Codec::Zstd).unwrap()).unwrap();
        assert_eq!(stream, report.stream);
        rows
    };
    for ((sequence, item, bytes), row) in rows(&report()).into_iter().zip(report().rows) {
        assert_eq!(postcard::from_bytes::<Item>(&bytes).as_ref(), Ok(&row.item));
        assert_eq!((sequence, item), (row.sequence, Ok(row.item)));
    }
    let mut odd = report();
    first_window(&mut odd).end_ms = 0;
    let opened = rows(&odd);
    assert_eq!(opened[0].1, Err(ReportError::Inconsistent("a window that ends before it starts")));
    assert!(opened.len() == 8 && opened[1..].iter().all(|row| row.1.is_ok()));
}

#[test]
fn what_stands_before_a_row_that_cannot_be_read_is_kept() {
    let second = postcard::to_stdvec(&report().rows[1]).unwrap();
    let mut bytes = encode(&report(), Codec::Plain).unwrap();
    let at = bytes.windows(second.len()).position(|part| part == second).unwrap();
    // The item's kind follows the row's number of one byte.
    bytes[at + 1] = 9;
    assert_eq!(decode(&bytes), Err(ReportError::Malformed));
    let (_, rows) = open(&bytes).unwrap();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [10, 11]);
    assert!(rows[0].1.is_ok());
    assert_eq!(rows[1].1, Err(ReportError::Malformed));
    assert!(rows[1].2.len() > second.len());
}

#[test]
fn a_row_is_read_up_to_its_longest_and_those_before_it_count() {
    let text = |length| {
        Item::Event(Event {
            at_ms: 1,
            generation: Generation(4),
            kind: EventKind::WorkerRestarted { cause: "x".repeat(length) },
        })
    };
    let of = |length| {
        let rows = vec![Row { sequence: 1, item: text(1) }, Row { sequence: 2, item: text(length) }];
        open(&encode(&Report { stream: Stream([1; 16]), rows }, Codec::Zstd).unwrap()).unwrap().1
    };
    let around = postcard::to_stdvec(&text(MAX_ROW_BYTES / 2)).unwrap().len() - MAX_ROW_BYTES / 2;
    let rows = of(MAX_ROW_BYTES - around);
    assert_eq!((rows[1].2.len(), rows[1].1.is_ok()), (MAX_ROW_BYTES, true));
    let rows = of(MAX_ROW_BYTES - around + 1);
    assert_eq!((rows[0].1.is_ok(), &rows[1].1), (true, &Err(ReportError::Malformed)));
}

#[test]
fn a_report_that_lies_as_a_whole_does_not_open() {
    let good = encode(&report(), Codec::Plain).unwrap();
    assert_eq!(open(&[good.as_slice(), &[0]].concat()), Err(ReportError::LeftoverBytes(1)));
    // Format, codec, stream and count, and not one row's number.
    assert_eq!(open(&good[..19]), Err(ReportError::Malformed));
    let sequences = |numbers: [u64; 2]| {
        let mut odd = report();
        odd.rows.truncate(2);
        odd.rows.iter_mut().zip(numbers).for_each(|(row, number)| row.sequence = number);
        open(&encode(&odd, Codec::Plain).unwrap())
    };
    assert_eq!(sequences([3, 3]), Err(ReportError::Inconsistent("sequences that do not grow")));
    assert_eq!(sequences([0, 3]), Err(ReportError::Inconsistent("a sequence of 0")));
    let many = [&[1, 0][..], &[0; 16], &postcard::to_stdvec(&(MAX_ROWS as u64 + 1)).unwrap()].concat();
    assert_eq!(open(&many), Err(ReportError::Inconsistent("too many rows")));
}

proptest! {
    #[test]
    fn what_decodes_opens_to_the_same_rows(index in 0usize..1000, byte in any::<u8>()) {
        let mut bytes = encode(&report(), Codec::Plain).unwrap();
        let index = index % bytes.len();
        bytes[index] = byte;
        if let Ok(read) = decode(&bytes) {
            let (_, rows) = open(&bytes).unwrap();
            let items: Vec<_> = rows.into_iter().map(|row| row.1.unwrap()).collect();
            prop_assert_eq!(items, read.rows.into_iter().map(|row| row.item).collect::<Vec<_>>());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
        if head && bytes.len() > 2 { bytes[0] = 1; bytes[1] %= 2; }
        let _ = decode(&bytes);
        let _ = open(&bytes);
    }

    #[test]
    fn one_changed_byte_reads_as_an_error_or_a_whole_report(index in 0usize..1000, byte in any::<u8>()) {
        let mut bytes = encode(&report(), Codec::Plain).unwrap();
        let index = index % bytes.len();
        bytes[index] = byte;
        if let Ok(read) = decode(&bytes) {
            prop_assert!(read.check().is_ok());
        }
    }
}
