//! Recorded rows: a CSV file read row by row, each refusal with its line.
//!
//! Only one row is in memory at a time, and no row may be longer than [`MAX_ROW`].

use std::{
    collections::{HashSet, VecDeque},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use csv::{ByteRecord, ErrorKind, ReaderBuilder, Trim};
use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{
    cli::{args::decay::Columns, draft},
    wording::count,
};

/// How large a row may be, and what separates its cells.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Form {
    /// Longest row, in bytes.
    pub(in crate::cli) row: usize,
    /// Most columns.
    pub(in crate::cli) columns: usize,
    /// Whether cells may be separated by semicolons or tabs, as the header has them, instead of commas.
    pub(in crate::cli) is_any_mark: bool,
}

/// A thousand columns of as many digits as a number can have are a tenth of such a row.
const PLAIN: Form = Form { row: 1 << 20, columns: 10_000, is_any_mark: false };
/// What separates columns in files that are no CSV of commas.
const OTHER_MARKS: [char; 3] = [';', '\t', '|'];
/// Most columns that a refusal names.
const MAX_NAMED: usize = 10;
/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// A reader that gives out so many bytes until it is told to go on, and says where the file ends within quotes.
struct Bounded {
    file: BufReader<File>,
    form: Form,
    mark: u8,
    left: usize,
    place: Place,
    lines: Lines,
}

/// In which line a row begins, whatever ends the lines. The parser counts line feeds alone, and from the end of the row before: of
/// lines that end as Windows has them it is one too low, and behind an empty line as well.
#[derive(Debug)]
struct Lines {
    bytes: u64,
    line: u64,
    last: u8,
    /// First byte and number of the lines outside quotes that are not empty, from the row that was asked for last.
    begins: VecDeque<(u64, u64)>,
}

impl Lines {
    fn new() -> Self {
        Self { bytes: 0, line: 1, last: b'\n', begins: VecDeque::new() }
    }

    fn take(&mut self, byte: u8, is_quoted: bool) {
        match (self.last, byte) {
            (b'\r', b'\n') => {}
            (_, b'\n' | b'\r') => self.line += 1,
            (b'\n' | b'\r', _) if !is_quoted => self.begins.push_back((self.bytes, self.line)),
            _ => {}
        }
        (self.bytes, self.last) = (self.bytes + 1, byte);
    }

    /// The line of the row whose first byte is at `at`, or after it behind line ends.
    fn of(&mut self, at: u64) -> Option<u64> {
        while self.begins.front().is_some_and(|(begin, _)| *begin < at) {
            self.begins.pop_front();
        }
        self.begins.front().map(|(_, line)| *line)
    }
}

/// Where in a row of CSV the bytes that were read end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    Cell,
    Quoted,
    /// Behind a quote within quotes: the next byte tells whether it ended them.
    Quote,
}

impl Place {
    fn after(self, byte: u8, mark: u8) -> Self {
        match (self, byte) {
            (Self::Begin | Self::Quote, b'"') | (Self::Quoted, b'\0'..=b'!' | b'#'..) => Self::Quoted,
            (Self::Quoted, b'"') => Self::Quote,
            (_, b'\n' | b'\r') => Self::Begin,
            (_, byte) if byte == mark => Self::Begin,
            _ => Self::Cell,
        }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!(
                "a row is longer than {} bytes; is a quote left open?",
                self.form.row
            )));
        }
        let most = buffer.len().min(self.left);
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && self.place == Place::Quoted {
            return Err(io::Error::other("the file ends within quotes: close the one that is left open"));
        }
        for byte in &buffer[..read] {
            self.lines.take(*byte, self.place == Place::Quoted);
            self.place = self.place.after(*byte, self.mark);
        }
        self.left -= read;
        Ok(read)
    }
}

/// An open file of rows.
pub(in crate::cli) struct Table {
    path: PathBuf,
    reader: csv::Reader<Bounded>,
    names: Vec<String>,
    record: ByteRecord,
    line: u64,
}

