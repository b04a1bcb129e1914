//! Scores' profiles as one string: base64 of little-endian numbers, so that a feature stays under 1.2 kB with a season.
//!
//! Of each: which score, rows, phi, sigma, tau, how many coefficients and the coefficients, all as f32, and the surcharges
//! of the tails a byte each. What [`super::fit()`] makes is rounded to just this, so nothing is lost on the way. Format 1
//! wrote them as a list of objects, which is still read.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

use super::ScoreProfile;
use crate::{
    calendar::MAX_COLUMNS,
    scores::Score,
    step::{SURCHARGES, Tails},
};

/// The tag of a category's share; its number follows.
const CATEGORY: u8 = 6;
/// Scores without a number of their own, by tag.
const TAGS: [Score; 6] = Score::NUMERIC;
/// The tag of the estimated error.
const ESTIMATED: u8 = 7;

/// Either format's form: a string, or what format 1 wrote in its place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form<T> {
    Packed(String),
    Plain(T),
}

/// For `serde(with)`, over a list.
pub(super) fn serialize<S: Serializer>(scores: &[ScoreProfile], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&pack(scores))
}

/// The same.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ScoreProfile>, D::Error> {
    match Form::deserialize(from)? {
        Form::<Vec<ScoreProfile>>::Plain(scores) => {
            rounded(&scores).ok_or_else(|| D::Error::custom("a score has too many coefficients"))
        }
        Form::Packed(text) => unpack(&text).ok_or_else(|| D::Error::custom("scores are damaged")),
    }
}

/// For `serde(with)`, over one or none.
pub(super) mod one {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(score: &Option<ScoreProfile>, to: S) -> Result<S::Ok, S::Error> {
        match score {
            Some(score) => to.serialize_some(&pack(std::slice::from_ref(score))),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ScoreProfile>, D::Error> {
        let only = |scores: Option<Vec<ScoreProfile>>| match scores.as_deref() {
            Some([score]) => Ok(Some(score.clone())),
            _ => Err(D::Error::custom("the estimate is damaged")),
        };
        Ok(match Option::<Form<ScoreProfile>>::deserialize(from)? {
            None => None,
            Some(Form::Plain(score)) => only(rounded(std::slice::from_ref(&score)))?,
            Some(Form::Packed(text)) => only(unpack(&text))?,
        })
    }
}

/// A list as it would come back from a string, so that writing what was read changes nothing.
fn rounded(scores: &[ScoreProfile]) -> Option<Vec<ScoreProfile>> {
    let fits = scores.iter().all(|score| score.beta.len() <= MAX_COLUMNS);
    fits.then(|| unpack(&pack(scores))).flatten()
}

fn pack(scores: &[ScoreProfile]) -> String {
    let mut bytes = Vec::new();
    for score in scores {
        match (score.score, TAGS.iter().position(|known| *known == score.score)) {
            (Score::Category(index), _) => {
                bytes.push(CATEGORY);
                bytes.extend(index.to_le_bytes());
            }
            (_, Some(tag)) => bytes.push(tag as u8),
            (_, None) => bytes.push(ESTIMATED),
        }
        let numbers = [score.rows, score.phi, score.sigma, score.tau];
        numbers.iter().for_each(|x| bytes.extend((*x as f32).to_le_bytes()));
        let beta = &score.beta[..score.beta.len().min(MAX_COLUMNS)];
        bytes.push(beta.len() as u8);
        beta.iter().for_each(|x| bytes.extend((*x as f32).to_le_bytes()));
        bytes.extend(score.tails.surcharges(score.phi));
    }
    STANDARD_NO_PAD.encode(bytes)
}

fn unpack(text: &str) -> Option<Vec<ScoreProfile>> {
    let bytes = STANDARD_NO_PAD.decode(text).ok()?;
    let mut left = &bytes[..];
    let mut scores = Vec::new();
    while !left.is_empty() {
        let score = match take::<1>(&mut left)?[0] {
            CATEGORY => Score::Category(u16::from_le_bytes(take(&mut left)?)),
            ESTIMATED => Score::EstimatedError,
            tag => *TAGS.get(usize::from(tag))?,
        };
        let (rows, phi, sigma, tau) = (number(&mut left)?, number(&mut left)?, number(&mut left)?, number(&mut left)?);
        let columns = usize::from(take::<1>(&mut left)?[0]);
        let beta = (0..columns).map(|_| number(&mut left)).collect::<Option<_>>()?;
        let tails = Tails::of_surcharges(&take::<SURCHARGES>(&mut left)?, phi);
        scores.push(ScoreProfile { score, rows, beta, phi, sigma, tau, tails });
    }
    Some(scores)
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = left.split_first_chunk::<N>()?;
    *left = rest;
    Some(*first)
}

fn number(left: &mut &[u8]) -> Option<f64> {
    Some(f64::from(f32::from_le_bytes(take(left)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = unpack(&STANDARD_NO_PAD.encode(&bytes));
        }
    }

    fn score(score: Score, columns: usize) -> ScoreProfile {
        let phi = f64::from(0.3f32);
        let beta = (0..columns).map(|i| f64::from(i as f32 / 7.0)).collect();
        let tails = Tails::of(&[-3.0, 0.5, 0.5, 0.5, 0.5, 1.0], phi);
        ScoreProfile { score, rows: 24.0, beta, phi, sigma: 0.5, tau: 0.25, tails }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let mut scores: Vec<_> = Score::NUMERIC.iter().map(|s| score(*s, MAX_COLUMNS)).collect();
        scores.push(score(Score::Category(300), 1));
        scores.push(score(Score::EstimatedError, 2));
        assert_eq!(unpack(&pack(&scores)), Some(scores.clone()));
        assert_eq!(pack(&scores[..6]).len(), 784, "six scores with all columns");
        assert_eq!(unpack(""), Some(vec![]));
    }

    #[test]
    fn damage_is_seen() {
        let whole = pack(&[score(Score::Mean, 3)]);
        for damaged in [&whole[..whole.len() - 4], &whole[4..], "!", "CA"] {
            assert_eq!(unpack(damaged), None, "{damaged}");
        }
    }
}
