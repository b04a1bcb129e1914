//! onnxruntime's `Tokenizer`, and the same together with a `TfIdfVectorizer` behind it.
//!
//! How many tokens a text has only the text says, and every text of a call is filled up to the longest. By itself the operator gives
//! a tensor whose last dimension each call decides. Before a vectoriser, where exporters write it, no token is ever stored: memory is
//! 4 bytes a token (a separator that is no plain word takes 16 more a piece of one text), and what fills up counts where it may.

use super::{
    TfIdf, UNKNOWN, Vocabulary,
    pattern::{Finder, Pattern},
    tf_idf,
};
use crate::ops::kernel::{Built, Fact, Kernel, expect, one, values, wrap};
use std::ops::Range;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Symbol, Tensor, TractResult, tensor1},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};

/// Tokens around a text where they are asked for.
const START: &str = "\u{2}";
const END: &str = "\u{3}";
/// Most separators of a tokenizer, and most tokens of its output, with those that fill up, where they are stored or counted.
const MOST_SEPARATORS: usize = 256;
const MOST_TOKENS: usize = 1 << 22;

#[derive(Debug)]
enum Way {
    Letters,
    /// What stands between matches of the first, then within that between matches of the second, and so on.
    Separators(Vec<Pattern>),
    /// The matches.
    Expression(Pattern),
}

/// How a text becomes tokens.
#[derive(Debug)]
pub(super) struct Splitting {
    way: Way,
    /// Letters that a token has at the least.
    least: usize,
    is_marked: bool,
    filler: String,
}

impl Splitting {
    /// What the attributes of a node say that may have those of `others` too.
    fn read(node: &NodeProto, others: &[&str]) -> TractResult<Self> {
        // onnxruntime refuses any other.
        let names = ["mark", "mincharnum", "pad_value", "separators", "tokenexp"];
        let other = node.attribute.iter().find(|given| !names.iter().chain(others).any(|name| *name == given.name));
        ensure!(other.is_none(), "has no attribute `{}`", other.map_or("", |other| &other.name));
        let is_marked = node.get_attr::<i64>("mark")? != 0;
        let filler = node.get_attr::<String>("pad_value")?;
        let least = node.get_attr::<i64>("mincharnum")?;
        let least =
            usize::try_from(least).ok().filter(|least| *least > 0).ok_or_else(|| anyhow!("mincharnum is {least}"))?;
        let separators = node.get_attr_opt_vec::<&str>("separators")?;
        let way = match (separators, node.get_attr_opt::<&str>("tokenexp")?) {
            (Some(separators), _) if *separators == [""] => Way::Letters,
            (Some(separators), _) => {
                let count = separators.len();
                ensure!((1..=MOST_SEPARATORS).contains(&count), "has {count} separators, not 1 to {MOST_SEPARATORS}");
                Way::Separators(separators.into_iter().map(Pattern::new).collect::<TractResult<_>>()?)
            }
            (None, Some(".")) => Way::Letters,
            (None, Some(expression)) if !expression.is_empty() => Way::Expression(Pattern::new(expression)?),
            (None, _) => bail!("has neither separators nor a tokenexp"),
        };
        ensure!(!matches!(way, Way::Letters) || least == 1, "gives single letters, and none of {least}");
        Ok(Self { way, least, is_marked, filler })
    }

    fn splitter(&self) -> Splitter<'_> {
        let finders = match &self.way {
            Way::Letters => Vec::new(),
            Way::Separators(patterns) => patterns.iter().map(Pattern::finder).collect(),
            Way::Expression(pattern) => vec![pattern.finder()],
        };
        Splitter { splitting: self, finders }
    }

    /// Tokens that each text is filled up to, where the longest has `longest`: none at all where no text has one.
    fn width(&self, longest: usize) -> usize {
        if longest > 0 && self.is_marked { longest + 2 } else { longest }
    }

    fn is_long(&self, token: &str) -> bool {
        token.len() >= self.least && token.chars().take(self.least).count() == self.least
    }
}

struct Splitter<'s> {
    splitting: &'s Splitting,
    finders: Vec<Finder<'s>>,
}

/// Where the letter after `at` begins.
fn after_letter(text: &str, at: usize) -> usize {
    let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end));
    end.unwrap_or(text.len() + 1)
}

