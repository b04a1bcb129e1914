//! Flags of `tern decay`: recorded rows, no server, no keys.

use std::{fmt, path::PathBuf};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Decay {
    /// Fit a reference profile to rows that were recorded in time order while all was well
    Fit(Fit),
    /// Run the server's detectors over recorded rows
    Replay(Replay),
    /// Draw the window scores of recorded rows against what the profile tolerates, as SVG
    Plot(Plot),
}

#[derive(Debug, Args)]
#[command(
    after_help = "CSV: UTF-8, comma, a header. Every column that no option names is a feature, a number if all its cells \
                        are, else a category. An empty cell or NaN is missing. Times are RFC 3339 or YYYY-MM-DD[ HH:MM[:SS]] \
                        in UTC, and grow. Nothing is sent anywhere."
)]
pub(in crate::cli) struct Fit {
    /// The recorded rows
    #[arg(long, value_name = "FILE.csv")]
    pub reference: PathBuf,
    #[command(flatten)]
    pub columns: Columns,
    #[command(flatten)]
    pub cut: Cut,
    /// Where to write the profile
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Detection begins with the first row, in a fresh state. A line for each time that a detector crosses its \
                        threshold, then a summary; warnings go to standard error. Exit 0 whether or not anything alarmed. \
                        Window, offset and rate are the profile's.\n\n\
                        score: hard rules say missing+, flat+, out-of-range+, unknown-category+; step, concurrent and pooled \
                        say location, mean, spread, roughness, flat, missing or category:NAME, and + (more) or - (less); \
                        calibration says errors-by-confidence+, slo errors+, estimate estimated-error+ or \
                        estimated-error-. evidence: log10 of the detector over its threshold, of hard rules of the share \
                        over its limit. mde: standard deviations of the reference. docs/decay.md says what each means."
)]
pub(in crate::cli) struct Replay {
    #[command(flatten)]
    pub against: Against,
    /// Hold devices against one another, too; it takes 8
    #[arg(long, requires = "device_column")]
    pub cohort: bool,
    /// Lines of JSON, as --output json
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Plot {
    #[command(flatten)]
    pub against: Against,
    /// Only this feature [default: all]
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    pub feature: Option<String>,
    /// Where to write the picture
    #[arg(short = 'o', long = "out", value_name = "FILE.svg")]
    pub out: PathBuf,
}

/// Rows and what they are held against.
#[derive(Debug, Args)]
pub(in crate::cli) struct Against {
    /// The profile, or with --device-column a folder with one named DEVICE.json for each
    #[arg(long, value_name = "FILE", required_unless_present = "reference", conflicts_with = "reference")]
    pub profile: Option<PathBuf>,
    /// Recorded rows to fit a profile to, instead of one
    #[arg(long, value_name = "FILE.csv")]
    pub reference: Option<PathBuf>,
    /// The rows to judge
    #[arg(long, value_name = "FILE.csv")]
    pub stream: PathBuf,
    #[command(flatten)]
    pub columns: Columns,
    #[command(flatten)]
    pub cut: Cut,
}

/// What columns are for.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Columns {
    /// The column of times; without it rows are taken to be independent, as you state
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    pub time_column: Option<String>,
    /// The column that names the device of a row, where there are several; a profile is one for all of them
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    pub device_column: Option<String>,
    /// Columns of categories that look like numbers or times
    #[arg(long, value_name = "COLUMN,...", value_parser = column, value_delimiter = ',')]
    pub categorical: Vec<String>,
    /// Columns to leave out, also of what a profile watches
    #[arg(long, value_name = "COLUMN,...", value_parser = column, value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// The column of right answers, empty where none came; with --prediction-column
    #[arg(long, value_name = "COLUMN", value_parser = column, requires = "prediction_column")]
    pub label_column: Option<String>,
    /// The column of the model's answers
    #[arg(long, value_name = "COLUMN", value_parser = column, requires = "label_column")]
    pub prediction_column: Option<String>,
    /// The column of the model's confidences
    #[arg(long, value_name = "COLUMN", value_parser = column, requires = "label_column")]
    pub confidence_column: Option<String>,
}

/// How windows are cut and how often false alarms are accepted.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Cut {
    /// day, week or rows:N [default: day where at least 12 rows come on one, else rows]
    #[arg(long, value_name = "WINDOW", value_parser = span)]
    pub window: Option<Span>,
    /// What the device's days are cut by [default: +00:00]
    #[arg(long, value_name = "±HH:MM", value_parser = offset, allow_hyphen_values = true)]
    pub utc_offset: Option<i32>,
    /// Windows between false alarms of one device, in expectation [default: 1000]
    #[arg(long, value_name = "WINDOWS", allow_negative_numbers = true)]
    pub arl: Option<f64>,
}

/// What a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Span {
    Day,
    Week,
    Rows(u64),
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Rows(rows) => write!(f, "rows:{rows}"),
        }
    }
}

/// A column's name, as the header's are read: without the spaces around it.
fn column(text: &str) -> Result<String, String> {
    Ok(text.trim().to_owned())
}

fn span(text: &str) -> Result<Span, String> {
    let rule = "write day, week, or rows:N with N at least 1";
    match text {
        "day" => Ok(Span::Day),
        "week" => Ok(Span::Week),
        _ => {
            let rows = text.strip_prefix("rows:").and_then(|n| n.parse().ok()).filter(|n| (1..=1 << 40).contains(n));
            rows.map(Span::Rows).ok_or_else(|| rule.into())
        }
    }
}

/// Seconds ahead of UTC as they are written.
pub(in crate::cli) fn offset_words(seconds: i32) -> String {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Seconds ahead of UTC.
fn offset(text: &str) -> Result<i32, String> {
    let rule = "write it as +HH:MM or -HH:MM, at most 14 hours";
    let parse = || {
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let (hours, minutes): (i32, i32) =
            (hours.parse().ok().filter(|_| digits(hours))?, minutes.parse().ok().filter(|_| digits(minutes))?);
        (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    };
    parse().ok_or_else(|| rule.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_offsets_are_read_or_refused() {
        assert_eq!((span("day"), span("week"), span("rows:20")), (Ok(Span::Day), Ok(Span::Week), Ok(Span::Rows(20))));
        for text in ["day", "week", "rows:20"] {
            assert_eq!(span(text).unwrap().to_string(), text);
        }
        for text in ["", "rows", "rows:", "rows:0", "rows:-1", "month", "Day"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!((offset("+05:30"), offset("-08:00"), offset("+00:00")), (Ok(19_800), Ok(-28_800), Ok(0)));
        for text in ["+05:30", "-08:00", "-00:30", "+00:00"] {
            assert_eq!(offset_words(offset(text).unwrap()), text);
        }
        for text in ["", "05:30", "+5:30", "+05:60", "+15:00", "+0530", "Z", "+aa:00", "+-1:00"] {
            assert!(offset(text).is_err(), "{text}");
        }
    }
}
