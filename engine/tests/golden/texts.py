"""Texts: onnxruntime's Tokenizer by itself and before a vectoriser, and StringNormalizer as skl2onnx writes it."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING
REFUSED = {
    "Tokenizer/python": "RE2 has no (?u), which scikit-learn's own pattern begins with",
    "Tokenizer/cube": "takes one or two dimensions",
    "StringNormalizer/empty": "wants a word",
}
TEXTS = ["The pump-set is hot, valve 7 STUCK again", "", "pump", "Überhitzt: Kühlung läuft; naïve café", "日本語 のテキスト 😀", "a b  c\tde\nf", "!!! ??? ..."]
PLAIN = dict(mark=0, pad_value="#", mincharnum=1)


def row(m, *texts):
    return {"x": m.words(*(texts or TEXTS))}


def tokenizer(*inputs, output="y0", **more):
    return helper.make_node("Tokenizer", list(inputs), [output], domain="com.microsoft", **(PLAIN | more))


def alone(m, name, x, **more):
    m.graph("Tokenizer", name, [tokenizer("x", **more)], x, [STRING])


def tokens(m):
    pairs = {"x": m.words(["one two", "three"], ["", "four five six"])}
    for name, more in {
        "separator": dict(separators=[" "]),
        "separators": dict(separators=[" ", "-", "[.,:;]", "\\?", "!"]),
        "separators_longest": dict(separators=["-|-s|-set is"]),
        "separators_in_turn": dict(separators=["p-", "-", "p"]),
        "separators_least": dict(separators=["[^a-z]", "e"], mincharnum=3),
        "separators_spaces": dict(separators=["\\s+"]),
        "separator_of_nothing": dict(separators=["\\b"]),
        "separators_and_nothing": dict(separators=["", "e"]),
        "separators_before_tokenexp": dict(separators=["e"], tokenexp="[a-z]"),
        "letters": dict(separators=[""]),
        "letters_marked": dict(separators=[""], mark=1),
        "letters_tokenexp": dict(tokenexp="."),
        "tokenexp": dict(tokenexp="[a-zA-Z0-9_]+"),
        "tokenexp_marked": dict(tokenexp="[a-zA-Z0-9_]+", mark=1, pad_value=""),
        "tokenexp_words": dict(tokenexp="\\b\\w\\w+\\b"),
        "tokenexp_letters": dict(tokenexp="[^\\n]"),
        "tokenexp_unicode": dict(tokenexp="\\pL+|\\p{Han}"),
        "tokenexp_folded": dict(tokenexp="(?i)ü|t+|P"),
        "tokenexp_longest": dict(tokenexp="p|pum|pump|u|[a-z]*t"),
        "tokenexp_lazy": dict(tokenexp="[a-z]+?"),
        "tokenexp_least": dict(tokenexp="[a-z]{2}|[a-z]+ [a-z]+|.", mincharnum=4),
        "tokenexp_least_letters": dict(tokenexp="[^ ]+", mincharnum=5),
        "tokenexp_of_nothing": dict(tokenexp="x*|e"),
        "tokenexp_places": dict(tokenexp="^\\w|\\w$|\\B-\\B"),
        "tokenexp_classes": dict(tokenexp="[[:upper:]][[:^upper:]\\s]+|[]ä-üé-]+"),
        "tokenexp_quoted": dict(tokenexp="\\Q...\\E|\\x41|\\x{1F600}|\\141"),
        "nothing": dict(tokenexp="z{9}", mark=1),
    }.items():
        alone(m, name, row(m), **more)
        if name in ("separator", "letters", "letters_marked", "tokenexp", "tokenexp_marked", "nothing"):
            alone(m, f"{name}_pairs", pairs, **more)
    alone(m, "empty_texts", row(m, "", ""), separators=[" "], mark=1)
    alone(m, "one", row(m, "a b"), separators=[" "])


def counted(m, name, x, nodes=None, flat=True, pool=("pump", "is", "hot", "valve", "pump", "is", "hot", "valve"), starts=(0, 4), grams=6,
            operator="TfIdfVectorizer", more=None, **splitting):
    """A Tokenizer and a vectoriser over single words and pairs, as skl2onnx writes them."""
    count = dict(mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=0, ngram_counts=list(starts), ngram_indexes=list(range(grams)),
                 pool_strings=list(pool)) | (more or {})
    made = [*(nodes or []), tokenizer("w" if nodes else "x", output="t", **({"tokenexp": "[a-zA-Z0-9_]+"} if not splitting.keys() & {"separators", "tokenexp"} else {}), **splitting)]
    made += [helper.make_node("Flatten", ["t"], ["f"])] if flat else []
    made.append(helper.make_node("TfIdfVectorizer", ["f" if flat else "t"], ["y0"], **count))
    m.graph(operator, name, made, x, [FLOAT])
    return made


def counts(m):
    texts = row(m, "pump is hot", "valve pump is is", "", "hot", "is hot valve hot is hot")
    counted(m, "texts", texts)
    counted(m, "texts_not_flat", texts, flat=False)
    counted(m, "texts_none", row(m, "", "..."))
    counted(m, "texts_letters", texts, separators=[""], pool=("p", "u", "#", " ", "i", "s", "s", " "))
    counted(m, "texts_filled", texts, pool=("pump", "#", "hot", "valve", "hot", "#", "#", "#"))
    counted(m, "texts_marked", texts, mark=1, pool=("\x02", "\x03", "hot", "#", "\x02", "hot", "hot", "\x03"))
    counted(m, "texts_marked_none", row(m, "", ""), mark=1, pool=("\x02", "\x03", "hot", "#", "\x02", "hot", "hot", "\x03"))
    columns = {"x": m.words(["pump is", "hot valve"], ["hot", "is"], ["", "valve"], ["is hot valve", "pump"])}
    counted(m, "texts_columns", columns)
    counted(m, "texts_columns_filled", columns, pool=("pump", "#", "hot", "valve", "hot", "#", "#", "is"))
    for skips in (1, 2, 4):
        counted(m, f"texts_columns_skip_{skips}", columns, more=dict(max_skip_count=skips), mark=skips % 2)
    weights = dict(ngram_indexes=[5, 0, 3, 1, 4, 2], weights=[0.1, 0.7, 1.3, 0.9, 0.3, 2.1])
    for mode in ("IDF", "TFIDF"):
        counted(m, f"texts_{mode.lower()}", texts, more=dict(mode=mode) | weights)
    many = row(m, " ".join(["pump is"] * 333), "is")
    counted(m, "texts_long", many, more=dict(mode="TFIDF") | weights)
    # What is between both is read by something else, too: nothing is put together.
    made = counted(m, "texts_and_tokens", texts)
    m.CASES.pop()
    m.graph("TfIdfVectorizer", "texts_and_tokens", [*made, helper.make_node("Identity", ["t"], ["y1"])], texts, [FLOAT, STRING])
    # As scikit-learn before 1.5 is exported: words that were too rare are stop words, and a text that is one is gone.
    gone = normal("x", "w", case_change_action="LOWER", stopwords=["is", "hot"])
    counted(m, "texts_gone", row(m, "Pump is", "HOT", "valve"), nodes=[gone])
    counted(m, "texts_all_left", row(m, "Pump is hot", "HOT.", "valve"), nodes=[gone])
    counted(m, "texts_all_gone", row(m, "hot", "Is"), nodes=[gone])
    # Stop words are taken out of the tokens of one text.
    one = [tokenizer("x", output="t", tokenexp="[a-z]+"), normal("t", "w", stopwords=["the", "is"]),
           helper.make_node("TfIdfVectorizer", ["w"], ["y0"], mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
                            ngram_counts=[0], ngram_indexes=[0, 1], pool_strings=["pump", "hot"])]
    m.graph("TfIdfVectorizer", "tokens_without_stop_words", one, row(m, "the pump is hot hot"), [FLOAT], is_open=False)


def normal(*names, **more):
    return helper.make_node("StringNormalizer", [names[0]], [names[1]], **({"locale": "C.UTF-8"} | more))


def normals(m):
    odd = row(m, "ÜBER Straße", "ΣΑΣ ὈΔΥΣΣΕΎΣ", "İstanbul ıI", "ẞ ŉ ǅ ﬁ ᾳ ᾼ ΐ", "Жук 日本 😀", "Ａｂ ᏣᎳ", "K Å")
    for case in ("LOWER", "UPPER"):
        for locale in ("C", "C.UTF-8", "POSIX"):
            m.graph("StringNormalizer", f"{case.lower()}_{locale.lower().replace('.', '_')}",
                    [normal("x", "y0", case_change_action=case, locale=locale)], odd, [STRING])
        for locale in ("C", "C.UTF-8"):
            stops = dict(case_change_action=case, locale=locale, stopwords=["über straße", "жук 日本 😀"])
            m.graph("StringNormalizer", f"stop_{case.lower()}_{locale.lower().replace('.', '_')}", [normal("x", "y0", **stops)], odd, [STRING], is_open=False)


def add(m):
    tokens(m)
    counts(m)
    normals(m)
