//! Regular expressions as onnxruntime reads them: RE2's dialect, and of the matches that begin first the longest.
//!
//! Source: the description of its syntax that RE2 brings along (`doc/syntax.txt`). `\w`, `\d`, `\s` and `\b` are those of ASCII there, and
//! what Python adds, such as `(?u)` and looking ahead, is an error. Whatever a pattern says, its own size, its nesting, its repetitions
//! and its automata are bounded, and one search takes time in proportion to the text. One that reads to the end for each token, as
//! `a|a.*b` may, takes it once for each, as in RE2: so what the searches of one call read is bounded too.

use super::dialect;
use regex_automata::{
    Anchored, Input, MatchKind,
    hybrid::{dfa, regex},
    nfa::thompson,
};
use regex_syntax::hir::{Class, ClassUnicode, Hir, HirKind, Repetition};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};
use tract_onnx::{
    prelude::TractResult,
    tract_hir::internal::{anyhow, ensure},
};

/// Bytes of the automaton that a pattern is made into, and of the states that each of its three searches keeps.
const AUTOMATON: usize = 4 << 20;
const STATES: usize = 1 << 20;
/// Bytes that the searches of one call read at the most. Ordinary patterns read a text about three times: a second or two of processor.
const MOST_READ: usize = 1 << 30;

/// What can be looked for in a text.
#[derive(Debug)]
pub(super) enum Pattern {
    /// These letters.
    Letters(Box<str>),
    /// Letters of one class: the commonest pattern, for which no automaton is needed.
    Run(Run),
    Automata(Box<Automata>),
}

/// Says where a match begins, then where the longest from there ends.
pub(super) struct Automata {
    first: regex::Regex,
    longest: dfa::DFA,
    /// What the last search left of its states, for the next.
    spare: Mutex<Option<States>>,
}

struct States {
    first: regex::Cache,
    longest: dfa::Cache,
}

impl States {
    /// How often states were thrown away, and the bytes read since.
    fn read(&self) -> (usize, usize) {
        let (forward, backward) = self.first.as_parts();
        let all = [forward, backward, &self.longest];
        (all.iter().map(|cache| cache.clear_count()).sum(), all.iter().map(|cache| cache.search_total_len()).sum())
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where RE2 would not take it, or it becomes too large.
    pub(super) fn new(pattern: &str) -> TractResult<Self> {
        let parsed = dialect::parse(pattern)?;
        if let HirKind::Literal(letters) = parsed.kind()
            && let Ok(letters) = std::str::from_utf8(&letters.0)
        {
            return Ok(Self::Letters(letters.into()));
        }
        if let Some(run) = Run::new(&parsed) {
            return Ok(Self::Run(run));
        }
        Automata::new(&parsed).map(|automata| Self::Automata(automata.into()))
    }

    pub(super) fn finder(&self) -> Finder<'_> {
        let spare = match self {
            Self::Letters(_) | Self::Run(_) => None,
            Self::Automata(automata) => Some(automata.spare().take().unwrap_or_else(|| automata.states())),
        };
        Finder { pattern: self, states: spare, read: 0 }
    }
}

/// As many letters of a class as there are, from `least` to `most`.
#[derive(Debug)]
pub(super) struct Run {
    is_ascii_of: [bool; 128],
    class: ClassUnicode,
    least: usize,
    most: usize,
}

impl Run {
    fn new(parsed: &Hir) -> Option<Self> {
        let (class, min, max) = match parsed.kind() {
            HirKind::Repetition(Repetition { min, max, sub, .. }) if *min > 0 => (sub.kind(), *min, *max),
            kind => (kind, 1, Some(1)),
        };
        let HirKind::Class(Class::Unicode(class)) = class else { return None };
        let (least, most) =
            (usize::try_from(min).ok()?, max.map_or(Some(usize::MAX), |max| usize::try_from(max).ok())?);
        let mut run = Self { is_ascii_of: [false; 128], class: class.clone(), least, most };
        run.is_ascii_of =
            std::array::from_fn(|letter| u8::try_from(letter).is_ok_and(|letter| run.looked_up(letter.into())));
        Some(run)
    }

