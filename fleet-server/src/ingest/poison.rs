//! The closed list of what goes into quarantine.

use tern_protocol::report::ReportError;

macro_rules! poisons {
    ($($variant:ident = $code:literal, $doc:literal;)*) => {
        /// Why something is in quarantine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Poison {
            $(#[doc = $doc] $variant,)*
        }

        impl Poison {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in metrics, events and lists.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

poisons! {
    ReportFormat = "report-format", "A report of an unknown format version.";
    ReportCodec = "report-codec", "A report of an unknown codec.";
    ReportTooLarge = "report-too-large", "A report over the limit.";
    ReportTruncated = "report-truncated", "A report shorter than its header.";
    ReportCompression = "report-compression", "A report that does not decompress within its limit.";
    ReportMalformed = "report-malformed", "A report of which not even the first row can be read.";
    ReportLeftover = "report-leftover", "A report with bytes after its end.";
    ReportInconsistent = "report-inconsistent", "A report whose rows are too many or out of order.";
    RowMalformed = "row-malformed", "A row that cannot be read.";
    RowInconsistent = "row-inconsistent", "A row that contradicts itself.";
    RowVersion = "row-version", "A row of a version that was never published.";
    RowDemand = "row-demand", "A row of a version that was never demanded of the device.";
    RowShape = "row-shape", "A row that is counted in another way than its version's profile or contract.";
    RowSketch = "row-sketch", "A row whose sketches are none.";
    RowTime = "row-time", "A row of a time that cannot be.";
    RowCount = "row-count", "A row with a count that cannot be.";
    RowEvents = "row-events", "An event too many, in one report or over time.";
}

impl Poison {
    /// Why a report as a whole cannot be used.
    pub fn of(error: &ReportError) -> Self {
        match error {
            ReportError::TooLarge(_) => Self::ReportTooLarge,
            ReportError::Truncated => Self::ReportTruncated,
            ReportError::UnknownFormat(_) => Self::ReportFormat,
            ReportError::UnknownCodec(_) => Self::ReportCodec,
            ReportError::Compression => Self::ReportCompression,
            ReportError::Malformed => Self::ReportMalformed,
            ReportError::LeftoverBytes(_) => Self::ReportLeftover,
            ReportError::Inconsistent(_) => Self::ReportInconsistent,
        }
    }

    /// Why a row cannot be used.
    pub fn of_row(error: &ReportError) -> Self {
        match error {
            ReportError::Inconsistent(_) => Self::RowInconsistent,
            _ => Self::RowMalformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::BTreeSet<_> = Poison::ALL.iter().map(|poison| poison.code()).collect();
        assert_eq!(codes.len(), Poison::ALL.len());
    }
}