impl Splitter<'_> {
    /// Gives the tokens of a text one after the other.
    fn split(&mut self, text: &str, mut each: impl FnMut(&str)) -> TractResult<()> {
        let splitting = self.splitting;
        match &splitting.way {
            Way::Letters => {
                for (at, letter) in text.char_indices() {
                    each(&text[at..at + letter.len_utf8()]);
                }
            }
            Way::Expression(_) if !splitting.is_long(text) => {}
            Way::Expression(_) => {
                let (mut from, finder) = (0, &mut self.finders[0]);
                while let Some(found) = finder.find(text, from)? {
                    let (start, end) = (found.start, found.end);
                    from = match text.get(found) {
                        Some(token) if splitting.is_long(token) => {
                            each(token);
                            end
                        }
                        _ => after_letter(text, start),
                    };
                }
            }
            Way::Separators(_) => {
                let mut pieces: Vec<Range<usize>> = std::iter::once(0..text.len()).collect();
                for finder in &mut self.finders {
                    let whole = std::mem::take(&mut pieces);
                    for piece in whole {
                        between(&text[piece.clone()], finder, |within| {
                            let within = piece.start + within.start..piece.start + within.end;
                            if splitting.is_long(&text[within.clone()]) {
                                pieces.push(within);
                            }
                        })?;
                    }
                }
                pieces.into_iter().for_each(|piece| each(&text[piece]));
            }
        }
        Ok(())
    }
}

/// What stands between the matches. A match of nothing takes the letter behind it along, as in onnxruntime.
fn between(text: &str, separator: &mut Finder<'_>, mut each: impl FnMut(Range<usize>)) -> TractResult<()> {
    let mut from = 0;
    while let Some(found) = separator.find(text, from)? {
        let is_whole = text.is_char_boundary(found.start) && text.is_char_boundary(found.end);
        ensure!(is_whole, "a separator matches within a letter");
        each(from..found.start);
        from = if found.is_empty() { after_letter(text, found.end) } else { found.end };
    }
    if from < text.len() {
        each(from..text.len());
    }
    Ok(())
}

/// The operator by itself.
#[derive(Debug)]
pub(super) struct Tokenizer {
    splitting: Splitting,
    most: Symbol,
}

pub(in crate::ops) fn tokenizer(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let splitting = Splitting::read(node, &[]).map_err(|error| error.context("Tokenizer"))?;
    let most = context.template.symbols.new_with_prefix("tokens");
    Ok((wrap(node, Tokenizer { splitting, most }), Vec::new()))
}

