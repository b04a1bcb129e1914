"""scikit-learn's transformers, tables of mixed columns, and texts, exported by skl2onnx."""
import numpy as np
import pandas as pd
from estimators import OPSET, OPSETS, export, load
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import (BooleanTensorType, DictionaryType, DoubleTensorType, FloatTensorType,
                                        Int64TensorType, StringTensorType)
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor, RandomTreesEmbedding
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, SelectPercentile, VarianceThreshold
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsTransformer, NeighborhoodComponentsAnalysis
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (Binarizer, FunctionTransformer, KBinsDiscretizer, LabelBinarizer, LabelEncoder, MaxAbsScaler,
                                   MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, PolynomialFeatures, PowerTransformer,
                                   QuantileTransformer, RobustScaler, SplineTransformer, StandardScaler, TargetEncoder)
from sklearn.random_projection import GaussianRandomProjection

TRANSFORMERS = {
    "binarizer": lambda: Binarizer(threshold=3.0),
    "feature_union": lambda: FeatureUnion([("p", PCA(2)), ("s", StandardScaler())]),
    "function_abs": lambda: FunctionTransformer(),
    "function_chain": lambda: make_pipeline(FunctionTransformer(), StandardScaler()),
    "gaussian_projection": lambda: GaussianRandomProjection(3, random_state=0),
    "incremental_pca": lambda: IncrementalPCA(3),
    "kbins_onehot": lambda: KBinsDiscretizer(4, encode="onehot-dense"),
    "kbins_ordinal": lambda: KBinsDiscretizer(5, encode="ordinal", strategy="uniform"),
    "kbins_kmeans": lambda: KBinsDiscretizer(3, encode="onehot-dense", strategy="kmeans", random_state=0),
    "kernel_pca": lambda: KernelPCA(3, kernel="rbf", gamma=0.1),
    "knn_distances": lambda: KNeighborsTransformer(n_neighbors=3, mode="distance"),
    "max_abs": MaxAbsScaler,
    "min_max": MinMaxScaler,
    "min_max_clip": lambda: MinMaxScaler((-1, 1), clip=True),
    "nca": lambda: NeighborhoodComponentsAnalysis(2, random_state=0, max_iter=20),
    "normalizer_l1": lambda: Normalizer("l1"),
    "normalizer_max": lambda: Normalizer("max"),
    "pca_whiten": lambda: PCA(3, whiten=True),
    "polynomial": lambda: PolynomialFeatures(3),
    "polynomial_interactions": lambda: PolynomialFeatures(2, interaction_only=True, include_bias=False),
    "power_box_cox": lambda: PowerTransformer("box-cox"),
    "power_yeo_johnson": PowerTransformer,
    "quantile_normal": lambda: QuantileTransformer(n_quantiles=20, output_distribution="normal"),
    "quantile_uniform": lambda: QuantileTransformer(n_quantiles=20),
    "random_trees_embedding": lambda: RandomTreesEmbedding(5, max_depth=3, random_state=0, sparse_output=False),
    "rfe": lambda: RFE(LogisticRegression(max_iter=500), n_features_to_select=2),
    "robust": RobustScaler,
    "robust_uncentred": lambda: RobustScaler(with_centering=False),
    "select_from_model": lambda: SelectFromModel(RandomForestClassifier(5, random_state=0)),
    "select_k": lambda: SelectKBest(k=2),
    "select_percentile": lambda: SelectPercentile(percentile=50),
    "spline": lambda: SplineTransformer(),
    "standard_unscaled": lambda: StandardScaler(with_std=False),
    "standard_uncentred": lambda: StandardScaler(with_mean=False),
    "truncated_svd": lambda: TruncatedSVD(3, random_state=0),
    "variance_threshold": lambda: VarianceThreshold(0.3),
}
TEXTS = np.array([["the pump is hot"], ["valve stuck again, valve 7"], ["pump ok"], ["ok"], ["hot hot valve"], ["again the motor stalls"],
                  ["motor ok, pump ok"], ["nothing"], ["the valve is ok now"], ["pump stalls when hot"]], dtype=object)
STATES, SITES = ["ok", "warn", "fault"], ["north", "süd", "east", "west"]


