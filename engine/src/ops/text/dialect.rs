//! RE2's syntax, read into the form that automata are made of.
//!
//! Source: the description of its syntax that RE2 brings along (`doc/syntax.txt`), read as `RE2::Options` reads by default: Perl's forms,
//! `^` and `$` for a whole text, `.` for all but a new line. How often something is repeated is bounded as RE2 bounds it, by 1,000 through
//! all levels. Greed makes no difference where the longest match counts, nor do groups.

use super::classes::{class, perl, posix, unicode};
use regex_syntax::hir::{Class, ClassUnicode, Hir, Look, Repetition};
use tract_onnx::{
    prelude::TractResult,
    tract_hir::internal::{anyhow, bail, ensure},
};

/// Bytes of a pattern, levels of its groups, and how often its innermost part may be repeated.
const LONGEST: usize = 1 << 16;
const DEEPEST: usize = 200;
const MOST_REPEATS: u64 = 1000;

/// What a pattern says.
///
/// # Errors
/// Where it is no pattern of this dialect.
pub(super) fn parse(pattern: &str) -> TractResult<Hir> {
    ensure!(pattern.len() <= LONGEST, "the pattern has {} bytes, more than {LONGEST}", pattern.len());
    let mut parser = Parser { rest: pattern, ..Parser::default() };
    let part = parser.alternatives(0).map_err(|error| error.context(format!("the pattern `{pattern}`")))?;
    ensure!(parser.rest.is_empty(), "the pattern `{pattern}` closes a group that it did not open");
    Ok(part.hir)
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    folds_case: bool,
    by_line: bool,
    dot_is_all: bool,
}

#[derive(Default)]
struct Parser<'p> {
    rest: &'p str,
    flags: Flags,
}

/// A part, and how often its innermost part is repeated.
struct Part {
    hir: Hir,
    repeats: u64,
}

impl From<Hir> for Part {
    fn from(hir: Hir) -> Self {
        Self { hir, repeats: 1 }
    }
}

/// Several parts one after the other.
fn sequence(parts: &mut Vec<Part>) -> Part {
    let repeats = parts.iter().map(|part| part.repeats).max().unwrap_or(1);
    Part { hir: Hir::concat(parts.drain(..).map(|part| part.hir).collect()), repeats }
}

