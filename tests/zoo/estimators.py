"""scikit-learn's classifiers, regressors, clusters and detectors, exported by skl2onnx in the ways that people use."""
import numpy as np
from skl2onnx import to_onnx
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (AdaBoostClassifier, AdaBoostRegressor, BaggingClassifier, BaggingRegressor,
                              ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier,
                              GradientBoostingRegressor, HistGradientBoostingClassifier,
                              HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier,
                              RandomForestRegressor, StackingClassifier, StackingRegressor, VotingClassifier,
                              VotingRegressor)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import (ARDRegression, BayesianRidge, ElasticNet, GammaRegressor, HuberRegressor, Lars,
                                  LinearRegression, LogisticRegression, LogisticRegressionCV, MultiTaskLasso,
                                  PassiveAggressiveClassifier, Perceptron, PoissonRegressor, QuantileRegressor,
                                  RANSACRegressor, Ridge, RidgeClassifier, SGDClassifier, SGDOneClassSVM, SGDRegressor,
                                  TheilSenRegressor, TweedieRegressor)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import (KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor, NearestNeighbors,
                               RadiusNeighborsClassifier, RadiusNeighborsRegressor)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

OPSET = {"": 18, "ai.onnx.ml": 3}
NAMES = {"wine": ["barolo", "grignolino", "barbera"], "iris": ["setosa", "versicolor", "virginica"],
         "breast_cancer": ["malignant", "benign"], "digits": ["naught", *"123456789"]}


def load(name, dtype=np.float32, words=False):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(dtype), np.array(NAMES[name])[y] if words else y