def fit(model, dtype=np.float32, opset=None, data="iris"):
    def make():
        x, y = load(data, dtype)
        return export(model().fit(x, y), x, opset), {"X": x}
    return make


def imputer(dtype=np.float32, missing=np.nan, **options):
    def make():
        x = load("iris", dtype)[0]
        holes = np.random.default_rng(1).random(x.shape) < 0.2
        x[holes] = missing
        return export(SimpleImputer(missing_values=missing, **options).fit(x), x), {"X": x}
    return make


def holed(model):
    def make():
        x, y = load("iris")
        x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
        return export(model().fit(x, y), x), {"X": x}
    return make


def words(*names, rows=90, seed=0):
    draw = np.random.default_rng(seed)
    return np.stack([draw.choice(each, size=rows) for each in names], axis=1).astype(object)


def encoder(model, x, kind, unseen=None, shape=2):
    """An encoder of words or whole numbers; `unseen` takes the place of some values after it was fitted."""
    def make():
        fitted = model().fit(x if shape == 2 else x.ravel())
        fed = x.copy()
        if unseen is not None:
            fed[::5] = unseen
        return convert_sklearn(fitted, initial_types=[("X", kind([None, x.shape[1]]))], target_opset=OPSET), {"X": fed}
    return make


def text(model, classify=False, opset=None, shape=1):
    """A model of texts; the locale is named, for the one that skl2onnx writes is not on every machine."""
    def make():
        y = np.array([1, 1, 0, 0, 1, 1, 0, 0, 0, 1])
        pipe = make_pipeline(model(), LogisticRegression()) if classify else model()
        pipe.fit(TEXTS.ravel(), y)
        words = pipe.steps[0][1] if classify else pipe
        options = {id(words): {"locale": "C"}} | ({id(pipe): {"zipmap": False}} if classify else {})
        dims = [None, 1] if shape == 2 else [None]
        made = convert_sklearn(pipe, initial_types=[("X", StringTensorType(dims))], target_opset=opset or OPSET, options=options)
        return made, {"X": TEXTS if shape == 2 else TEXTS.ravel()}
    return make


def frame():
    """A table as people have it: numbers with holes, whole numbers, a switch, words of two kinds."""
    draw, rows = np.random.default_rng(3), 300
    numbers = draw.normal(size=(rows, 3)).astype(np.float32)
    numbers[draw.random((rows, 3)) < 0.05] = np.nan
    table = pd.DataFrame(numbers, columns=["heat", "flow", "noise"])
    table["age"] = draw.integers(0, 9, rows)
    table["on"] = draw.random(rows) < 0.5
    table[["state", "site"]] = words(STATES, SITES, rows=rows, seed=4)
    table.loc[draw.random(rows) < 0.05, "site"] = ""
    label = (np.nan_to_num(numbers[:, 0]) + (table["state"] == "fault") + table["age"] / 9 > 0.8).astype(int)
    return table, label.to_numpy()


def typed(table):
    """Declares one input for each column of a table, and feeds them."""
    kinds = {"f": FloatTensorType, "i": Int64TensorType, "b": BooleanTensorType, "O": StringTensorType}
    feed = {}
    for name in table.columns:
        column = table[name].to_numpy()
        feed[name] = column.reshape(-1, 1) if column.dtype.kind in "fib" else column.astype(object).reshape(-1, 1)
    return [(name, kinds[column.dtype.kind]([None, 1])) for name, column in feed.items()], feed


def mixed(last, columns, transformers, label=None, opset=None, zipmap=False):
    def make():
        table, y = frame()
        table = table[columns]
        y = y if label is None else np.array(label)[y]
        pipe = make_pipeline(ColumnTransformer(transformers(), remainder="drop"), last()).fit(table, y)
        types, feed = typed(table)

        def convert(zipmap):
            options = {id(pipe): {"zipmap": zipmap}} if hasattr(pipe, "predict_proba") else None
            return convert_sklearn(pipe, initial_types=types, target_opset=opset or OPSET, options=options)
        return (convert(True), feed, convert(False)) if zipmap else (convert(False), feed)
    return make