impl Table {
    /// Opens a file of commas and reads its header. What can be read only once, such as a pipe, is refused before it is.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let found = fs::metadata(path).with_context(|| format!("opening {}", path.display()))?;
        ensure!(
            found.is_file(),
            "{} is no file: rows are read more than once, so write them to one first",
            path.display()
        );
        Self::of(path, PLAIN)
    }

    /// Opens a file of that form and reads its header.
    pub(in crate::cli) fn of(path: &Path, form: Form) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut file = BufReader::new(file);
        let begin = file.fill_buf().with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            !begin.starts_with(PARQUET),
            "{}: a Parquet file: write its rows as CSV (pandas: read_parquet(…).to_csv(…, index=False))",
            path.display()
        );
        let header = String::from_utf8_lossy(begin.split(|byte| *byte == b'\n').next().unwrap_or_default());
        let mark = if form.is_any_mark { draft::table::mark(&header) as u8 } else { b',' };
        let bounded = Bounded { file, form, mark, left: form.row, place: Place::Begin, lines: Lines::new() };
        let reader = ReaderBuilder::new().trim(Trim::All).delimiter(mark).from_reader(bounded);
        let mut table = Self { path: path.into(), reader, names: Vec::new(), record: ByteRecord::new(), line: 1 };
        table.names = table.header().with_context(|| table.place())?;
        Ok(table)
    }

    fn header(&mut self) -> anyhow::Result<Vec<String>> {
        let most = self.reader.get_ref().form.columns;
        let header = self.reader.byte_headers().context("reading the header")?;
        ensure!(!header.is_empty(), "the file is empty: its first line names the columns");
        ensure!(header.len() <= most, "{} columns are over the limit of {most}", header.len());
        // UTF-16 has a zero in each letter of a name.
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).ok().filter(|name| !name.contains('\0'));
        let names: Option<Vec<String>> = header.iter().map(text).collect();
        let names = names.context("the header is not UTF-8: save the file as UTF-8")?;
        if let [name] = &names[..] {
            ensure!(
                !name.contains(OTHER_MARKS),
                "the header names one column, {name:?}: separate columns by commas, and write 1.5 for one and a half"
            );
        }
        let mut known = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            ensure!(!name.is_empty(), "column {} has no name", at + 1);
            ensure!(known.insert(name), "the header names {name:?} twice");
        }
        Ok(names)
    }

    /// The file, for whoever reports.
    pub(in crate::cli) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// The line of the row that was read last, from 1.
    pub(in crate::cli) fn line(&self) -> u64 {
        self.line
    }

    /// The columns' names.
    pub(in crate::cli) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the next row; false at the end.
    pub(in crate::cli) fn next(&mut self) -> anyhow::Result<bool> {
        let bounded = self.reader.get_mut();
        bounded.left = bounded.form.row;
        let more = match self.reader.read_byte_record(&mut self.record) {
            Ok(more) => more,
            Err(error) => {
                let reason = self.reason(error);
                bail!("{}: {reason}", self.place());
            }
        };
        if let Some(at) = self.record.position().filter(|_| more).map(csv::Position::byte) {
            self.line = self.reader.get_mut().lines.of(at).unwrap_or(self.line);
        }
        Ok(more)
    }

    /// What is wrong with a row that could not be read, and in which line.
    fn reason(&mut self, error: csv::Error) -> String {
        if let ErrorKind::UnequalLengths { pos: Some(at), expected_len, len } = error.kind() {
            let line = self.reader.get_mut().lines.of(at.byte()).unwrap_or(self.line);
            return format!(
                "line {line}: {}, but the header names {expected_len}: quote a cell that holds a comma, and write the comma of an \
                 empty one",
                count(usize::try_from(*len).unwrap_or(usize::MAX), "cell")
            );
        }
        format!("after line {}: {:#}", self.line, anyhow::Error::from(error))
    }

    /// A cell of that row.
    pub(in crate::cli) fn cell(&self, column: usize) -> anyhow::Result<&str> {
        let bytes = self.record.get(column).unwrap_or_default();
        std::str::from_utf8(bytes).ok().with_context(|| self.at(column, "is not UTF-8: save the file as UTF-8"))
    }

    /// The time in a cell, in seconds since 1970.
    pub(super) fn time(&self, column: usize) -> anyhow::Result<f64> {
        let text = self.cell(column)?;
        seconds(text).with_context(|| {
            let told = format!("{text:?} is no time: write it like 2024-05-31T09:30:00Z or 2024-05-31 09:30:00");
            self.at(column, &told)
        })
    }

    /// What is wrong with a cell, and where.
    pub(in crate::cli) fn at(&self, column: usize, what: &str) -> String {
        let name = self.names.get(column).map_or("", String::as_str);
        format!("{}: line {}: {name}: {what}", self.place(), self.line)
    }

    /// The place of a named column.
    pub(in crate::cli) fn column(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.names.iter().position(|own| own == name);
        found.with_context(|| {
            let known = self.names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if self.names.len() > MAX_NAMED { ", …" } else { "" };
            format!("{}: the header names no column {name:?}, but {known}{more}", self.place())
        })
    }
}

