"""scikit-learn's models of texts, exported by skl2onnx in the ways that people use.

A file without a locale, as skl2onnx writes it, means `en_US.UTF-8`, which is not on every machine: the answers are those of the same
file with `C.UTF-8`, where letters have the same cases.
"""
import numpy as np
import pandas as pd
from estimators import OPSET, OPSETS
import skl2onnx.sklapi.register  # noqa: F401, converters of the traceable vectorisers
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.sklapi import TraceableCountVectorizer, TraceableTfidfVectorizer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, PassiveAggressiveClassifier, Perceptron, Ridge, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

THINGS = ["pump", "Valve 7", "the motor", "bearing No. 3", "conveyor-belt", "Kühlung", "the cooling fan", "E-stop button", "PLC", "gear_box",
          "hydraulic line", "sensor #12", "Förderband", "the O-ring", "filter (spare)"]
STATES = ["is hot", "is leaking oil again", "stalls when it's cold", "works fine", "was replaced", "makes a loud noise, then stops", "shows 0.5 bar",
          "ist überhitzt", "is OK", "needs grease!!", "trips the breaker", "vibrates at 3,000 rpm", "läuft ruhig", "has no power", "was cleaned & tested"]
ENDS = ["", ".", " - please check.", "; see ticket 4711", "?", " (2nd time today)", " ... ", ", thanks", "\nReported by line 2", " :-)"]
ODD = ["", " ", "!!! ??? ...", "#", "日本語のテキスト", "ΣΑΣ İstanbul ẞ ǅ ﬁ", "naïve café — “quoted”", "a", "\t\n", "1", "😀 pump 😀", "x" * 5000,
       "pump " * 3000, "_", "the is and", "PUMP, pump; Pump", "don't won't it's", "e-mail me@site.org", "é" * 300, "a.b.c.d", "İ", "pump\0valve", "Valve"]


def reports(count=400, seed=5):
    """Reports on machines, and whether something is wrong."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(count):
        parts = [f"{draw.choice(THINGS)} {draw.choice(STATES)}{draw.choice(ENDS)}" for _ in range(draw.integers(1, 4))]
        made.append(" ".join(parts))
    bad = [any(word in text for word in ("hot", "leak", "stall", "noise", "trips", "power", "überhitzt")) for text in made]
    return np.array(made, dtype=object), np.array(bad).astype(int)


TEXTS, BAD = reports()
CORNERS = np.array(ODD, dtype=object)
LEVELS = np.array(["fine", "look", "stop"])[BAD + np.array(["again" in text or "breaker" in text for text in TEXTS])]


def without_locale(model):
    for node in model.graph.node:
        for name in [given for given in node.attribute if given.name == "locale"]:
            node.attribute.remove(name)
    return model


def cases(column):
    """A report, 64 of them, odd ones, odd ones among others, and each alone."""
    shape = (-1, 1) if column else (-1,)
    sets = [TEXTS[:1], TEXTS[100:164], CORNERS, np.concatenate([CORNERS, TEXTS[:40]]), *([odd] for odd in ODD[:4])]
    return [{"X": np.array(each, dtype=object).reshape(shape)} for each in sets]


def exported(pipe, vectorisers, types, opset=None, **options):
    """A model as skl2onnx writes it, and the one that gives its answers."""
    last = pipe.steps[-1][1] if hasattr(pipe, "steps") else pipe
    asked = {id(step): options | {"locale": "C.UTF-8"} for step in vectorisers}
    if isinstance(last, LinearSVC):
        asked[id(last)] = {"raw_scores": False}
    elif hasattr(last, "classes_"):
        asked[id(pipe)] = {"zipmap": False}
    made, reference = (convert_sklearn(pipe, initial_types=types, target_opset=opset or OPSET, options=asked) for _ in range(2))
    return without_locale(made), reference


def old(vectoriser):
    """As scikit-learn before 1.5 left it: it knows which words it does not count, and skl2onnx has them taken out of the texts."""
    every = CountVectorizer().fit(TEXTS).vocabulary_
    vectoriser.stop_words_ = {*every} - {*vectoriser.vocabulary_}


def text(model, labels=BAD, opset=None, column=False, is_old=False, **vectoriser):
    """A model of texts; `vectoriser` are skl2onnx's options of its first step."""
    def make():
        pipe = model().fit(TEXTS, labels)
        first = pipe.steps[0][1] if hasattr(pipe, "steps") else pipe
        if is_old:
            old(first)
        words = [step for _, step in first.transformer_list] if isinstance(first, FeatureUnion) else [first]
        types = [("X", StringTensorType([None, 1] if column else [None]))]
        made, reference = exported(pipe, words, types, opset, **vectoriser)
        return made, cases(column), reference
    return make


