"""XGBoost's and LightGBM's models, exported by onnxmltools."""
import lightgbm
import numpy as np
import xgboost
from estimators import load
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import DoubleTensorType, FloatTensorType
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as lightgbm_operator
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as xgboost_operator
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OPSET = 15


def xgb(model, x, y, opset=OPSET, **more):
    fitted = model.fit(x, y, **more)
    return convert_xgboost(fitted, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], target_opset=opset), {"x": x}


def lgb(model, x, y, opset=OPSET, zipmap=False, kind=FloatTensorType, **more):
    fitted = model.fit(x, y, **more)
    types = [("x", kind([None, x.shape[1]]))]
    plain = convert_lightgbm(fitted, initial_types=types, target_opset=opset, zipmap=False)
    return (convert_lightgbm(fitted, initial_types=types, target_opset=opset), {"x": x}, plain) if zipmap else (plain, {"x": x})


def holed(data):
    x, y = load(data)
    x[np.random.default_rng(5).random(x.shape) < 0.15] = np.nan
    return x, y


def categories():
    """Two columns of numbers and two of categories that carry the answer."""
    draw = np.random.default_rng(6)
    x = np.column_stack([draw.normal(size=(500, 2)), draw.integers(0, 6, 500), draw.integers(0, 40, 500)]).astype(np.float32)
    return x, (x[:, 0] + np.isin(x[:, 2], (1, 4)) + np.isin(x[:, 3], (3, 7, 11, 30)) > 0.7).astype(int)


def ranked(export, model):
    def make():
        x, y = load("diabetes")
        return export(model(), x, np.digitize(y, (90, 160, 230)), group=[42] * 10 + [22])
    return make


def of(export, model, data, **more):
    def make():
        x, y = data() if callable(data) else load(data)
        return export(model(), x, y, **more)
    return make


def column(data, positive):
    def make():
        x, y = load(data)
        return x, np.abs(y) / 100 if positive else y
    return make


def flipped():
    x, y = load("breast_cancer")
    return x[:60], y[:60]


def booster(params, data="breast_cancer"):
    """XGBoost's own interface, without scikit-learn's."""
    def make():
        x, y = load(data)
        fitted = xgboost.train(params | {"max_depth": 3, "seed": 0}, xgboost.DMatrix(x, y), num_boost_round=10)
        return convert_xgboost(fitted, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], target_opset=OPSET), {"x": x}
    return make


def native(params, data):
    """LightGBM's own interface."""
    def make():
        x, y = load(data)
        fitted = lightgbm.train(params | {"verbose": -1, "seed": 0}, lightgbm.Dataset(x, y), num_boost_round=10)
        types = [("x", FloatTensorType([None, x.shape[1]]))]
        return convert_lightgbm(fitted, initial_types=types, target_opset=OPSET, zipmap=False), {"x": x}
    return make


def in_pipeline(model, operator, alias, classifier=True, data="wine", holes=False):
    """A boosted model as the last step of scikit-learn's pipeline."""
    def make():
        shape = calculate_linear_classifier_output_shapes if classifier else calculate_linear_regressor_output_shapes
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]} if classifier else None
        update_registered_converter(type(model()), alias, shape, operator, options=options)
        x, y = holed(data) if holes else load(data)
        pipe = make_pipeline(SimpleImputer(), StandardScaler(), model()).fit(x, y)
        plain = {id(pipe): {"zipmap": False}} if classifier else None
        made = to_onnx(pipe, x[:1], target_opset={"": OPSET, "ai.onnx.ml": 2}, options=plain)
        return made, {"X": x}
    return make