def numbers_and_words():
    return [("n", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["heat", "flow", "noise"]),
            ("w", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["state", "site"])]


def everything():
    return [("n", make_pipeline(SimpleImputer(), MinMaxScaler()), ["heat", "flow"]),
            ("a", KBinsDiscretizer(3, encode="onehot-dense"), ["age"]),
            ("s", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["state"]),
            ("w", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["site"])]


def passed():
    return [("n", SimpleImputer(add_indicator=False), ["heat", "flow", "noise"]), ("a", "passthrough", ["age"])]


def dictionaries():
    rows = [{"heat": 1.0, "flow": 2.0}, {"heat": 3.0}, {"noise": 4.0, "flow": 0.5}]
    fitted = DictVectorizer(sparse=False).fit(rows)
    types = [("X", DictionaryType(StringTensorType([1]), FloatTensorType([1])))]
    return convert_sklearn(fitted, initial_types=types, target_opset=OPSET), [{"X": row} for row in rows]


def hashed():
    fitted = FeatureHasher(8, input_type="string").fit(words(STATES))
    return convert_sklearn(fitted, initial_types=[("X", StringTensorType([None, 1]))], target_opset=OPSET), {"X": words(STATES)}


def mixed_models():
    three, all_columns = ["heat", "flow", "noise", "state", "site"], ["heat", "flow", "age", "state", "site"]
    forest = lambda: RandomForestClassifier(8, max_depth=5, random_state=0)
    logreg = lambda: LogisticRegression(max_iter=500)
    return {
        "mixed_logreg": mixed(logreg, three, numbers_and_words),
        "mixed_logreg_words": mixed(logreg, three, numbers_and_words, label=["fine", "broken"]),
        "mixed_logreg_zipmap": mixed(logreg, three, numbers_and_words, zipmap=True),
        "mixed_logreg_zipmap_words": mixed(logreg, three, numbers_and_words, label=["fine", "broken"], zipmap=True),
        "mixed_logreg_opset12": mixed(logreg, three, numbers_and_words, opset=OPSETS["12"]),
        "mixed_logreg_opset21": mixed(logreg, three, numbers_and_words, opset=OPSETS["21"]),
        "mixed_forest": mixed(forest, all_columns, everything),
        "mixed_forest_words": mixed(forest, all_columns, everything, label=["fine", "broken"]),
        "mixed_boosting": mixed(lambda: GradientBoostingClassifier(n_estimators=10, random_state=0), three, numbers_and_words),
        "mixed_ridge": mixed(Ridge, all_columns, everything),
        "mixed_forest_regressor": mixed(lambda: RandomForestRegressor(6, max_depth=4, random_state=0), three, numbers_and_words),
        "mixed_passthrough": mixed(logreg, ["heat", "flow", "noise", "age"], passed),
        "mixed_switch": mixed(logreg, ["on", "age"], lambda: [("a", "passthrough", ["on", "age"])]),
        "mixed_words_imputed": mixed(logreg, ["state", "site"], lambda: [
            ("w", make_pipeline(SimpleImputer(missing_values="", strategy="most_frequent"),
                                OneHotEncoder(handle_unknown="ignore", sparse_output=False)), ["state", "site"])]),
        "mixed_words_target": mixed(logreg, ["state", "site"], lambda: [("w", TargetEncoder(random_state=0), ["state", "site"])]),
    }