def classified(last, labels=BAD, words=TfidfVectorizer, **options):
    return text(lambda: make_pipeline(words(), last()), labels, **options)


def union():
    return FeatureUnion([("w", TfidfVectorizer()), ("c", CountVectorizer(analyzer="char", ngram_range=(1, 2)))])


def table(transformers, last, is_old=False):
    """A table of two texts and two numbers."""
    def make():
        draw = np.random.default_rng(6)
        frame = pd.DataFrame({"report": TEXTS, "note": TEXTS[::-1], "heat": draw.normal(size=len(TEXTS)).astype(np.float32),
                              "site": draw.choice(["north", "süd"], len(TEXTS))})
        frame["flow"] = draw.normal(size=len(TEXTS)).astype(np.float32)
        pipe = make_pipeline(ColumnTransformer(transformers(), remainder="drop"), last()).fit(frame, BAD)
        kinds = {name: FloatTensorType if name in ("heat", "flow") else StringTensorType for name in frame.columns}
        types = [(name, kind([None, 1])) for name, kind in kinds.items()]
        feed = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame.columns}
        feed = {name: column if kinds[name] is FloatTensorType else column.astype(object) for name, column in feed.items()}
        words = [step for _, step, _ in pipe.steps[0][1].transformers_ if isinstance(step, CountVectorizer)]
        if is_old:
            old(words[0])
        made, reference = exported(pipe, words, types)
        return made, feed, reference
    return make


def texts_and_numbers():
    return [("r", TfidfVectorizer(), "report"), ("n", CountVectorizer(ngram_range=(1, 2), max_features=60), "note"),
            ("x", StandardScaler(), ["heat", "flow"]), ("s", OneHotEncoder(sparse_output=False), ["site"])]


VECTORISERS = {
    "count": CountVectorizer,
    "count_binary": lambda: CountVectorizer(binary=True),
    "count_letters": lambda: CountVectorizer(analyzer="char", ngram_range=(1, 3)),
    "count_letters_pairs": lambda: CountVectorizer(analyzer="char", ngram_range=(2, 2), lowercase=False),
    "count_letters_words": lambda: CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)),
    "count_accents": lambda: CountVectorizer(strip_accents="unicode"),
    "count_cased": lambda: CountVectorizer(lowercase=False),
    "count_few": lambda: CountVectorizer(max_features=20),
    "count_frequent": lambda: CountVectorizer(min_df=5, max_df=0.6),
    "count_named": lambda: CountVectorizer(vocabulary=["pump", "valve", "überhitzt", "hot"]),
    "count_pattern_letters": lambda: CountVectorizer(token_pattern=r"[^\W\d_]+"),
    "count_pattern_all": lambda: CountVectorizer(token_pattern=r"\S+"),
    "count_pattern_plain": lambda: CountVectorizer(token_pattern=r"\b\w\w+\b"),
    "count_pattern_python": lambda: CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
    "count_pattern_dashes": lambda: CountVectorizer(token_pattern=r"[a-z]+(?:-[a-z]+)*|[0-9]+(?:[.,][0-9]+)?"),
    "count_pairs_alone": lambda: CountVectorizer(ngram_range=(2, 2)),
    "count_pairs_traced": lambda: TraceableCountVectorizer(ngram_range=(2, 2)),
    "tfidf": TfidfVectorizer,
    "tfidf_triples": lambda: TfidfVectorizer(ngram_range=(1, 3)),
    "tfidf_triples_traced": lambda: TraceableTfidfVectorizer(ngram_range=(1, 3)),
    "tfidf_stop_words_english": lambda: TfidfVectorizer(stop_words="english"),
    "tfidf_sublinear": lambda: TfidfVectorizer(sublinear_tf=True),
    "tfidf_l1": lambda: TfidfVectorizer(norm="l1"),
    "tfidf_no_norm": lambda: TfidfVectorizer(norm=None),
    "tfidf_no_idf": lambda: TfidfVectorizer(use_idf=False),
    "tfidf_letters": lambda: TfidfVectorizer(analyzer="char", ngram_range=(1, 2)),
    "tfidf_steps": lambda: make_pipeline(CountVectorizer(), TfidfTransformer()),
    "tfidf_svd": lambda: make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0)),
    "hashed": lambda: HashingVectorizer(n_features=64),
}
SEPARATORS = [" ", "[.]", "\\?", ",", ";", ":", "!", "\\(", "\\)", "\n", "\\\"", "'", "-", "\\[", "\\]", "@"]
CLASSIFIERS = {
    "bernoulli": BernoulliNB,
    "boosting": lambda: GradientBoostingClassifier(n_estimators=8, random_state=0),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=3),
    "complement": ComplementNB,
    "extra_trees": lambda: ExtraTreesClassifier(8, random_state=0),
    "forest": lambda: RandomForestClassifier(8, random_state=0),
    "linear_svc": LinearSVC,
    "logreg": LogisticRegression,
    "mlp": lambda: MLPClassifier((8,), max_iter=40, random_state=0),
    "multinomial": MultinomialNB,
    "one_vs_rest": lambda: OneVsRestClassifier(LogisticRegression()),
    "passive_aggressive": lambda: PassiveAggressiveClassifier(random_state=0),
    "perceptron": lambda: Perceptron(random_state=0),
    "ridge": RidgeClassifier,
    "sgd": lambda: SGDClassifier(random_state=0),
    "sgd_log": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "tree": lambda: DecisionTreeClassifier(max_depth=6, random_state=0),
}


