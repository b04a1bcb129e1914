//! `StringNormalizer`: words in one case, and without stop words.
//!
//! A letter becomes one letter, as in C's `towlower`: what Unicode writes as several letters stays, and the place of a letter in its word
//! makes no difference. In the locales `C` and `POSIX` only the letters of ASCII have a case. A file that names no locale means `en_US.UTF-8`.

use crate::ops::kernel::{Built, Fact, Kernel, expect, one, values, wrap};
use std::collections::HashSet;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Symbol, Tensor, TractResult, tensor1},
    tract_hir::internal::{TDim, bail, ensure},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Case {
    fn of(self, word: &str, is_ascii: bool) -> String {
        match self {
            Self::Kept => word.to_owned(),
            Self::Lower if is_ascii || word.is_ascii() => word.to_ascii_lowercase(),
            Self::Upper if is_ascii || word.is_ascii() => word.to_ascii_uppercase(),
            Self::Lower => word.chars().map(lower).collect(),
            Self::Upper => word.chars().map(upper).collect(),
        }
    }
}

/// The only letter that another is written as.
fn only(mut written: impl Iterator<Item = char>) -> Option<char> {
    written.next().filter(|_| written.next().is_none())
}

fn lower(letter: char) -> char {
    // The capital I with a dot is the only one that Unicode writes as two.
    only(letter.to_lowercase()).unwrap_or('i')
}

fn upper(letter: char) -> char {
    only(letter.to_uppercase()).unwrap_or_else(|| titled(letter))
}

/// Greek letters with a iota below, which Unicode writes as two in capitals, have a form for titles.
fn titled(letter: char) -> char {
    let apart = match letter {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        _ => 0,
    };
    char::from_u32(u32::from(letter) + apart).unwrap_or(letter)
}

/// Takes stop words out of a row of words and changes the case of the others.
#[derive(Debug)]
pub(super) struct Normalizer {
    case: Case,
    /// How words are spelled when they are held against the stop words.
    compared: Case,
    is_ascii: bool,
    stops: HashSet<String>,
    /// Whether a stop word is an error, for what comes later counts on all rows.
    keeps_rows: bool,
    left: Symbol,
}

/// The attribute of our own that says so; `rewrite` sets it.
pub(crate) const KEEPS_ROWS: &str = "keeps_rows";

pub(in crate::ops) fn string_normalizer(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let case = match node.get_attr_opt::<&str>("case_change_action")?.unwrap_or("NONE") {
        "NONE" => Case::Kept,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => bail!("StringNormalizer has no case_change_action `{other}`"),
    };
    let compared = match (node.get_attr_opt("is_case_sensitive")?.unwrap_or(false), case) {
        (true, _) => Case::Kept,
        (false, Case::Upper) => Case::Upper,
        (false, _) => Case::Lower,
    };
    let locale = node.get_attr_opt::<&str>("locale")?.unwrap_or_default();
    // There an I without a dot is the small form of I.
    let is_turkic = ["tr_", "az_"].iter().any(|language| locale.starts_with(language));
    ensure!(
        !is_turkic,
        "StringNormalizer has the locale `{locale}`, whose letters are not known: export with `en_US.UTF-8`"
    );
    let is_ascii = matches!(locale, "C" | "POSIX");
    let stops = node.get_attr_opt_vec::<&str>("stopwords")?.unwrap_or_default();
    let stops = stops.into_iter().map(|stop| compared.of(stop, is_ascii)).collect();
    let left = context.template.symbols.new_with_prefix("words");
    let keeps_rows = node.get_attr_opt(KEEPS_ROWS)?.unwrap_or(false);
    Ok((wrap(node, Normalizer { case, compared, is_ascii, stops, keeps_rows, left }), Vec::new()))
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn is_open(&self) -> bool {
        !self.stops.is_empty() && !self.keeps_rows
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &[DatumType::String])?;
        if !self.is_open() {
            return Ok(vec![Fact::new(DatumType::String, input.shape.clone())]);
        }
        let left = TDim::from(self.left.clone());
        match &*input.shape {
            [_] => Ok(vec![Fact::new(DatumType::String, [left])]),
            [row, _] if *row == TDim::from(1) => Ok(vec![Fact::new(DatumType::String, [row.clone(), left])]),
            other => bail!("takes stop words out of one row of words, got {other:?}"),
        }
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let words = values::<String>(inputs[0])?;
        if self.stops.is_empty() {
            let words: Vec<String> = words.iter().map(|word| self.case.of(word, self.is_ascii)).collect();
            return Ok(vec![tensor1(&words).into_shape(inputs[0].shape())?]);
        }
        let is_left = |word: &&String| !self.stops.contains(&self.compared.of(word, self.is_ascii));
        let left = words.iter().filter(is_left).map(|word| self.case.of(word, self.is_ascii));
        let mut left: Vec<String> = left.collect();
        ensure!(
            !self.keeps_rows || left.len() == words.len(),
            "a text is nothing but a stop word of the model, which takes the whole row away from beside the others"
        );
        if left.is_empty() {
            // There is no tensor of no words in ONNX.
            left.push(String::new());
        }
        let row = tensor1(&left);
        Ok(vec![if inputs[0].rank() == 2 { row.into_shape(&[1, left.len()])? } else { row }])
    }
}