def export(model, x, opset=None, **options):
    """A model as skl2onnx writes it; probabilities are a plain tensor unless `zipmap` says otherwise."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if isinstance(last, LinearSVC):
        options.pop("zipmap", None)  # it has no such option, and a pipeline asks for it unless the step itself is named
        return to_onnx(model, x[:1], target_opset=opset or OPSET, options={id(last): {"raw_scores": False} | options})
    for tried in ({"zipmap": False} | options, options):
        try:
            return to_onnx(model, x[:1], target_opset=opset or OPSET, options={id(model): tried} if tried else None)
        except NameError as error:  # models without classes do not know the option
            if "'zipmap'" not in str(error) or tried is options:
                raise


def fit(model, data, dtype=np.float32, words=False, opset=None, **options):
    """A recipe: the model fitted on a bundled data set and exported for inputs of `dtype`."""
    def make():
        x, y = load(data, dtype, words)
        fitted = model().fit(x, y)
        made = export(fitted, x, opset, **options)
        if options.get("zipmap") is True:
            return made, {"X": x}, export(fitted, x, opset, **options | {"zipmap": False})
        return made, {"X": x}
    return make


def scaled(model):
    return lambda: make_pipeline(StandardScaler(), model())


def forest(trees=20, **more):
    return lambda: RandomForestClassifier(trees, random_state=0, **more)


CLASSIFIERS = {
    "adaboost": lambda: AdaBoostClassifier(n_estimators=12, random_state=0, algorithm="SAMME"),
    "bagging": lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=5), n_estimators=6, random_state=0),
    "bagging_logreg": lambda: BaggingClassifier(LogisticRegression(max_iter=300), n_estimators=4, max_features=0.7, random_state=0),
    "calibrated_isotonic": lambda: CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=3),
    "calibrated_sigmoid": lambda: CalibratedClassifierCV(LinearSVC(random_state=0, max_iter=3000), cv=3),
    "extra_tree": lambda: ExtraTreeClassifier(random_state=0),
    "extra_trees": lambda: ExtraTreesClassifier(30, random_state=0),
    "forest": forest(),
    "forest_stumps": forest(40, max_depth=1),
    "gp": lambda: GaussianProcessClassifier(RBF(20.0), random_state=0),
    "gradient_boosting": lambda: GradientBoostingClassifier(n_estimators=15, random_state=0),
    "gradient_boosting_zero": lambda: GradientBoostingClassifier(n_estimators=15, init="zero", random_state=0),
    "grid_search": lambda: GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [2, 4]}, cv=3),
    "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(max_iter=15, random_state=0),
    "knn": lambda: KNeighborsClassifier(3),
    "knn_distance": lambda: KNeighborsClassifier(5, weights="distance"),
    "knn_manhattan": lambda: KNeighborsClassifier(4, metric="manhattan", algorithm="brute"),
    "lda": scaled(LinearDiscriminantAnalysis),
    "linear_svc": scaled(lambda: LinearSVC(random_state=0, max_iter=5000)),
    "logreg": scaled(LogisticRegression),
    "logreg_cv": scaled(lambda: LogisticRegressionCV(cv=3, Cs=3)),
    "logreg_ovr": scaled(lambda: LogisticRegression(multi_class="ovr")),
    "mlp": scaled(lambda: MLPClassifier((16, 8), max_iter=80, random_state=0)),
    "mlp_tanh": scaled(lambda: MLPClassifier((12,), activation="tanh", max_iter=80, random_state=0)),
    "mlp_logistic": scaled(lambda: MLPClassifier((12,), activation="logistic", max_iter=80, random_state=0)),
    "nb": GaussianNB,
    "nb_bernoulli": scaled(BernoulliNB),
    "nb_complement": ComplementNB,
    "nb_multinomial": MultinomialNB,
    "nu_svc": scaled(lambda: NuSVC(nu=0.3, probability=True, random_state=0)),
    "one_vs_one": scaled(lambda: OneVsOneClassifier(LogisticRegression())),
    "one_vs_rest": scaled(lambda: OneVsRestClassifier(LogisticRegression())),
    "one_vs_rest_trees": lambda: OneVsRestClassifier(DecisionTreeClassifier(max_depth=3, random_state=0)),
    "passive_aggressive": scaled(lambda: PassiveAggressiveClassifier(random_state=0)),
    "perceptron": scaled(lambda: Perceptron(random_state=0)),
    "qda": scaled(lambda: QuadraticDiscriminantAnalysis(reg_param=0.1)),
    "radius_neighbours": scaled(lambda: RadiusNeighborsClassifier(9.0)),
    "ridge": scaled(RidgeClassifier),
    "sgd_hinge": scaled(lambda: SGDClassifier(random_state=0)),
    "sgd_log": scaled(lambda: SGDClassifier(loss="log_loss", random_state=0)),
    "sgd_huber": scaled(lambda: SGDClassifier(loss="modified_huber", random_state=0)),
    "stacking": lambda: StackingClassifier([("t", DecisionTreeClassifier(max_depth=3, random_state=0)), ("n", GaussianNB())],
                                           LogisticRegression(max_iter=300), cv=3),
    "svc": scaled(lambda: SVC()),
    "svc_linear": scaled(lambda: SVC(kernel="linear", probability=True, random_state=0)),
    "svc_ovo": scaled(lambda: SVC(decision_function_shape="ovo")),
    "svc_poly": scaled(lambda: SVC(kernel="poly", degree=2, coef0=1.0, probability=True, random_state=0)),
    "svc_sigmoid": scaled(lambda: SVC(kernel="sigmoid")),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "voting_hard": lambda: VotingClassifier([("t", DecisionTreeClassifier(max_depth=3, random_state=0)), ("n", GaussianNB()),
                                             ("k", KNeighborsClassifier())], flatten_transform=False),
    "voting_soft": lambda: VotingClassifier([("t", DecisionTreeClassifier(max_depth=3, random_state=0)), ("n", GaussianNB())],
                                            voting="soft", flatten_transform=False, weights=np.array([2, 1])),
}
REGRESSORS = {
    "adaboost": lambda: AdaBoostRegressor(n_estimators=8, random_state=0),
    "ard": ARDRegression,
    "bagging": lambda: BaggingRegressor(DecisionTreeRegressor(max_depth=4, random_state=0), n_estimators=6, random_state=0),
    "bayesian_ridge": BayesianRidge,
    "elastic_net": lambda: ElasticNet(alpha=0.01),
    "extra_tree": lambda: ExtraTreeRegressor(max_depth=6, random_state=0),
    "extra_trees": lambda: ExtraTreesRegressor(15, max_depth=6, random_state=0),
    "forest": lambda: RandomForestRegressor(15, max_depth=6, random_state=0),
    "gamma": lambda: GammaRegressor(alpha=0.1),
    "gp": lambda: GaussianProcessRegressor(RBF(1.0) + WhiteKernel(0.1), normalize_y=True, random_state=0),
    "gradient_boosting": lambda: GradientBoostingRegressor(n_estimators=15, random_state=0),
    "gradient_boosting_huber": lambda: GradientBoostingRegressor(n_estimators=15, loss="huber", random_state=0),
    "hist_gradient_boosting": lambda: HistGradientBoostingRegressor(max_iter=15, random_state=0),
    "huber": lambda: HuberRegressor(max_iter=1000),
    "knn_distance": lambda: KNeighborsRegressor(4, weights="distance"),
    "lars": lambda: Lars(n_nonzero_coefs=4),
    "linear_svr": scaled(lambda: LinearSVR(random_state=0, max_iter=5000)),
    "linreg": LinearRegression,
    "mlp_tanh": scaled(lambda: MLPRegressor((12,), activation="tanh", max_iter=80, random_state=0)),
    "nu_svr": scaled(lambda: NuSVR(C=10.0)),
    "pls": lambda: PLSRegression(3),
    "poisson": lambda: PoissonRegressor(alpha=0.1),
    "quantile": lambda: QuantileRegressor(alpha=0.01, solver="highs"),
    "radius_neighbours": lambda: RadiusNeighborsRegressor(0.5),
    "ransac": lambda: RANSACRegressor(random_state=0),
    "sgd": scaled(lambda: SGDRegressor(random_state=0)),
    "stacking": lambda: StackingRegressor([("t", DecisionTreeRegressor(max_depth=3, random_state=0)), ("r", Ridge())], Ridge(), cv=3),
    "svr": scaled(lambda: SVR(C=10.0)),
    "svr_linear": scaled(lambda: SVR(kernel="linear")),
    "svr_poly": scaled(lambda: SVR(kernel="poly", degree=2)),
    "svr_sigmoid": scaled(lambda: SVR(kernel="sigmoid")),
    "theil_sen": lambda: TheilSenRegressor(random_state=0, max_subpopulation=200),
    "tree": lambda: DecisionTreeRegressor(max_depth=7, random_state=0),
    "tweedie": lambda: TweedieRegressor(power=1.5, alpha=0.1),
    "voting": lambda: VotingRegressor([("t", DecisionTreeRegressor(max_depth=3, random_state=0)), ("r", Ridge())]),
}
OTHERS = {
    "bayesian_mixture": (lambda: BayesianGaussianMixture(n_components=3, random_state=0), "iris"),
    "gaussian_mixture": (lambda: GaussianMixture(3, random_state=0), "iris"),
    "gaussian_mixture_diag": (lambda: GaussianMixture(2, covariance_type="diag", random_state=0), "iris"),
    "gaussian_mixture_spherical": (lambda: GaussianMixture(2, covariance_type="spherical", random_state=0), "iris"),
    "isolation_forest": (lambda: IsolationForest(n_estimators=12, contamination=0.1, random_state=0), "iris"),
    "kmeans": (lambda: KMeans(3, n_init=2, random_state=0), "wine"),
    "kmeans_mini": (lambda: MiniBatchKMeans(3, n_init=2, random_state=0), "iris"),
    "local_outlier_factor": (lambda: LocalOutlierFactor(novelty=True), "iris"),
    "nearest_neighbours": (lambda: NearestNeighbors(n_neighbors=3, radius=None), "iris"),
    "one_class_svm": (scaled(lambda: OneClassSVM(nu=0.2)), "iris"),
    "sgd_one_class_svm": (scaled(lambda: SGDOneClassSVM(random_state=0)), "iris"),
}
# What people have, written for old and new runtimes.
VARIED = ("forest", "gradient_boosting", "knn", "linear_svc", "logreg", "mlp", "nb", "svc_linear", "tree", "calibrated_sigmoid")
OPSETS = {"12": {"": 12, "ai.onnx.ml": 1}, "15": {"": 15, "ai.onnx.ml": 2}, "17": {"": 17, "ai.onnx.ml": 3},
          "21": {"": 21, "ai.onnx.ml": 5}}


def several(model, words=False):
    """One model of several answers at once."""
    def make():
        x, y = load("diabetes")
        many = np.stack([y > 140, x[:, 2] > 0], axis=1).astype(int) if words else np.stack([y, x[:, 2] * 100], axis=1)
        return export(model().fit(x, many), x), {"X": x}
    return make


def counts(model, name="X"):
    """A model over small whole numbers, given as int64."""
    def make():
        x, y = load("digits", np.int64)
        return export(model().fit(x, y), x), {name: x}
    return make


def classifiers():
    made = {}
    for name, model in CLASSIFIERS.items():
        for data in ("wine", "breast_cancer"):
            made[f"{name}_{data}"] = fit(model, data)
        made[f"{name}_words"] = fit(model, "wine", words=True)
    for name in VARIED:
        model = CLASSIFIERS[name]
        made |= {f"{name}_opset{tag}": fit(model, "iris", opset=opset) for tag, opset in OPSETS.items()}
        made[f"{name}_words_two"] = fit(model, "breast_cancer", words=True)
        if name != "linear_svc":
            made[f"{name}_zipmap"] = fit(model, "iris", zipmap=True)
            made[f"{name}_zipmap_words"] = fit(model, "iris", words=True, zipmap=True)
            made[f"{name}_zipmap_columns"] = fit(model, "iris", zipmap="columns")
        made[f"{name}_float64"] = fit(model, "iris", np.float64)
        made[f"{name}_int64"] = fit(model, "digits", np.int64)
    for name in ("svc_linear", "logreg", "mlp", "linear_svc", "sgd_log"):
        made[f"{name}_raw_scores"] = fit(CLASSIFIERS[name], "iris", raw_scores=True)
    made["tree_decision_path"] = fit(CLASSIFIERS["tree"], "iris", decision_path=True)
    made["tree_decision_leaf"] = fit(CLASSIFIERS["tree"], "iris", decision_leaf=True)
    made["forest_decision_leaf"] = fit(forest(5), "iris", decision_leaf=True)
    made["tree_pruned"] = fit(lambda: DecisionTreeClassifier(ccp_alpha=0.02, random_state=0), "breast_cancer")
    made["forest_one_class_leaf"] = fit(forest(3, max_leaf_nodes=2), "digits")
    made["mlp_no_labels"] = fit(CLASSIFIERS["mlp"], "iris", nocl=True)
    made["knn_optimised"] = fit(CLASSIFIERS["knn"], "iris", optim="cdist")
    return made


def models():
    made = classifiers()
    for name, model in REGRESSORS.items():
        made[f"{name}_diabetes"] = fit(model, "diabetes")
    for name in ("forest", "gradient_boosting", "linreg", "mlp_tanh", "svr", "knn_distance", "gp", "tree"):
        made[f"{name}_diabetes_float64"] = fit(REGRESSORS[name], "diabetes", np.float64)
        for tag in ("12", "21"):
            made[f"{name}_diabetes_opset{tag}"] = fit(REGRESSORS[name], "diabetes", opset=OPSETS[tag])
    for name, (model, data) in OTHERS.items():
        made[f"{name}_{data}"] = fit(model, data)
    made["isolation_forest_scores"] = fit(OTHERS["isolation_forest"][0], "iris", score_samples=True)
    made["gaussian_mixture_scores"] = fit(OTHERS["gaussian_mixture"][0], "iris", score_samples=True)
    made["gp_diabetes_deviation"] = fit(REGRESSORS["gp"], "diabetes", np.float64, return_std=True)
    for name, model in {"linreg": LinearRegression, "knn": KNeighborsRegressor,
                        "tree": lambda: DecisionTreeRegressor(max_depth=4, random_state=0),
                        "forest": lambda: RandomForestRegressor(9, max_depth=4, random_state=0), "ridge": Ridge,
                        "mlp": lambda: MLPRegressor((8,), max_iter=50, random_state=0), "lasso": lambda: MultiTaskLasso(0.1),
                        "svr_each": lambda: MultiOutputRegressor(SVR(C=10.0))}.items():
        made[f"two_answers_{name}"] = several(model)
    for name, model in {"tree": lambda: DecisionTreeClassifier(max_depth=4, random_state=0), "forest": forest(9),
                        "knn": KNeighborsClassifier,
                        "mlp": lambda: MLPClassifier((8,), max_iter=50, random_state=0),
                        "logreg_each": lambda: MultiOutputClassifier(LogisticRegression())}.items():
        made[f"two_labels_{name}"] = several(model, words=True)
    for name, model in {"nb_multinomial": MultinomialNB, "nb_bernoulli": lambda: BernoulliNB(binarize=4.0),
                        "nb_complement": ComplementNB, "nb_categorical": lambda: CategoricalNB(min_categories=17),
                        "sgd": lambda: SGDClassifier(random_state=0)}.items():
        made[f"counts_{name}"] = counts(model)
    return made