impl Kernel for Tokenizer {
    fn name(&self) -> &'static str {
        "Tokenizer"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &[DatumType::String])?;
        ensure!((1..=2).contains(&input.shape.len()), "takes texts in one or two dimensions");
        let shape = input.shape.iter().cloned().chain([TDim::from(self.most.clone())]);
        Ok(vec![Fact::new(DatumType::String, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let Splitting { is_marked, filler, .. } = &self.splitting;
        let mut splitter = self.splitting.splitter();
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for text in values::<String>(inputs[0])? {
            splitter.split(text, |token| all.push(token.to_owned()))?;
            ensure!(all.len() <= MOST_TOKENS, "gives more than {MOST_TOKENS} tokens");
            ends.push(all.len());
        }
        let starts = || std::iter::once(&0).chain(&ends);
        let width = self.splitting.width(ends.iter().zip(starts()).map(|(end, start)| end - start).max().unwrap_or(0));
        let count = width.saturating_mul(ends.len());
        ensure!(count <= MOST_TOKENS, "gives {count} tokens where all texts are filled up, more than {MOST_TOKENS}");
        let mut filled = Vec::with_capacity(count);
        let mut tokens = all.into_iter();
        for (row, (end, start)) in ends.iter().zip(starts()).enumerate().filter(|_| width > 0) {
            filled.extend(is_marked.then(|| START.to_owned()));
            filled.extend(tokens.by_ref().take(end - start));
            filled.extend(is_marked.then(|| END.to_owned()));
            filled.resize((row + 1) * width, filler.clone());
        }
        let shape: Vec<usize> = inputs[0].shape().iter().copied().chain([width]).collect();
        Ok(vec![tensor1(&filled).into_shape(&shape)?])
    }
}

/// A `Tokenizer`, a `Flatten` if there is one, and a `TfIdfVectorizer`.
#[derive(Debug)]
pub(in crate::ops) struct Counted {
    splitting: Splitting,
    counts: TfIdf,
    is_flattened: bool,
}

/// The attributes that only both together have.
const COUNTED: [&str; 10] = [
    "flattened",
    "max_gram_length",
    "max_skip_count",
    "min_gram_length",
    "mode",
    "ngram_counts",
    "ngram_indexes",
    "pool_int64s",
    "pool_strings",
    "weights",
];

pub(in crate::ops) fn counted(node: &NodeProto) -> TractResult<Counted> {
    let counts = tf_idf(node)?;
    ensure!(matches!(counts.vocabulary, Vocabulary::Words(_)), "takes numbers, not texts");
    let is_flattened = node.get_attr_opt::<i64>("flattened")? == Some(1);
    Ok(Counted { splitting: Splitting::read(node, &COUNTED)?, counts, is_flattened })
}

impl Counted {
    /// The tokens of the texts of a row as numbers, each text filled up to `width`, as far as any n-gram can tell.
    fn row(&self, texts: &[&[u32]], width: usize, row: &mut Vec<u32>) -> TractResult<()> {
        let [start, end, filler] = [START, END, &self.splitting.filler].map(|token| self.counts.number(token));
        row.clear();
        for (at, text) in texts.iter().enumerate() {
            let marks = self.splitting.is_marked && width > 0;
            row.extend(marks.then_some(start));
            row.extend_from_slice(text);
            row.extend(marks.then_some(end));
            let missing = width - text.len() - 2 * usize::from(marks);
            let shown = if filler != UNKNOWN {
                missing
            } else if at + 1 == texts.len() {
                0
            } else {
                missing.min(self.counts.reach())
            };
            ensure!(row.len().saturating_add(shown) <= MOST_TOKENS, "counts more than {MOST_TOKENS} tokens of a row");
            row.resize(row.len() + shown, filler);
        }
        Ok(())
    }
}

impl Kernel for Counted {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer of a Tokenizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &[DatumType::String])?;
        let rows = match &*input.shape {
            [rows] => rows,
            [rows, _] if self.is_flattened => rows,
            other => bail!("takes rows of words, got {} dimensions of texts", other.len()),
        };
        Ok(vec![Fact::new(DatumType::F32, [rows.clone(), self.counts.width.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut splitter = self.splitting.splitter();
        let (mut numbers, mut ends) = (Vec::new(), vec![0]);
        for text in values::<String>(inputs[0])? {
            splitter.split(text, |token| numbers.push(self.counts.number(token)))?;
            ends.push(numbers.len());
        }
        let texts: Vec<&[u32]> = ends.windows(2).map(|ends| &numbers[ends[0]..ends[1]]).collect();
        let width = self.splitting.width(texts.iter().map(|text| text.len()).max().unwrap_or(0));
        let rows = inputs[0].shape()[0];
        let each = texts.len().checked_div(rows).unwrap_or(0);
        let mut columns = vec![0.0; rows * self.counts.width];
        let mut row = Vec::new();
        for (at, columns) in columns.chunks_exact_mut(self.counts.width).enumerate() {
            self.row(&texts[at * each..(at + 1) * each], width, &mut row)?;
            self.counts.weigh(&row, columns);
        }
        Ok(vec![Tensor::from_shape(&[rows, self.counts.width], &columns)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};

    fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: value, ..AttributeProto::default() }
    }

    fn ints(name: &str, values: &[i64]) -> AttributeProto {
        let values = values.to_vec();
        AttributeProto {
            name: name.into(),
            r#type: AttributeType::Ints.into(),
            ints: values,
            ..AttributeProto::default()
        }
    }

    fn word(name: &str, value: &str) -> AttributeProto {
        AttributeProto {
            name: name.into(),
            r#type: AttributeType::String.into(),
            s: value.into(),
            ..AttributeProto::default()
        }
    }

    fn words(name: &str, values: &[&str]) -> AttributeProto {
        let strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        AttributeProto {
            name: name.into(),
            r#type: AttributeType::Strings.into(),
            strings,
            ..AttributeProto::default()
        }
    }

    /// A node that splits at blanks and counts two words, with some attributes in the place of its own.
    fn node(others: Vec<AttributeProto>) -> NodeProto {
        let mut attribute = others;
        let own = [
            int("mark", 0),
            int("mincharnum", 1),
            word("pad_value", "#"),
            word("tokenexp", "[a-z]+"),
            int("flattened", 1),
            word("mode", "TF"),
            int("min_gram_length", 1),
            int("max_gram_length", 1),
            int("max_skip_count", 0),
            ints("ngram_counts", &[0]),
            ints("ngram_indexes", &[0, 1]),
            words("pool_strings", &["a", "b"]),
        ];
        let names: Vec<String> = attribute.iter().map(|given| given.name.clone()).collect();
        attribute.extend(own.into_iter().filter(|own| !names.contains(&own.name)));
        attribute.retain(|given| given.r#type != 0);
        NodeProto { attribute, output: vec!["y".into()], ..NodeProto::default() }
    }

    /// An attribute that is left out.
    fn without(name: &str) -> AttributeProto {
        AttributeProto { name: name.into(), ..AttributeProto::default() }
    }

    fn refused(others: Vec<AttributeProto>) -> String {
        format!("{:#}", counted(&node(others)).expect_err("is taken"))
    }

    fn answer(others: Vec<AttributeProto>, shape: &[usize], texts: &[&str]) -> TractResult<Vec<f32>> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let out = counted(&node(others))?.run(&[&tensor1(&texts).into_shape(shape)?])?;
        Ok(values::<f32>(&out[0])?.to_vec())
    }

    #[test]
    fn faults_of_a_file_are_named() {
        for (others, reason) in [
            (vec![word("tokenexp", "(")], "does not close"),
            (vec![word("tokenexp", "(?u)\\w")], "(?u"),
            (vec![word("tokenexp", "")], "neither separators nor a tokenexp"),
            (vec![without("tokenexp")], "neither separators nor a tokenexp"),
            (vec![words("separators", &[" ", "["])], "lacks a `]`"),
            (vec![words("separators", &[])], "not 1 to 256"),
            (vec![words("separators", &[","; 300])], "has 300 separators"),
            (vec![int("mincharnum", 0)], "mincharnum is 0"),
            (vec![int("mincharnum", 2), word("tokenexp", ".")], "single letters"),
            (vec![without("mark")], "mark"),
            (vec![without("pad_value")], "pad_value"),
            (vec![words("stopwords", &["a"])], "has no attribute `stopwords`"),
            (vec![without("pool_strings")], "one of the two"),
            (vec![without("pool_strings"), ints("pool_int64s", &[1, 2])], "takes numbers, not texts"),
            (vec![ints("ngram_indexes", &[0, -1])], "ngram_indexes"),
            (vec![ints("ngram_indexes", &[0, 1 << 40])], "names column"),
            (vec![ints("ngram_indexes", &[0])], "more n-grams than ngram_indexes"),
            (vec![ints("ngram_counts", &[3])], "ngram_counts says 3"),
            (vec![ints("ngram_counts", &[-1])], "ngram_counts"),
            (vec![ints("ngram_counts", &[2, 1])], "ngram_counts says 2 and 1"),
            (vec![ints("ngram_counts", &[])], "ngram_counts"),
            (vec![int("max_gram_length", 2)], "1 lengths of 2"),
            (vec![int("max_gram_length", 1 << 40)], "max_gram_length"),
            (vec![int("max_skip_count", -1)], "max_skip_count"),
        ] {
            let error = refused(others);
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn tokens_are_counted_where_their_text_stands() {
        assert_eq!(answer(vec![], &[2], &["a b a", "ab, b"]).unwrap(), [2.0, 1.0, 0.0, 1.0]);
        assert_eq!(answer(vec![], &[2, 2], &["a", "b", "b b", ""]).unwrap(), [1.0, 1.0, 0.0, 2.0]);
        assert_eq!(answer(vec![], &[0], &[]).unwrap(), Vec::<f32>::new());
        assert_eq!(answer(vec![], &[2, 0], &[]).unwrap(), [0.0; 4]);
    }

    #[test]
    fn one_long_text_beside_many_takes_no_memory_for_each() {
        let long = "a ".repeat(1 << 19);
        let mut texts = vec![""; 4096];
        texts[7] = &long;
        let counts = answer(vec![], &[4096], &texts).unwrap();
        assert_eq!(counts.iter().sum::<f32>(), 524_288.0);
        // Where what fills up is counted, there is a bound.
        let filler = vec![word("pad_value", "b")];
        assert_eq!(answer(filler.clone(), &[2], &["a a a", "a"]).unwrap(), [3.0, 0.0, 1.0, 2.0]);
        let long = "a ".repeat(1 << 21);
        let error = format!("{:#}", answer(filler, &[1, 3], &[&long, "", ""]).unwrap_err());
        assert!(error.contains("more than 4194304 tokens"), "{error}");
    }

    #[test]
    fn a_text_of_a_million_letters_is_split_as_any_other() {
        let long = "ab ".repeat(1 << 19);
        let counted = |attribute| answer(vec![attribute], &[1], &[&long]).unwrap();
        assert_eq!(counted(word("tokenexp", "a|ab+|b")), [0.0, 0.0]);
        assert_eq!(counted(word("tokenexp", ".")), [524_288.0, 524_288.0]);
        assert_eq!(counted(words("separators", &[" ", "b"])), [524_288.0, 0.0]);
        assert_eq!(counted(word("tokenexp", "(ab )*a")), [0.0, 0.0]);
    }
}
