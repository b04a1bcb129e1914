//! What `tern` prints: results to standard output, the rest to standard error.

use std::io::{self, Write};

use anyhow::{Context, ensure};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::args::Format;
use crate::wording::{plain, relative};

/// Fewest characters of the column of names, so that groups of facts line up.
const WIDTH: usize = 11;
/// Longest cell of a table, in characters.
const MAX_CELL: usize = 100;

/// The result could not be written.
#[derive(Debug, thiserror::Error)]
#[error("output cannot be written")]
pub(super) struct WriteFailed(#[source] pub io::Error);

/// The two streams of one run.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    format: Format,
    watched: bool,
    now: Timestamp,
}

impl<'a> Printer<'a> {
    pub(super) fn new(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        format: Format,
        watched: bool,
        now: Timestamp,
    ) -> Self {
        Self { out, err, format, watched, now }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether someone watches, so that progress may be drawn.
    pub(super) fn is_watched(&self) -> bool {
        self.watched && !self.is_json()
    }

    /// How long ago, or how long until.
    pub(super) fn when(&self, then: Timestamp) -> String {
        relative(then, self.now)
    }

    /// The form as it is, where JSON is wanted; else what `table` makes of it.
    pub(super) fn result<T: Serialize>(
        &mut self,
        form: &T,
        table: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.is_json() {
            return table(self);
        }
        let mut text = serde_json::to_vec_pretty(form)?;
        text.push(b'\n');
        self.raw(&text)
    }

    /// A table, or what to say where it has no rows.
    pub(super) fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>, empty: &str) -> anyhow::Result<()> {
        if rows.is_empty() {
            return self.line(empty);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        for row in rows {
            table.add_row(row.iter().map(|cell| plain(cell, MAX_CELL)));
        }
        let text = table.trim_fmt();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        self.raw(format!("{}\n", lines.join("\n")).as_bytes())
    }

    /// Names and values below each other.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) -> anyhow::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(WIDTH);
        facts.iter().try_for_each(|(name, value)| self.line(&format!("{name:width$}  {value}")))
    }

    /// One line of the result.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        self.raw(format!("{}\n", plain(text, 4_000)).as_bytes())
    }

    /// A step that is done: part of the result for people, beside it for programs.
    pub(super) fn step(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_json() { self.note(text) } else { self.line(text) }
    }

    /// Something to know that is no part of the result.
    pub(super) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.err, "{}", plain(text, 4_000)).map_err(WriteFailed)?;
        Ok(())
    }

    /// Draws over the present line; an empty text clears it.
    pub(super) fn progress(&mut self, text: &str) {
        if self.is_watched() {
            // Drawing is for the eye only: where it fails the work goes on.
            let _ = write!(self.err, "\r\x1b[K{}", plain(text, 78));
            let _ = self.err.flush();
        }
    }

    /// Bytes of the result as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(WriteFailed)?;
        Ok(())
    }

    /// The end of a run that failed.
    pub(super) fn error(&mut self, error: &anyhow::Error) {
        self.progress("");
        let text = format!("{error:#}");
        // Own messages may have lines, such as the place in a tern.toml; foreign text in them is made harmless.
        let lines: Vec<_> = text.lines().take(40).map(|line| plain(line, 2_000)).collect();
        let _ = writeln!(self.err, "error: {}", lines.join("\n"));
    }
}

/// Asks whether what was shown is to be signed. No byte after the answer's line is read.
///
/// # Errors
/// Where the answer is not `yes`.
pub(super) fn confirm(input: &mut dyn io::Read, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    printer.note("sign it? type yes")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.len() < 16 && input.read(&mut byte).context("reading the answer")? == 1 && byte[0] != b'\n' {
        answer.push(byte[0]);
    }
    ensure!(answer.trim_ascii() == b"yes", "not confirmed: nothing was signed (--yes signs without asking)");
    Ok(())
}
