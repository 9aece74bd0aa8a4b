"""Checks of the split and of what was measured: each function says in a sentence what it has found, or nothing."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import material as materials
from trainer.card import figure
from trainer.estimators import ESTIMATORS
from trainer.material import Floats, Material, quoted

# A share of the test rows that is off by this part of what was asked, and by so many standard deviations.
SHARE_OFF, DEVIATIONS = 0.25, 4.0
DISTINCT, ROWS_EACH = 10, 3
FEWEST_UNITS = 30
# rmse and cv rmse disagree from this ratio on, where their own uncertainty does not explain it.
RATIO, UNCERTAINTIES = 4 / 3, 3.0
# A classifier that can tell the sides apart: its AUC, also in standard deviations of that of one that cannot.
AUC, AUC_DEVIATIONS = 0.65, 6.0
DRIFT_ROWS, ROWS_A_COLUMN, FOLDS = 1_000, 10, 3
# The small forest that a linear model is compared with.
TREES, LEAF, FOREST_ROWS, FOREST_FEWEST, FOREST_GAIN = 12, 3, 600, 100, 0.2


def one_value(material: Material) -> str:
    """The model predicts the same for all test rows."""
    predicted = material.predicted
    if len(predicted) < 2 or not np.ptp(predicted) <= 1e-12 * np.abs(predicted).max():
        return ""
    if _distinct(material) == 1:  # no model could do otherwise: `few_distinct`
        return ""
    remedies = {
        "elasticnet": "a smaller alpha would let it learn (its scale is that of the target)",
        "ridge": "its features say nothing, or alpha is too large",
        "hist_gradient_boosting": "it needs at least 40 training rows to split once",
    }
    why = remedies.get(material.settings.estimator, "its features say nothing")
    return f"the model predicts one value, {figure(float(predicted[0]))}, for all rows: {why}"


def test_share(material: Material) -> str:
    """The share of test rows is far from what was asked."""
    n_train, n_test = material.metrics["rows_train"], material.metrics["rows_test"]
    share, asked = n_test / (n_train + n_test), material.settings.test_fraction
    chance = np.sqrt(asked * (1 - asked) / (n_train + n_test))
    if abs(share - asked) <= max(SHARE_OFF * asked, DEVIATIONS * chance):
        return ""
    hint = "rows of one key stay together" if material.settings.key else "rows with the same features stay together"
    remedy = "split=random does not mind" if not material.settings.key else "a key with more values evens it out"
    return f"{share:.0%} of the rows are test rows, {asked:.0%} were asked for: {hint}; {remedy}"


def few_distinct(material: Material) -> str:
    """The test rows have few different sets of features."""
    if material.settings.split != "stable" or material.settings.key:
        return ""
    n_rows = len(material.predicted)
    distinct = _distinct(material)
    if distinct >= DISTINCT or n_rows < ROWS_EACH * distinct:
        return ""
    return (
        f"the {n_rows} test rows have {distinct} different set{'s' if distinct > 1 else ''} of features, none of which "
        "was trained on: give split=random, or key= a column that names the rows"
    )


def _distinct(material: Material) -> int:
    """Count the different sets of features among the test rows, or some of them."""
    features = material.table.test.features
    chosen = materials.sample(len(features), features.shape[1], material.settings.seed)
    return len(features.iloc[chosen].drop_duplicates())


def few_test_rows(material: Material) -> str:
    """The rmse rests on few rows, or groups."""
    groups = material.table.test.groups
    units = len(material.predicted) if groups is None else len(np.unique(groups))
    if units >= FEWEST_UNITS:
        return ""
    what = "test rows" if groups is None else "keys in the test rows"
    return f"{units} {what} are few: another split may give quite another rmse ({FEWEST_UNITS} and more say something)"


def disagree(material: Material) -> str:
    """The rmse and that of cross-validation differ by more than their spread explains."""
    metrics = material.metrics
    if "cv_rmse_mean" not in metrics or "rmse_low" not in metrics or metrics["rows_test"] < 10:
        return ""
    rmse, folds, spread = metrics["rmse"], metrics["cv_rmse_mean"], metrics["cv_rmse_std"]
    own = (metrics["rmse_high"] - metrics["rmse_low"]) / 3.92
    small, large = sorted((rmse, folds))
    if not large > RATIO * small or large - small <= UNCERTAINTIES * float(np.hypot(own, spread)):
        return ""
    which = "worse" if rmse > folds else "better"
    return (
        f"the test rows do {which} (rmse {figure(rmse)}) than cross-validation promises ({figure(folds)}): "
        "they are not alike; look at predictions.csv"
    )


def drift(material: Material) -> str:
    """Test rows can be told from training rows."""
    n_test = len(material.predicted)
    training, names = _design(material, material.table.training.features)
    rows = min(DRIFT_ROWS, len(training)), min(DRIFT_ROWS, n_test)
    if min(rows) < FEWEST_UNITS or min(rows) < ROWS_A_COLUMN * len(names) / 2 or not names:
        return ""
    test, _ = _design(material, material.table.test.features)
    both = np.vstack([training, test])
    side = np.repeat([0.0, 1.0], [len(training), len(test)])
    scores = _told_apart(both, side, material.settings.seed)
    found = auc(side, scores)
    chance = np.sqrt((len(side) + 1) / (12 * len(training) * len(test)))
    if found < max(AUC, 0.5 + AUC_DEVIATIONS * chance):
        return ""
    single = [abs(auc(side, column) - 0.5) for column in both.T]
    most = quoted(names[int(np.argmax(single))])
    return f"test rows can be told from training rows (AUC {found:.2f}), most of all by {most}: they are not alike"


def _design(material: Material, features: pd.DataFrame) -> tuple[Floats, list[str]]:
    """Return numeric features of some rows, missing ones as the median; not the time that the split goes by."""
    names = tuple(name for name in material.names if name != material.settings.time)
    chosen = materials.sample(len(features), features.shape[1], material.settings.seed)[:DRIFT_ROWS]
    values = materials.matrix(features.iloc[chosen], names)
    known = material.numbers[:, [name != material.settings.time for name in material.names]]
    middle = np.array(
        [np.median(column[~np.isnan(column)]) if np.isfinite(column).any() else 0.0 for column in known.T]
    )
    return np.where(np.isnan(values), middle, values) if names else values, list(names)


def _told_apart(values: Floats, side: Floats, seed: int) -> Floats:
    """Return cross-fitted scores of a least-squares classifier on the features and their distances from the middle."""
    middle = np.median(values, axis=0)
    size = np.abs(values - middle).mean(axis=0)
    scaled = np.clip((values - middle) / np.where(size > 0, size, 1.0), -10, 10)
    design = np.hstack([np.ones((len(values), 1)), scaled, np.abs(scaled)])
    fold = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    scores = np.empty(len(values))
    penalty = np.eye(design.shape[1])
    for own in range(FOLDS):
        train = fold != own
        weights = np.linalg.solve(design[train].T @ design[train] + penalty, design[train].T @ side[train])
        scores[~train] = design[~train] @ weights
    return scores


def auc(side: Floats, scores: Floats) -> float:
    """Return the probability that a row of side 1 has a higher score than one of side 0; ties count half."""
    ranks = pd.Series(scores).rank().to_numpy()
    ones = side == 1
    n_ones, n_others = int(ones.sum()), int((~ones).sum())
    return float((ranks[ones].sum() - n_ones * (n_ones + 1) / 2) / (n_ones * n_others))


def worse_than_trees(material: Material) -> str:
    """A small forest does better than the linear model, by cross-validation on the training rows."""
    folds = material.metrics.get("cv_rmse_mean")
    if folds is None or not ESTIMATORS[material.settings.estimator].is_linear or material.n_rows < FOREST_FEWEST:
        return ""
    trees = _forest(material)
    if not trees < (1 - FOREST_GAIN) * folds:
        return ""
    return (
        f"a small forest does better by cross-validation ({figure(trees)} against {figure(folds)}): "
        "try estimator=hist_gradient_boosting"
    )


def _forest(material: Material) -> float:
    """Return the RMSE of small forests, each of which has been trained on the other half of some training rows."""
    from sklearn.ensemble import RandomForestRegressor

    rows = slice(FOREST_ROWS)
    texts = [
        pd.factorize(pd.Series(values[rows]).fillna("(missing)"), sort=True)[0] for values in material.texts.values()
    ]
    values = np.clip(np.column_stack([material.numbers[rows], *texts]), -1e30, 1e30).astype(np.float32)
    target = material.target[rows]
    half = _halves(material.groups[rows] if material.groups is not None else np.arange(len(target)))
    predicted = np.empty(len(target))
    for own in (False, True):
        forest = RandomForestRegressor(
            TREES,
            min_samples_leaf=LEAF,
            max_features=min(0.5, 50 / values.shape[1]) if values.shape[1] > 2 else 1.0,
            random_state=material.settings.seed,
        )
        predicted[half == own] = forest.fit(values[half != own], target[half != own]).predict(values[half == own])
    return float(np.sqrt(np.mean((target - predicted) ** 2)))


def _halves(groups: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Divide groups, which come in a random order, into halves."""
    codes = pd.factorize(groups)[0]
    halves: npt.NDArray[np.bool_] = codes % 2 == 1
    return halves