    fn looked_up(&self, letter: char) -> bool {
        let ranges = self.class.ranges();
        let at = ranges.partition_point(|range| range.end() < letter);
        ranges.get(at).is_some_and(|range| range.start() <= letter)
    }

    fn has(&self, letter: char) -> bool {
        let ascii = self.is_ascii_of.get(letter as usize).copied();
        ascii.unwrap_or_else(|| self.looked_up(letter))
    }

    fn find(&self, text: &str, mut from: usize) -> Option<Range<usize>> {
        loop {
            let start = from + text.get(from..)?.find(|letter| self.has(letter))?;
            let mut letters = text[start..].char_indices().take(self.most);
            let mut count = 0;
            let end = letters.find(|(_, letter)| {
                let is_of = self.has(*letter);
                count += usize::from(is_of);
                !is_of
            });
            // Where none ends it, it goes on to the most that there may be, or to the end of the text.
            let end = end.map(|(at, _)| at).or_else(|| text[start..].char_indices().nth(count).map(|(at, _)| at));
            let end = end.map_or(text.len(), |at| start + at);
            if count >= self.least {
                return Some(start..end);
            }
            from = end;
        }
    }
}

impl Automata {
    fn new(parsed: &Hir) -> TractResult<Self> {
        let too_large = |error: &dyn std::fmt::Display| anyhow!("the pattern is too large: {error}");
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(AUTOMATON))
            .which_captures(thompson::WhichCaptures::None);
        let nfa = |config| thompson::Compiler::new().configure(config).build_from_hir(parsed);
        let forward = nfa(config.clone()).map_err(|error| too_large(&error))?;
        let backward = nfa(config.reverse(true)).map_err(|error| too_large(&error))?;
        let states = dfa::Config::new().cache_capacity(STATES).skip_cache_capacity_check(true);
        let dfa = |config, nfa| dfa::Builder::new().configure(config).build_from_nfa(nfa);
        let every = states.clone().match_kind(MatchKind::All);
        let longest = dfa(every.clone(), forward.clone()).map_err(|error| too_large(&error))?;
        let forward = dfa(states, forward).map_err(|error| too_large(&error))?;
        let backward = dfa(every, backward).map_err(|error| too_large(&error))?;
        let first = regex::Builder::new().build_from_dfas(forward, backward);
        Ok(Self { first, longest, spare: Mutex::default() })
    }

    fn find(&self, states: &mut States, text: &str, from: usize) -> TractResult<Option<Range<usize>>> {
        let all = Input::new(text).span(from..text.len());
        let Some(found) = self.first.try_search(&mut states.first, &all)? else { return Ok(None) };
        let here = Input::new(text).span(found.start()..text.len()).anchored(Anchored::Yes);
        let longest = self.longest.try_search_fwd(&mut states.longest, &here)?;
        Ok(Some(found.start()..longest.map_or(found.end(), |longest| longest.offset())))
    }

    fn states(&self) -> States {
        States { first: self.first.create_cache(), longest: self.longest.create_cache() }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<States>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Automata {
    // The automata would print every state.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Automata")
    }
}

/// Searches by one pattern, one after the other.
pub(super) struct Finder<'p> {
    pattern: &'p Pattern,
    states: Option<States>,
    /// Bytes read up to now.
    read: usize,
}

impl Finder<'_> {
    /// The first match that begins at `from` or later, and of those that begin there the longest; what stands before `from` counts as
    /// the text before.
    ///
    /// # Errors
    /// Where the searches of this finder have read more than they may.
    pub(super) fn find(&mut self, text: &str, from: usize) -> TractResult<Option<Range<usize>>> {
        let Some(rest) = text.get(from..) else { return Ok(None) };
        ensure!(
            self.read <= MOST_READ,
            "the pattern reads more than {MOST_READ} bytes in one call: it reads on and on for each token"
        );
        let (found, read) = match (self.pattern, &mut self.states) {
            (Pattern::Automata(automata), Some(states)) => {
                let before = states.read();
                let found = automata.find(states, text, from)?;
                // What was read before states were thrown away for others is not known any more.
                let read = states.read();
                (found, if read.0 == before.0 { read.1.saturating_sub(before.1) } else { rest.len().saturating_mul(3) })
            }
            (Pattern::Run(run), _) => {
                let found = run.find(text, from);
                let read = found.as_ref().map_or(rest.len(), |found| found.end - from);
                (found, read)
            }
            (Pattern::Letters(letters), _) => {
                let found = rest.find(&**letters).map(|at| from + at..from + at + letters.len());
                let read = found.as_ref().map_or(rest.len(), |found| found.end - from);
                (found, read)
            }
            (Pattern::Automata(_), None) => (None, 0),
        };
        self.read = self.read.saturating_add(read);
        Ok(found)
    }
}

