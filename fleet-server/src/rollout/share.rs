//! A number of devices as people write it: `3`, or `"12.5%"` of something.
//!
//! Rounding is the caller's decision, so there are two of it: up where more is safer, down where less is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Hundredths of a percent in a whole.
const WHOLE: u64 = 10_000;

/// A number of devices, absolute or relative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So large a part.
    Percent(Percent),
}

/// A part of a whole, 0 to 100 % in steps of 0.01 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Percent(u16);

/// Text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share: write a number such as 3, or 0 to 100 percent with at most two decimals such as \"12.5%\"")]
pub struct InvalidShare(String);

impl Percent {
    /// The whole.
    pub const ALL: Self = Self(WHOLE as u16);

    /// So many whole percent; none above 100.
    pub const fn whole(percent: u16) -> Option<Self> {
        if percent <= 100 { Some(Self(percent * 100)) } else { None }
    }

    /// Whether `part` of `total` is more than this.
    pub fn is_exceeded_by(self, part: usize, total: usize) -> bool {
        part as u128 * u128::from(WHOLE) > total as u128 * u128::from(self.0)
    }
}

impl Share {
    /// Everybody.
    pub const ALL: Self = Self::Percent(Percent::ALL);

    /// Nobody, whatever it is a share of.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(Percent(0)))
    }

    /// This share of `total`, rounded up, at most `total`.
    pub fn up(self, total: usize) -> usize {
        match self {
            Self::Count(count) => total.min(count as usize),
            Self::Percent(Percent(part)) => (total as u128 * u128::from(part)).div_ceil(u128::from(WHOLE)) as usize,
        }
    }

    /// This share of `total`, rounded down, at most `total`.
    pub fn down(self, total: usize) -> usize {
        match self {
            Self::Count(count) => total.min(count as usize),
            Self::Percent(Percent(part)) => (total as u128 * u128::from(part) / u128::from(WHOLE)) as usize,
        }
    }
}

/// The two ways to write one in JSON and TOML.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

impl FromStr for Percent {
    type Err = InvalidShare;
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let refused = || InvalidShare(text.chars().take(40).collect());
        let digits = |s: &str| !s.is_empty() && s.len() <= 3 && s.bytes().all(|b| b.is_ascii_digit());
        let number = text.strip_suffix('%').ok_or_else(refused)?.trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return Err(refused());
        }
        let hundredths: u16 = format!("{fraction:0<2}").parse().map_err(|_| refused())?;
        let whole: u16 = whole.parse().map_err(|_| refused())?;
        let part = whole.checked_mul(100).and_then(|part| part.checked_add(hundredths)).ok_or_else(refused)?;
        if u64::from(part) <= WHOLE { Ok(Self(part)) } else { Err(refused()) }
    }
}

impl FromStr for Share {
    type Err = InvalidShare;
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        match text.parse() {
            Ok(count) => Ok(Self::Count(count)),
            Err(_) => text.parse().map(Self::Percent),
        }
    }
}

impl TryFrom<Written> for Share {
    type Error = InvalidShare;
    fn try_from(written: Written) -> Result<Self, InvalidShare> {
        match written {
            Written::Number(count) => Ok(Self::Count(count)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Written> for Percent {
    type Error = InvalidShare;
    fn try_from(written: Written) -> Result<Self, InvalidShare> {
        match written {
            Written::Number(number) => Err(InvalidShare(number.to_string())),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Share> for Written {
    fn from(share: Share) -> Self {
        match share {
            Share::Count(count) => Self::Number(count),
            Share::Percent(percent) => Self::Text(percent.to_string()),
        }
    }
}

impl From<Percent> for Written {
    fn from(percent: Percent) -> Self {
        Self::Text(percent.to_string())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            _ if rest % 10 == 0 => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_share_are_inverse() {
        for part in 0..=10_000 {
            let share = Share::Percent(Percent(part));
            assert_eq!(share.to_string().parse(), Ok(share));
            let json = serde_json::to_string(&share).unwrap();
            assert_eq!(serde_json::from_str::<Share>(&json).unwrap(), share, "{json}");
        }
        assert_eq!(serde_json::from_str::<Share>("7").unwrap(), Share::Count(7));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "",
            "%",
            "-1",
            "-1%",
            "100.01%",
            "101%",
            "1.234%",
            ".5%",
            "1.%",
            "1e2%",
            "1 0%",
            "9999999999",
            "ä%",
            "655.36%",
            "656%",
            "999.99%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn rounding_goes_where_the_caller_says_and_never_past_the_total() {
        let tenth = Share::Percent(Percent(1000));
        assert_eq!((tenth.up(8), tenth.down(8)), (1, 0));
        assert_eq!((tenth.up(20), tenth.down(20)), (2, 2));
        assert_eq!((Share::ALL.up(7), Share::ALL.down(7)), (7, 7));
        assert_eq!((Share::Count(9).up(7), Share::Count(9).down(7)), (7, 7));
        assert_eq!(Share::ALL.up(usize::MAX), usize::MAX);
        assert!(Percent(1000).is_exceeded_by(3, 20) && !Percent(1000).is_exceeded_by(2, 20));
    }
}
