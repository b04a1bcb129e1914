//! Classes of letters by the names that RE2 knows: Perl's and POSIX's are those of ASCII, and Unicode's as the tables at hand have them.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};
use tract_onnx::{
    prelude::TractResult,
    tract_hir::internal::{anyhow, bail, ensure},
};

/// The letters of these ranges, both ends within.
pub(super) fn class(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(from, to)| ClassUnicodeRange::new(*from, *to)))
}

/// A class by what Perl calls it.
pub(super) fn perl(letter: char) -> Option<ClassUnicode> {
    Some(match letter.to_ascii_lowercase() {
        'd' => class(&[('0', '9')]),
        's' => class(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => class(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        _ => return None,
    })
}

/// A class by what POSIX calls it.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(match name {
        "alnum" => class(&[('0', '9'), ('A', 'Z'), ('a', 'z')]),
        "alpha" => class(&[('A', 'Z'), ('a', 'z')]),
        "ascii" => class(&[('\0', '\x7f')]),
        "blank" => class(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => class(&[('\0', '\x1f'), ('\x7f', '\x7f')]),
        "digit" => class(&[('0', '9')]),
        "graph" => class(&[('!', '~')]),
        "lower" => class(&[('a', 'z')]),
        "print" => class(&[(' ', '~')]),
        "punct" => class(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => class(&[('\t', '\r'), (' ', ' ')]),
        "upper" => class(&[('A', 'Z')]),
        "word" => class(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        "xdigit" => class(&[('0', '9'), ('A', 'F'), ('a', 'f')]),
        _ => return None,
    })
}

/// A class by its name in Unicode: a category or a script.
///
/// # Errors
/// Where there is none such.
pub(super) fn unicode(name: &str) -> TractResult<ClassUnicode> {
    let unknown = || anyhow!("has no class `{name}`");
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    ensure!(is_name, unknown());
    let parsed = regex_syntax::parse(&format!(r"\p{{{name}}}")).map_err(|_| unknown())?;
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Ok(class),
        // A class of one letter.
        HirKind::Literal(letter) => {
            let letter = std::str::from_utf8(&letter.0)?.chars().next().ok_or_else(unknown)?;
            Ok(class(&[(letter, letter)]))
        }
        _ => bail!(unknown()),
    }
}