def few():
    return TfidfVectorizer(max_features=40)


def models():
    made = {f"reports_{name}": text(model) for name, model in VECTORISERS.items()}
    made |= {f"reports_{name}_words": classified(model, LEVELS) for name, model in CLASSIFIERS.items()}
    made |= {f"reports_{name}": classified(model) for name, model in CLASSIFIERS.items()}
    for tag in ("12", "15", "21"):
        made[f"reports_count_opset{tag}"] = text(CountVectorizer, opset=OPSETS[tag])
        made[f"reports_logreg_opset{tag}"] = classified(LogisticRegression, opset=OPSETS[tag])
    made |= {
        "reports_column": classified(LogisticRegression, column=True),
        "reports_separators": text(CountVectorizer, separators=SEPARATORS),
        "reports_tokenexp": text(TfidfVectorizer, tokenexp="[a-zA-Zäöüß0-9]+"),
        "reports_kept_empty": text(CountVectorizer, keep_empty_string=True),
        "reports_nan": text(TfidfVectorizer, nan=True),
        "reports_scaled": text(lambda: make_pipeline(CountVectorizer(), MaxAbsScaler(), LogisticRegression())),
        "reports_picked": text(lambda: make_pipeline(TfidfVectorizer(), SelectKBest(chi2, k=20), MultinomialNB())),
        "reports_union": text(lambda: make_pipeline(union(), LogisticRegression())),
        "reports_ridge_number": text(lambda: make_pipeline(TfidfVectorizer(), Ridge()), labels=np.array([len(text) for text in TEXTS], float)),
        "reports_svd_logreg": text(lambda: make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0), LogisticRegression())),
        "reports_table": table(texts_and_numbers, LogisticRegression),
        "reports_table_forest": table(texts_and_numbers, lambda: RandomForestClassifier(8, random_state=0)),
        "reports_table_svc": table(lambda: [("r", TfidfVectorizer(), "report"), ("x", StandardScaler(), ["heat", "flow"])], SGDClassifier),
        "reports_old": text(few, is_old=True),
        "reports_old_logreg": text(lambda: make_pipeline(few(), LogisticRegression()), is_old=True),
        "reports_old_table": table(lambda: [("r", few(), "report"), ("x", StandardScaler(), ["heat", "flow"])], LogisticRegression, is_old=True),
        "reports_table_one": table(lambda: [("r", CountVectorizer(binary=True), "report")], BernoulliNB),
    }
    return made