def models():
    made = {f"{name}_iris": fit(model) for name, model in TRANSFORMERS.items()}
    for name in ("kbins_ordinal", "pca_whiten", "polynomial", "power_yeo_johnson", "robust", "quantile_uniform", "normalizer_l1"):
        made[f"{name}_float64"] = fit(TRANSFORMERS[name], np.float64)
        made |= {f"{name}_opset{tag}": fit(TRANSFORMERS[name], opset=OPSETS[tag]) for tag in ("12", "21")}
    for name in ("min_max", "standard_uncentred", "max_abs", "binarizer", "normalizer_max", "polynomial_interactions"):
        made[f"{name}_int64"] = fit(TRANSFORMERS[name], np.int64)
    made |= {f"imputer_{how}": imputer(strategy=how) for how in ("mean", "median", "most_frequent")}
    made["imputer_constant"] = imputer(strategy="constant", fill_value=-1.5)
    made["imputer_constant_default"] = imputer(strategy="constant")
    made["imputer_zero"] = imputer(missing=0.0, strategy="mean")
    made["imputer_float64"] = imputer(np.float64)
    made["imputer_int64"] = imputer(np.int64, missing=-1, strategy="most_frequent")
    made["imputer_indicator"] = imputer(add_indicator=True)
    made["imputer_knn"] = holed(lambda: KNNImputer(n_neighbors=3))
    made["missing_indicator"] = holed(lambda: MissingIndicator(features="all"))
    made["imputer_tree"] = holed(lambda: make_pipeline(SimpleImputer(), RandomForestClassifier(5, random_state=0)))
    table, ints = words(STATES, SITES), np.random.default_rng(2).integers(0, 4, size=(90, 3))
    dense = dict(sparse_output=False)
    made |= {
        "onehot_words": encoder(lambda: OneHotEncoder(**dense), table, StringTensorType),
        "onehot_words_unknown": encoder(lambda: OneHotEncoder(handle_unknown="ignore", **dense), table, StringTensorType, unseen="mars"),
        "onehot_words_first": encoder(lambda: OneHotEncoder(drop="first", **dense), table, StringTensorType),
        "onehot_ints": encoder(lambda: OneHotEncoder(**dense), ints, Int64TensorType),
        "onehot_ints_unknown": encoder(lambda: OneHotEncoder(handle_unknown="ignore", **dense), ints, Int64TensorType, unseen=77),
        "onehot_ints_two": encoder(lambda: OneHotEncoder(drop="if_binary", **dense), ints % 2, Int64TensorType),
        "onehot_floats": encoder(lambda: OneHotEncoder(**dense), ints.astype(np.float32), FloatTensorType),
        "onehot_rare": encoder(lambda: OneHotEncoder(min_frequency=25, **dense), table, StringTensorType),
        "onehot_sparse": encoder(OneHotEncoder, table, StringTensorType),
        "ordinal_words": encoder(OrdinalEncoder, table, StringTensorType),
        "ordinal_words_unknown": encoder(lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), table,
                                         StringTensorType, unseen="mars"),
        "ordinal_words_nan": encoder(lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), table,
                                     StringTensorType, unseen="mars"),
        "ordinal_ints": encoder(OrdinalEncoder, ints, Int64TensorType),
        "ordinal_float64": encoder(OrdinalEncoder, ints.astype(np.float64), DoubleTensorType),
        "label_words": encoder(LabelEncoder, table[:, :1], StringTensorType, shape=1),
        "label_ints": encoder(LabelEncoder, ints[:, :1] * 10, Int64TensorType, shape=1),
        "label_binarizer": encoder(LabelBinarizer, ints[:, :1], Int64TensorType, shape=1),
        "label_binarizer_words": encoder(LabelBinarizer, table[:, :1], StringTensorType, shape=1),
        "dict_vectorizer": dictionaries,
        "feature_hasher": hashed,
        "text_count": text(CountVectorizer),
        "text_count_column": text(CountVectorizer, shape=2),
        "text_count_binary": text(lambda: CountVectorizer(binary=True)),
        "text_tfidf": text(TfidfVectorizer),
        "text_tfidf_pairs": text(lambda: TfidfVectorizer(ngram_range=(1, 2), norm="l1")),
        "text_tfidf_opset12": text(TfidfVectorizer, opset=OPSETS["12"]),
        "text_tfidf_letters": text(lambda: TfidfVectorizer(analyzer="char", ngram_range=(2, 2))),
        "text_tfidf_pattern": text(lambda: TfidfVectorizer(token_pattern="[a-z]+")),
        "text_tfidf_stop_words": text(lambda: TfidfVectorizer(stop_words=["the", "is"])),
        "text_tfidf_logreg": text(lambda: TfidfVectorizer(sublinear_tf=True), classify=True),
        "counts_tfidf": fit(lambda: make_pipeline(TfidfTransformer(), MultinomialNB()), data="digits"),
    }
    return made | mixed_models()