/// Columns of a file that are no features.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) time: Option<usize>,
    pub(super) device: Option<usize>,
    pub(super) label: Option<usize>,
    pub(super) prediction: Option<usize>,
    pub(super) confidence: Option<usize>,
    pub(super) ignored: Vec<usize>,
    pub(super) categorical: Vec<usize>,
}

impl Roles {
    /// What `columns` name in `table`; a name that it does not have, or that has two roles, is an error.
    pub(super) fn of(table: &Table, columns: &Columns) -> anyhow::Result<Self> {
        columns.ignore.iter().try_for_each(|name| table.column(name).map(drop))?;
        Self::of_stream(table, columns)
    }

    /// The same of rows to judge, which need not have the columns to leave out.
    pub(super) fn of_stream(table: &Table, columns: &Columns) -> anyhow::Result<Self> {
        let one = |name: &Option<String>| name.as_deref().map(|name| table.column(name)).transpose();
        let all = |names: &[String]| names.iter().map(|name| table.column(name)).collect::<anyhow::Result<Vec<_>>>();
        let mut ignored: Vec<usize> =
            columns.ignore.iter().filter_map(|name| table.names().iter().position(|own| own == name)).collect();
        ignored.sort_unstable();
        ignored.dedup();
        let roles = Self {
            time: one(&columns.time_column)?,
            device: one(&columns.device_column)?,
            label: one(&columns.label_column)?,
            prediction: one(&columns.prediction_column)?,
            confidence: one(&columns.confidence_column)?,
            ignored,
            categorical: all(&columns.categorical)?,
        };
        let named = roles.named();
        for (at, column) in named.iter().enumerate() {
            if named[..at].contains(column) || roles.categorical.contains(column) {
                bail!("column {:?} is named by two options", table.names()[*column]);
            }
        }
        Ok(roles)
    }

    fn named(&self) -> Vec<usize> {
        let single = [self.time, self.device, self.label, self.prediction, self.confidence];
        single.into_iter().flatten().chain(self.ignored.iter().copied()).collect()
    }

    /// Columns that no option names.
    pub(super) fn features(&self, table: &Table) -> Vec<usize> {
        let named = self.named();
        (0..table.names().len()).filter(|column| !named.contains(column)).collect()
    }
}

/// Whether a cell is missing.
pub(in crate::cli) fn is_missing(cell: &str) -> bool {
    cell.is_empty() || cell.eq_ignore_ascii_case("nan")
}

/// A time in seconds since 1970: RFC 3339, or a date with or without a time of day, in UTC.
pub(super) fn seconds(text: &str) -> Option<f64> {
    // The name of a zone would be passed over, and the time be off by hours.
    if text.contains('[') {
        return None;
    }
    // After the date only a zone has a sign or a letter other than the T before the time.
    let is_zoned = text.get(10..).is_some_and(|rest| rest.contains(['Z', 'z', '+', '-']));
    let time: Timestamp = if is_zoned {
        text.parse().ok()?
    } else {
        text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
    };
    Some(time.as_millisecond() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_form_that_is_promised() {
        for (text, expected) in [
            ("1970-01-02", 86_400.0),
            ("1970-01-02 01:02", 90_120.0),
            ("1970-01-02 01:02:03", 90_123.0),
            ("1970-01-02T01:02:03", 90_123.0),
            ("1970-01-02T01:02:03Z", 90_123.0),
            ("1970-01-02T01:02:03+01:00", 86_523.0),
            ("1970-01-02 01:02:03.250-00:30", 91_923.25),
            ("1969-12-31", -86_400.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "1970-13-01",
            "1970-01-02 25:00",
            "12",
            "1970-01-02 01:02:03+99:00",
            "ä970-01-02",
            "1609459200",
            "1970-01-02T01:02:03[Europe/Berlin]",
            "1970-01-02T01:02:03+01:00[Europe/Berlin]",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn empty_and_nan_are_missing() {
        assert!(["", "NaN", "nan", "NAN"].into_iter().all(is_missing));
        assert!(!["0", "NA", "null", "-"].into_iter().any(is_missing));
    }
}