impl Drop for Finder<'_> {
    fn drop(&mut self) {
        if let (Pattern::Automata(automata), Some(states)) = (self.pattern, self.states.take()) {
            *automata.spare() = Some(states);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str, text: &str) -> Vec<String> {
        let pattern = Pattern::new(pattern).unwrap();
        let (mut finder, mut from, mut found) = (pattern.finder(), 0, Vec::new());
        while let Some(at) = finder.find(text, from).unwrap() {
            found.push(text[at.clone()].to_owned());
            from = at.end + usize::from(at.is_empty());
        }
        found
    }

    #[test]
    fn the_first_match_counts_and_of_those_the_longest() {
        assert_eq!(all("foo|foobar", "xfoobar foo"), ["foobar", "foo"]);
        assert_eq!(all("[a-z]+?", "ab cd"), ["ab", "cd"]);
        assert_eq!(all("b|abc|a", "zabc"), ["abc"]);
        assert_eq!(all("--", "a---b"), ["--"]);
    }

    #[test]
    fn letters_are_those_of_ascii_unless_they_are_named() {
        assert_eq!(all(r"\w+", "aé_9"), ["a", "_9"]);
        assert_eq!(all(r"\b\w\w+\b", "a bc déf"), ["bc"]);
        assert_eq!(all(r"\pL+", "aé日 9"), ["aé日"]);
        assert_eq!(all(r"(?i)straße", "STRAẞE straße"), ["STRAẞE", "straße"]);
    }

    #[test]
    fn runs_of_a_class_are_as_long_as_they_may_be() {
        assert_eq!(all("[a-zé]{2,3}", "a abé abcdé x"), ["abé", "abc", "dé"]);
        assert_eq!(all("[^ ]", "ab é"), ["a", "b", "é"]);
        assert_eq!(all("[a-c]{3,}", "ab abcab"), ["abcab"]);
        assert!(matches!(Pattern::new(r"\w+").unwrap(), Pattern::Run(_)));
        assert!(matches!(Pattern::new(r"\w\w+").unwrap(), Pattern::Automata(_)));
    }

    #[test]
    fn what_stands_before_the_place_counts() {
        let pattern = Pattern::new(r"\bb|^c").unwrap();
        let mut finder = pattern.finder();
        assert_eq!(finder.find("abc", 1).unwrap(), None);
        assert_eq!(finder.find("a b", 1).unwrap(), Some(2..3));
        assert_eq!(finder.find("a", 7).unwrap(), None);
    }

    #[test]
    fn a_pattern_that_reads_on_for_each_token_is_refused_in_the_end() {
        let text = "a".repeat(100_000);
        let tokens = |pattern: &str, text: &str| {
            let pattern = Pattern::new(pattern).unwrap();
            let (mut finder, mut from, mut count) = (pattern.finder(), 0, 0);
            while let Some(at) = finder.find(text, from)? {
                (from, count) = (at.start + 1, count + 1);
            }
            TractResult::Ok(count)
        };
        for pattern in ["a|a.*b", "a+"] {
            let error = tokens(pattern, &text).unwrap_err().to_string();
            assert!(error.contains("on and on"), "{pattern}: {error}");
        }
        // What is read about once for each letter may be long.
        let words = "word ".repeat(1_000_000);
        assert_eq!(tokens(r"\bw\w+\b", &words).unwrap(), 1_000_000);
    }

    #[test]
    fn a_pattern_that_becomes_too_large_is_refused() {
        for pattern in [r"(\pL{500}|\pN{500}){2}", r"((\pL{10}){10}){10}"] {
            let error = format!("{:#}", Pattern::new(pattern).unwrap_err());
            assert!(error.contains("too large"), "{pattern}: {error}");
        }
    }
}