def xgboost_models():
    small = dict(n_estimators=15, max_depth=3, random_state=0)
    classifier = lambda **more: lambda: xgboost.XGBClassifier(**small | more)
    regressor = lambda **more: lambda: xgboost.XGBRegressor(**small | more)
    return {
        "xgb_binary": of(xgb, classifier(), "breast_cancer"),
        "xgb_binary_base": of(xgb, classifier(base_score=0.3), "breast_cancer"),
        "xgb_binary_deep": of(xgb, classifier(max_depth=9), "breast_cancer"),
        "xgb_binary_few": of(xgb, classifier(n_estimators=1), flipped),
        "xgb_binary_hinge": of(xgb, classifier(objective="binary:hinge"), "breast_cancer"),
        "xgb_binary_lossguide": of(xgb, classifier(grow_policy="lossguide", max_leaves=6), "breast_cancer"),
        "xgb_binary_missing": of(xgb, classifier(), lambda: holed("breast_cancer")),
        "xgb_binary_opset12": of(xgb, classifier(), "breast_cancer", opset=12),
        "xgb_binary_weighted": of(xgb, classifier(scale_pos_weight=3.0), "breast_cancer"),
        "xgb_multi": of(xgb, classifier(), "wine"),
        "xgb_multi_digits": of(xgb, classifier(n_estimators=8), "digits"),
        "xgb_multi_missing": of(xgb, classifier(), lambda: holed("wine")),
        "xgb_multi_softmax": of(xgb, classifier(objective="multi:softmax"), "iris"),
        "xgb_dart": of(xgb, classifier(booster="dart", rate_drop=0.2), "breast_cancer"),
        "xgb_linear": of(xgb, classifier(booster="gblinear", max_depth=None), "breast_cancer"),
        "xgb_forest_classifier": of(xgb, lambda: xgboost.XGBRFClassifier(**small), "breast_cancer"),
        "xgb_forest_multi": of(xgb, lambda: xgboost.XGBRFClassifier(**small), "wine"),
        "xgb_forest_regressor": of(xgb, lambda: xgboost.XGBRFRegressor(**small), "diabetes"),
        "xgb_regressor": of(xgb, regressor(), "diabetes"),
        "xgb_regressor_base": of(xgb, regressor(base_score=100.0), "diabetes"),
        "xgb_regressor_missing": of(xgb, regressor(), lambda: holed("diabetes")),
        "xgb_regressor_absolute": of(xgb, regressor(objective="reg:absoluteerror"), "diabetes"),
        "xgb_regressor_gamma": of(xgb, regressor(objective="reg:gamma"), column("diabetes", True)),
        "xgb_regressor_logistic": of(xgb, regressor(objective="reg:logistic"), "breast_cancer"),
        "xgb_regressor_poisson": of(xgb, regressor(objective="count:poisson"), column("diabetes", True)),
        "xgb_regressor_squared_log": of(xgb, regressor(objective="reg:squaredlogerror"), column("diabetes", True)),
        "xgb_regressor_tweedie": of(xgb, regressor(objective="reg:tweedie"), column("diabetes", True)),
        "xgb_ranker": ranked(xgb, lambda: xgboost.XGBRanker(**small)),
        "xgb_ranker_pairwise": ranked(xgb, lambda: xgboost.XGBRanker(objective="rank:pairwise", **small)),
        "xgb_booster_binary": booster({"objective": "binary:logistic"}),
        "xgb_booster_regressor": booster({"objective": "reg:squarederror"}, "diabetes"),
        "xgb_pipeline": in_pipeline(classifier(), xgboost_operator, "XGBoostXGBClassifier"),
        "xgb_pipeline_missing": in_pipeline(classifier(), xgboost_operator, "XGBoostXGBClassifier", holes=True),
        "xgb_pipeline_regressor": in_pipeline(regressor(), xgboost_operator, "XGBoostXGBRegressor", classifier=False, data="diabetes"),
    }


def lightgbm_models():
    small = dict(n_estimators=15, num_leaves=9, verbose=-1, random_state=0)
    classifier = lambda **more: lambda: lightgbm.LGBMClassifier(**small | more)
    regressor = lambda **more: lambda: lightgbm.LGBMRegressor(**small | more)
    return {
        "lgbm_binary": of(lgb, classifier(), "breast_cancer"),
        "lgbm_binary_zipmap": of(lgb, classifier(), "breast_cancer", zipmap=True),
        "lgbm_binary_missing": of(lgb, classifier(), lambda: holed("breast_cancer")),
        "lgbm_binary_zero_missing": of(lgb, classifier(zero_as_missing=True), lambda: holed("breast_cancer")),
        "lgbm_binary_no_missing": of(lgb, classifier(use_missing=False), "breast_cancer"),
        "lgbm_binary_opset12": of(lgb, classifier(), "breast_cancer", opset=12),
        "lgbm_binary_float64": of(lgb, classifier(), lambda: load("breast_cancer", np.float64), kind=DoubleTensorType),
        "lgbm_categories": of(lgb, classifier(min_child_samples=5, cat_smooth=1.0), categories, categorical_feature=[2, 3]),
        "lgbm_dart": of(lgb, classifier(boosting_type="dart"), "breast_cancer"),
        "lgbm_forest": of(lgb, classifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7), "breast_cancer"),
        "lgbm_multi": of(lgb, classifier(), "wine"),
        "lgbm_multi_zipmap": of(lgb, classifier(), "wine", zipmap=True),
        "lgbm_multi_digits": of(lgb, classifier(n_estimators=6), "digits"),
        "lgbm_multi_each": of(lgb, classifier(objective="multiclassova"), "wine"),
        "lgbm_multi_missing": of(lgb, classifier(), lambda: holed("wine")),
        "lgbm_words": of(lgb, classifier(), lambda: load("wine", words=True)),
        "lgbm_regressor": of(lgb, regressor(), "diabetes"),
        "lgbm_regressor_missing": of(lgb, regressor(), lambda: holed("diabetes")),
        "lgbm_regressor_l1": of(lgb, regressor(objective="regression_l1"), "diabetes"),
        "lgbm_regressor_poisson": of(lgb, regressor(objective="poisson"), column("diabetes", True)),
        "lgbm_regressor_tweedie": of(lgb, regressor(objective="tweedie"), column("diabetes", True)),
        "lgbm_regressor_gamma": of(lgb, regressor(objective="gamma"), column("diabetes", True)),
        "lgbm_regressor_quantile": of(lgb, regressor(objective="quantile", alpha=0.9), "diabetes"),
        "lgbm_regressor_categories": of(lgb, regressor(min_child_samples=5), categories, categorical_feature=[2, 3]),
        "lgbm_ranker": ranked(lgb, lambda: lightgbm.LGBMRanker(**small)),
        "lgbm_booster_binary": native({"objective": "binary"}, "breast_cancer"),
        "lgbm_booster_multi": native({"objective": "multiclass", "num_class": 3}, "wine"),
        "lgbm_booster_regressor": native({"objective": "regression"}, "diabetes"),
        "lgbm_pipeline": in_pipeline(classifier(), lightgbm_operator, "LightGbmLGBMClassifier"),
        "lgbm_pipeline_regressor": in_pipeline(regressor(), lightgbm_operator, "LightGbmLGBMRegressor", classifier=False, data="diabetes"),
    }


def models():
    return xgboost_models() | lightgbm_models()