impl<'p> Parser<'p> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// What stands before the next `end`, which is passed over.
    fn until(&mut self, end: &str) -> TractResult<&'p str> {
        let (before, after) = self.rest.split_once(end).ok_or_else(|| anyhow!("lacks a `{end}`"))?;
        self.rest = after;
        Ok(before)
    }

    /// Everything up to the end of the group that it stands in.
    fn alternatives(&mut self, depth: usize) -> TractResult<Part> {
        ensure!(depth <= DEEPEST, "nests deeper than {DEEPEST} groups");
        let (mut ways, mut parts, mut is_repeated) = (Vec::new(), Vec::new(), false);
        while let Some(next) = self.peek().filter(|next| *next != ')') {
            self.next();
            let (before, is_repeat) = (self.rest, std::mem::take(&mut is_repeated));
            let bounds = match next {
                '*' => Some((0, None)),
                '+' => Some((1, None)),
                '?' => Some((0, Some(1))),
                '{' => self.bounds()?,
                _ => None,
            };
            match (next, bounds) {
                (_, Some((min, max))) => {
                    ensure!(!is_repeat, "repeats a repetition");
                    self.takes("?");
                    let part = parts.pop().ok_or_else(|| anyhow!("repeats nothing"))?;
                    parts.push(repeated(part, min, max)?);
                    is_repeated = true;
                }
                ('|', _) => ways.push(sequence(&mut parts)),
                ('(', _) => parts.extend(self.group(depth)?),
                ('\\', _) if before.starts_with('Q') => {
                    self.next();
                    let quoted = self.until(r"\E").unwrap_or_else(|_| std::mem::take(&mut self.rest));
                    for letter in quoted.chars() {
                        parts.push(self.letter(letter)?.into());
                    }
                }
                _ => parts.push(self.atom(next)?.into()),
            }
        }
        ways.push(sequence(&mut parts));
        let repeats = ways.iter().map(|way| way.repeats).max().unwrap_or(1);
        Ok(Part { hir: Hir::alternation(ways.into_iter().map(|way| way.hir).collect()), repeats })
    }

    /// What stands in braces as bounds; none where the brace is a letter like any other.
    fn bounds(&mut self) -> TractResult<Option<(u32, Option<u32>)>> {
        let Some((inner, after)) = self.rest.split_once('}') else { return Ok(None) };
        let number = |digits: &str| -> Option<u32> {
            let is_number = digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.len() <= 9;
            (is_number && (digits.len() == 1 || !digits.starts_with('0'))).then(|| digits.parse().ok())?
        };
        let (low, high) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
        let Some(min) = number(low) else { return Ok(None) };
        let max = match high {
            None => Some(min),
            Some("") => None,
            Some(high) => match number(high) {
                Some(max) => Some(max),
                None => return Ok(None),
            },
        };
        self.rest = after;
        let most = u64::from(max.unwrap_or(min));
        ensure!(most <= MOST_REPEATS && max.is_none_or(|max| min <= max), "repeats {{{inner}}} times");
        Ok(Some((min, max)))
    }

    /// What follows an opening bracket: a group, or flags for the rest of the one that it stands in.
    fn group(&mut self, depth: usize) -> TractResult<Option<Part>> {
        let around = self.flags;
        if self.takes("?P<") || self.takes("?<") {
            let name = self.until(">")?;
            let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            ensure!(is_name, "has a group `{name}`");
        } else if self.takes("?") && self.are_flags_alone()? {
            return Ok(None);
        }
        let part = self.alternatives(depth + 1)?;
        ensure!(self.takes(")"), "opens a group that it does not close");
        self.flags = around;
        Ok(Some(part))
    }

    fn are_flags_alone(&mut self) -> TractResult<bool> {
        let (mut flags, mut is_on, mut is_bare_minus) = (self.flags, true, false);
        loop {
            let next = self.next();
            match next {
                Some('i') => flags.folds_case = is_on,
                Some('m') => flags.by_line = is_on,
                Some('s') => flags.dot_is_all = is_on,
                Some('U') => {}
                Some('-') if is_on => is_on = false,
                Some(':' | ')') if !is_bare_minus => {
                    self.flags = flags;
                    return Ok(next == Some(')'));
                }
                _ => bail!(
                    "has `(?{}`, which RE2 has not: export with a tokenexp without it",
                    next.map(String::from).unwrap_or_default()
                ),
            }
            is_bare_minus = next == Some('-');
        }
    }

    fn atom(&mut self, next: char) -> TractResult<Hir> {
        let look = |whole, line| Hir::look(if self.flags.by_line { line } else { whole });
        Ok(match next {
            '^' => look(Look::Start, Look::StartLF),
            '$' => look(Look::End, Look::EndLF),
            '.' if self.flags.dot_is_all => Hir::class(Class::Unicode(class(&[('\0', char::MAX)]))),
            '.' => Hir::class(Class::Unicode(class(&[('\0', '\x09'), ('\x0b', char::MAX)]))),
            '[' => self.bracket()?,
            '\\' => self.escaped()?,
            letter => self.letter(letter)?,
        })
    }

    fn escaped(&mut self) -> TractResult<Hir> {
        let look = match self.peek() {
            Some('b') => Some(Look::WordAscii),
            Some('B') => Some(Look::WordAsciiNegate),
            Some('A') => Some(Look::Start),
            Some('z') => Some(Look::End),
            Some('C') => bail!(r"has `\C`, a part of a letter"),
            _ => None,
        };
        if let Some(look) = look {
            self.next();
            return Ok(Hir::look(look));
        }
        if let Some(class) = self.named_class()? {
            return Ok(Hir::class(Class::Unicode(class)));
        }
        let letter = self.escape()?;
        self.letter(letter)
    }

    fn letter(&self, letter: char) -> TractResult<Hir> {
        if self.flags.folds_case {
            return Ok(Hir::class(Class::Unicode(self.folded(class(&[(letter, letter)]))?)));
        }
        Ok(Hir::literal(letter.encode_utf8(&mut [0; 4]).as_bytes()))
    }

    fn folded(&self, mut class: ClassUnicode) -> TractResult<ClassUnicode> {
        if self.flags.folds_case {
            class.try_case_fold_simple()?;
        }
        Ok(class)
    }

    /// A class that a backslash begins, which was passed over; none where it begins a letter.
    fn named_class(&mut self) -> TractResult<Option<ClassUnicode>> {
        let Some(next) = self.peek() else { return Ok(None) };
        let (class, is_negated) = match next {
            'p' | 'P' => {
                self.next();
                let name = if self.takes("{") {
                    self.until("}")?
                } else {
                    let one = self.rest;
                    self.next();
                    &one[..one.len() - self.rest.len()]
                };
                let name_of_rest = name.strip_prefix('^');
                (unicode(name_of_rest.unwrap_or(name))?, (next == 'P') != name_of_rest.is_some())
            }
            _ => {
                let Some(class) = perl(next) else { return Ok(None) };
                self.next();
                (class, next.is_ascii_uppercase())
            }
        };
        let mut class = self.folded(class)?;
        if is_negated {
            class.negate();
        }
        Ok(Some(class))
    }

    /// The letter after a backslash.
    fn escape(&mut self) -> TractResult<char> {
        let letter = self.next().ok_or_else(|| anyhow!("ends with a backslash"))?;
        let code = match letter {
            '0'..='7' => {
                let octal = |rest: &str| rest.chars().next().and_then(|next| next.to_digit(8));
                ensure!(letter == '0' || octal(self.rest).is_some(), r"refers back by `\{letter}`");
                let mut code = letter.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = octal(self.rest) else { break };
                    self.next();
                    code = code * 8 + digit;
                }
                code
            }
            'x' if self.takes("{") => {
                let digits = self.until("}")?;
                ensure!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()), r"has no letter `\x{{{digits}}}`");
                u32::from_str_radix(digits, 16)?
            }
            'x' => {
                let digits = self.rest.get(..2).ok_or_else(|| anyhow!(r"has no two digits after `\x`"))?;
                ensure!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()), r"has no letter `\x{digits}`");
                self.rest = &self.rest[2..];
                u32::from_str_radix(digits, 16)?
            }
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => u32::from(other),
            other => bail!(r"has no `\{other}`"),
        };
        char::from_u32(code).ok_or_else(|| anyhow!("has no letter {code:x}"))
    }

    /// A class in brackets, of which the first was passed over.
    fn bracket(&mut self) -> TractResult<Hir> {
        let is_negated = self.takes("^");
        let (mut all, mut is_first) = (ClassUnicode::empty(), true);
        while is_first || !self.rest.starts_with(']') {
            is_first = false;
            if let Some(named) = self.named_in_bracket()? {
                all.union(&named);
                continue;
            }
            let low = self.bracketed()?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1;
            let high = if is_range {
                self.next();
                self.bracketed()?
            } else {
                low
            };
            ensure!(low <= high, "has a range from `{low}` back to `{high}`");
            all.union(&self.folded(class(&[(low, high)]))?);
        }
        self.next();
        if is_negated {
            all.negate();
        }
        Ok(Hir::class(Class::Unicode(all)))
    }

    fn named_in_bracket(&mut self) -> TractResult<Option<ClassUnicode>> {
        if let Some((name, after)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
            let bare = name.strip_prefix('^');
            let class = posix(bare.unwrap_or(name)).ok_or_else(|| anyhow!("has no class `[:{name}:]`"))?;
            self.rest = after;
            let mut class = self.folded(class)?;
            if bare.is_some() {
                class.negate();
            }
            return Ok(Some(class));
        }
        let Some(after) = self.rest.strip_prefix('\\') else { return Ok(None) };
        let whole = std::mem::replace(&mut self.rest, after);
        let named = self.named_class()?;
        if named.is_none() {
            self.rest = whole;
        }
        Ok(named)
    }

    fn bracketed(&mut self) -> TractResult<char> {
        match self.next() {
            Some('\\') => self.escape(),
            Some(letter) => Ok(letter),
            None => bail!("lacks a `]`"),
        }
    }
}

