"""Writes the project's own zoo: models as data scientists export them, each in ONNX's test layout, with onnxruntime's answers.

    python -m venv VENV && VENV/bin/pip install -r tests/zoo/requirements.txt
    VENV/bin/python tests/zoo/make.py OUT [NAME ...]      all of it, or the models whose names begin with a NAME
    tern model test OUT                                   the engine's answers beside them: a line per model

    OUT/<name>/model.onnx
    OUT/<name>/test_data_set_{0,1,2}/{input_i,output_i}.pb

Set 0 is one row of the data, set 1 has 64, set 2 has 7 rows that no model was fitted on (between two of its rows). The
data come with scikit-learn or from a fixed seed; nothing is fetched. A model with a ZipMap keeps it in the file, and its
expected probabilities are the plain [rows, classes] tensor. What cannot be exported is told, line by line: the exit code
is 1 unless it stands in `CANNOT`, and also when something that stands there could be exported after all.

`estimators` has scikit-learn's models, `tables` its transformers and tables, `texts` models of texts, `boosting` XGBoost and
LightGBM, `nets` small neural networks and their quantised forms.
"""
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import boosting
import estimators
import nets
import tables
import texts

# What these versions of the libraries do not export, or not so that onnxruntime takes it, and why.
DOUBLE_TREES = "skl2onnx declares a double answer of a TreeEnsemble, which gives float: onnxruntime refuses the file"
CANNOT = {
    "binarizer_int64": "skl2onnx refuses whole numbers",
    "dict_vectorizer": "its input is a map, for which a test data set has no file",
    "forest_diabetes_float64": DOUBLE_TREES,
    "gp_breast_cancer": "skl2onnx writes com.microsoft.Solve, which onnxruntime does not have",
    "gp_diabetes_deviation": "skl2onnx takes no NumPy scalar, which its own converter makes",
    "gp_wine": "skl2onnx has two classes only",
    "gp_words": "skl2onnx has two classes only",
    "gradient_boosting_diabetes_float64": DOUBLE_TREES,
    "gradient_boosting_float64": DOUBLE_TREES,
    "gradient_boosting_zero_wine": "onnxruntime refuses the base values that skl2onnx writes for init='zero'",
    "gradient_boosting_zero_words": "onnxruntime refuses the base values that skl2onnx writes for init='zero'",
    "imputer_float64": "onnxruntime has no Imputer for double",
    "imputer_int64": "skl2onnx refuses to replace a whole number",
    "kbins_ordinal_float64": "skl2onnx mixes float and double: onnxruntime refuses the file",
    "label_binarizer_words": "skl2onnx compares words with Equal of opset 18, which has none: onnxruntime refuses the file",
    "lgbm_binary_float64": "onnxmltools takes no double for LightGBM",
    "linear_svc_float64": "skl2onnx has it for float only",
    "missing_indicator": "skl2onnx has no converter",
    "one_vs_one_words": "skl2onnx declares the words as whole numbers: onnxruntime refuses the file",
    "onehot_rare": "skl2onnx has no infrequent categories",
    "polynomial_float64": "skl2onnx mixes float and double: onnxruntime refuses the file",
    "power_yeo_johnson_float64": "skl2onnx mixes float and double",
    "quantile_normal_iris": "skl2onnx has the uniform distribution only",
    "radius_neighbours_breast_cancer": "onnxruntime stops at an index out of range in the file that skl2onnx writes",
    "radius_neighbours_wine": "onnxruntime stops at an index out of range in the file that skl2onnx writes",
    "radius_neighbours_words": "onnxruntime stops at an index out of range in the file that skl2onnx writes",
    "reports_count_accents": "skl2onnx takes no accents off",
    "reports_count_letters_words": "skl2onnx has no letters within words (char_wb)",
    "reports_count_pattern_python": "skl2onnx writes the pattern as it is, and onnxruntime's RE2 has no (?u)",
    "reports_hashed": "skl2onnx has no HashingVectorizer",
    "spline_iris": "skl2onnx has no converter",
    "svr_diabetes_float64": "onnxruntime has no SVMRegressor for double",
    "tree_diabetes_float64": DOUBLE_TREES,
    "tree_float64": DOUBLE_TREES,
    "xgb_dart": "onnxmltools has trees of the booster gbtree only",
    "xgb_linear": "onnxmltools has trees of the booster gbtree only",
    "xgb_ranker": "onnxmltools has no converter",
    "xgb_ranker_pairwise": "onnxmltools has no converter",
}


def between(values, draw):
    """Rows between rows, nearer to the first, so that no two are equally near; for whole numbers and words, rows again."""
    first, second = draw.permutation(len(values))[:7], draw.permutation(len(values))[:7]
    if values.dtype.kind == "f":
        return ((2 * values[first] + values[second]) / 3).astype(values.dtype)
    return values[first]


def cases(feed):
    """The data sets of a model: its own list, or rows drawn from the data that it was fitted on."""
    if isinstance(feed, list):
        return feed
    draw = np.random.default_rng(7)
    rows = min(len(values) for values in feed.values())
    picks = [draw.choice(rows, size=count, replace=False) for count in (1, min(64, rows))]
    drawn = [{name: values[pick] for name, values in feed.items()} for pick in picks]
    return [*drawn, {name: between(values, np.random.default_rng(8)) for name, values in feed.items()}]


def tensor(value, name):
    value = np.asarray(value)
    value = value.astype(object) if value.dtype.kind in "UO" else value
    return numpy_helper.from_array(value, name).SerializeToString()


def write(folder, model, feed, reference=None):
    """Writes a model whose answers are those of `reference`, which is itself unless it ends in a ZipMap."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # With several threads, what DynamicQuantizeLSTM quantises together depends on how many there are.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession((reference or model).SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    files = {}
    for number, case in enumerate(cases(feed)):
        answers = zip(session.get_outputs(), session.run(None, case))
        files |= {f"test_data_set_{number}/input_{i}.pb": tensor(case[spec.name], spec.name)
                  for i, spec in enumerate(session.get_inputs())}
        files |= {f"test_data_set_{number}/output_{i}.pb": tensor(value, spec.name) for i, (spec, value) in enumerate(answers)}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def zoo():
    """Every model by name: a function that gives the model, what to feed it, and where needed the reference."""
    made = {}
    for family in (estimators, tables, texts, boosting, nets):
        for name, make in family.models().items():
            if name in made:
                raise ValueError(f"two models are named {name}")
            made[name] = make
    return made


def main(out, *wanted):
    warnings.filterwarnings("ignore")
    models = {name: make for name, make in zoo().items() if not wanted or name.startswith(wanted)}
    good, known, wrong = 0, 0, 0
    for name, make in models.items():
        try:
            write(pathlib.Path(out) / name, *make())
        except Exception as error:  # an exporter may raise anything; it is told, and decides the exit code
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            known, wrong = known + (name in CANNOT), wrong + (name not in CANNOT)
            print(f"cannot {name}: {CANNOT[name]}" if name in CANNOT else f"FAILED {name}: {reason}", flush=True)
            continue
        good += 1
        if name in CANNOT:
            wrong += 1
            print(f"FAILED {name}: stands in CANNOT, and can be exported", flush=True)
        else:
            print(f"made {name}", flush=True)
    print(f"{good} of {len(models)} made, {known} known not to be exported, {wrong} wrong")
    return 1 if wrong or not models else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
