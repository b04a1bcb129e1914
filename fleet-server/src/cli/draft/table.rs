//! A table of text out of a CSV file, as spreadsheets and pandas write them: quotes, and a comma, semicolon or tab between
//! cells. Large files are read only so far; whoever asks is told.

use anyhow::{Context, ensure};

/// Most rows that are kept.
pub(super) const MAX_ROWS: usize = 100_000;
/// Most cells that are kept.
const MAX_CELLS: usize = 4_000_000;

/// The first rows of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub names: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Whether the file has more rows.
    pub is_cut: bool,
}

/// Reads a table; the first line names the columns.
///
/// # Errors
/// With the line where cells and header do not fit.
pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Table> {
    let text = std::str::from_utf8(bytes).context("the file is no UTF-8 text")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mark = mark(text.lines().next().unwrap_or_default());
    let mut records = Records { rest: text, mark, line: 0 };
    let names = records.next()?.context("the file is empty: its first line names the columns")?;
    let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
    let mut table = Table { names, rows: Vec::new(), is_cut: false };
    let most = MAX_ROWS.min(MAX_CELLS / table.names.len().max(1));
    while let Some(row) = records.next()? {
        let is_blank = row.len() == 1 && row[0].is_empty() && table.names.len() != 1;
        if is_blank {
            continue;
        }
        let (cells, named) = (row.len(), table.names.len());
        ensure!(cells == named, "line {} has {cells} cells where the header names {named}", records.line);
        if table.rows.len() == most {
            table.is_cut = true;
            break;
        }
        table.rows.push(row);
    }
    ensure!(!table.rows.is_empty(), "the file has a header and no rows");
    Ok(table)
}

/// What separates the cells of a header: the one of the three that occurs most often in it.
pub(in crate::cli) fn mark(header: &str) -> char {
    let often = |mark: char| header.matches(mark).count();
    [';', '\t', ','].into_iter().max_by_key(|mark| often(*mark)).unwrap_or(',')
}

struct Records<'t> {
    rest: &'t str,
    mark: char,
    /// The line in which the last record began.
    line: usize,
}

impl Records<'_> {
    /// The cells of the next record; none at the end.
    fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
        let begun = self.line;
        let mut chars = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if is_quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    cell.push('"');
                    chars.next();
                }
                '"' if is_quoted => is_quoted = false,
                '"' if cell.is_empty() => is_quoted = true,
                '\n' if is_quoted => {
                    self.line += 1;
                    cell.push(c);
                }
                '\n' => {
                    end = at + 1;
                    break;
                }
                c if c == self.mark && !is_quoted => cells.push(std::mem::take(&mut cell)),
                '\r' if !is_quoted => {}
                c => cell.push(c),
            }
        }
        ensure!(!is_quoted, "line {begun} opens a quote that is never closed");
        cells.push(cell);
        self.rest = self.rest.get(end..).unwrap_or_default();
        Ok(Some(cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str) -> Vec<Vec<String>> {
        parse(text.as_bytes()).unwrap().rows
    }

    #[test]
    fn quotes_marks_and_line_ends_of_every_writer() {
        for text in ["a,b\r\n1,x\r\n", "\u{feff}a;b\n1;x", "a\tb\n1\tx\n\n", "\"a\",\"b\"\n\"1\",x"] {
            assert_eq!(rows(text), [["1", "x"]], "{text:?}");
        }
        assert_eq!(rows("a,b\n\"1,5\",\"say \"\"x\"\"\ny\"\n"), [["1,5", "say \"x\"\ny"]]);
        assert_eq!(rows("a\n1\n\n2"), [["1"], [""], ["2"]], "an empty cell of the only column");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_line() {
        for (text, told) in [
            ("", "the file is empty"),
            ("a,b\n", "no rows"),
            ("a,b\n1,2\n3\n", "line 3 has 1 cells"),
            ("a,b\n\"x\ny\",1\n1,2,3\n", "line 4 has 3 cells"),
            ("a,b\n1,\"2\n", "line 2 opens a quote"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
        assert!(parse(b"\xff").is_err());
    }

    #[test]
    fn long_files_are_cut_and_say_so() {
        let text = format!("a\n{}", "1\n".repeat(MAX_ROWS + 1));
        let table = parse(text.as_bytes()).unwrap();
        assert!(table.is_cut && table.rows.len() == MAX_ROWS);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a1,;\"\n\r é]{0,60}") {
            if let Ok(table) = parse(text.as_bytes()) {
                prop_assert!(table.rows.iter().all(|row| row.len() == table.names.len()));
            }
        }
    }
}