fn repeated(part: Part, min: u32, max: Option<u32>) -> TractResult<Part> {
    let repeats = part.repeats.saturating_mul(u64::from(max.unwrap_or(min)).max(1));
    ensure!(repeats <= MOST_REPEATS, "repeats a part more than {MOST_REPEATS} times");
    let hir = Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(part.hir) });
    Ok(Part { hir, repeats })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes_is_taken() {
        for pattern in [
            "",
            "a|",
            "(|a)",
            "[]a]",
            "[a-]",
            "[^-a]",
            "[a-b-c]",
            r"[\d-z]",
            "[[:alpha:][:^digit:]]",
            "[[a]",
            "[[:word]",
            "a{",
            "a{,2}",
            "a{02}",
            "{",
            "x{2}",
            "x{0}",
            "x{3,}",
            "(?i)a",
            "(?i-s:a)b",
            "(?P<name>a)(?<name>b)",
            "(?:a)",
            "(?)",
            r"\pN",
            r"\p{Greek}",
            r"\p{^Lu}",
            r"\PL",
            r"\Qa.b\E*",
            r"\Q(",
            r"\x41",
            r"\x{1F600}",
            r"\101",
            r"\0",
            r"\_",
            r"\-",
            "^*",
            "a*(?i)*",
            "(a*)*",
            "(?m)^a$",
            r"\A\z",
            r"\bx\B",
        ] {
            assert!(parse(pattern).is_ok(), "{pattern}: {:#}", parse(pattern).unwrap_err());
        }
    }

    #[test]
    fn what_re2_refuses_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("(", "does not close"),
            (")", "did not open"),
            ("a)", "did not open"),
            ("*", "repeats nothing"),
            ("a|*", "repeats nothing"),
            ("a**", "repeats a repetition"),
            ("a*??", "repeats a repetition"),
            ("a{1001}", "1001"),
            ("a{3,2}", "3,2"),
            ("(a{100}){100}", "more than 1000"),
            ("(?u)a", "(?u"),
            ("(?x)a", "(?x"),
            ("(?=a)", "(?="),
            ("(?-)", "(?)"),
            ("(?i", "(?"),
            ("(?P<a b>c)", "a b"),
            ("[a", "]"),
            ("[", "]"),
            ("[b-a]", "back to"),
            (r"[a-\d]", r"\d"),
            (r"[\b]", r"\b"),
            (r"\1", "refers back"),
            (r"\8", r"\8"),
            (r"\Z", r"\Z"),
            (r"\", "backslash"),
            (r"\é", r"\é"),
            (r"\x", "two digits"),
            (r"\xg1", "xg1"),
            (r"\x{110000}", "110000"),
            (r"\x{}", ""),
            (r"\p{No_such}", "No_such"),
            (r"\p{greek}", "greek"),
            (r"\p{", "}"),
            (r"\p", ""),
            (r"\C", r"\C"),
            ("[[:nope:]]", "nope"),
        ] {
            let error = format!("{:#}", parse(pattern).map(|hir| panic!("{pattern} is {hir:?}")).unwrap_err());
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }

    #[test]
    fn however_a_pattern_nests_it_has_an_end() {
        assert!(format!("{:#}", parse(&"(".repeat(1 << 15)).unwrap_err()).contains("deeper than 200"));
        assert!(format!("{:#}", parse(&"a".repeat(1 << 17)).unwrap_err()).contains("more than 65536"));
        assert!(parse(&format!("{}a{}", "(".repeat(200), ")".repeat(200))).is_ok());
    }
}
