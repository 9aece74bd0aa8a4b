"""The estimators: hyperparameters, preprocessing, and answers that do not change."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer import estimators
from trainer.errors import UserError

RNG = np.random.default_rng(0)
N = 120


def mixed() -> tuple[pd.DataFrame, Any]:
    """A table with every kind of column, and a target that depends on all of them."""
    frame = pd.DataFrame(
        {
            "size": RNG.integers(20, 200, N),
            "rooms": np.where(RNG.random(N) < 0.2, np.nan, RNG.integers(1, 6, N)),
            "city": np.where(RNG.random(N) < 0.2, np.nan, RNG.choice(["Oslo", "Rome"], N).astype(object)),
            "balcony": RNG.random(N) < 0.5,
            "lift": np.where(RNG.random(N) < 0.2, np.nan, (RNG.random(N) < 0.5).astype(object)),
        }
    )
    target = (
        frame["size"] * 3.0
        + frame["rooms"].fillna(9) * 10
        + (frame["city"] == "Oslo") * 50
        + frame["balcony"] * 30
        + (frame["lift"] == True) * 40  # noqa: E712 - the column holds nan as well
    )
    return frame, target.to_numpy()


@pytest.mark.parametrize("name", [name for name in estimators.ESTIMATORS if name != "xgboost"])
@pytest.mark.parametrize("scaling", estimators.SCALINGS)
def test_every_estimator_learns_from_every_kind_of_column(name: str, scaling: str) -> None:
    frame, target = mixed()
    chosen = estimators.Choice(name, {"alpha": 0.01} if name == "elasticnet" else {}, scaling, seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Objective did not converge")  # unscaled, as asked
        model = estimators.fit(estimators.make(chosen, frame), frame, target)
    assert model.score(frame, target) > 0.9
    unseen = frame.head(4).assign(city=["Atlantis", None, np.nan, "Oslo"])
    predicted = model.predict(unseen)
    assert np.isfinite(predicted).all()
    assert predicted[0] != pytest.approx(model.predict(unseen.assign(city="Oslo"))[0])
    # None comes from JSON where a file gives nan: the same is missing
    as_none, as_nan = (frame.head(1).assign(city=np.array([gap], dtype=object)) for gap in (None, np.nan))
    assert model.predict(as_none) == model.predict(as_nan)


def test_xgboost_takes_numbers_and_missing_ones_and_says_so_of_text() -> None:
    frame, target = mixed()
    chosen = estimators.Choice("xgboost", {"n_estimators": 50}, "standard", seed=0)
    numbers = frame[["size", "rooms", "balcony"]]
    model = estimators.fit(estimators.make(chosen, numbers), numbers, target)
    assert model.score(numbers, target) > 0.9
    again = estimators.fit(estimators.make(chosen, numbers), numbers, target)
    assert model.predict(numbers).tobytes() == again.predict(numbers).tobytes()
    for name, held in (("city", "text"), ("lift", "truth values of which some are missing")):
        with pytest.raises(UserError, match=f"the column '{name}' holds {held}"):
            estimators.make(chosen, frame[["size", name]])


def test_numbers_are_passed_through_untouched_without_scaling() -> None:
    from sklearn.linear_model import Ridge

    frame = pd.DataFrame(RNG.normal(size=(50, 3)), columns=list("abc"))
    target = RNG.normal(size=50)
    chosen = estimators.Choice("ridge", {"alpha": 0.03}, "none", 0)
    model = estimators.fit(estimators.make(chosen, frame), frame, target)
    assert (model.predict(frame) == Ridge(alpha=0.03).fit(frame, target).predict(frame)).all()


def test_a_forest_gives_the_same_digits_every_time() -> None:
    frame, target = mixed()
    chosen = estimators.Choice("random_forest", {"n_estimators": 30}, "standard", 0)
    model = estimators.fit(estimators.make(chosen, frame), frame, target)
    assert model.named_steps["estimator"].n_jobs is None  # several threads add up in any order
    again = estimators.fit(estimators.make(chosen, frame), frame, target)
    assert model.predict(frame).tobytes() == again.predict(frame).tobytes()


@pytest.mark.parametrize(
    ("estimator", "given", "expected"),
    [
        ("ridge", {"alpha": "0.5"}, {"alpha": 0.5}),
        ("elasticnet", {"alpha": "auto", "l1_ratio": "1"}, {"l1_ratio": 1.0}),
        ("random_forest", {"n_estimators": "7", "max_depth": "3"}, {"n_estimators": 7, "max_depth": 3}),
        (
            "hist_gradient_boosting",
            {"n_estimators": "7", "learning_rate": "0.2"},
            {"max_iter": 7, "learning_rate": 0.2},
        ),
    ],
)
def test_hyperparameters_reach_scikit_learn(estimator: str, given: dict[str, str], expected: dict[str, Any]) -> None:
    values = estimators.read_hyperparameters(estimator, given)
    assert values == expected
    model = estimators.make(estimators.Choice(estimator, values, "none", 5), pd.DataFrame({"a": [1.0]}))
    settings = estimators.params(model)
    assert {f"estimator__{name}": str(value) for name, value in expected.items()}.items() <= settings.items()
    assert settings["estimator__random_state"] == "5"


@pytest.mark.parametrize(
    ("estimator", "given", "expected"),
    [
        ("ridge", {"l1_ratio": "0.5"}, "ridge has no l1_ratio; it has alpha"),
        ("random_forest", {"alpha": "1"}, "random_forest has no alpha; it has n_estimators and max_depth"),
        ("ridge", {"alpha": "-1"}, "alpha should be a number at least 0, and is '-1'"),
        ("ridge", {"alpha": "strong"}, "alpha should be a number at least 0, and is 'strong'"),
        ("ridge", {"alpha": "nan"}, "alpha should be a number"),
        ("ridge", {"alpha": "inf"}, "alpha should be a number"),
        ("elasticnet", {"alpha": "0"}, "alpha should be a number above 0"),
        ("elasticnet", {"l1_ratio": "1.5"}, "l1_ratio should be a number at least 0 and at most 1"),
        ("random_forest", {"n_estimators": "0"}, "n_estimators should be a whole number from 1 to"),
        ("random_forest", {"max_depth": "2.5"}, "max_depth should be a whole number"),
        ("hist_gradient_boosting", {"learning_rate": "0"}, "learning_rate should be a number above 0"),
    ],
)
def test_a_hyperparameter_that_cannot_be(estimator: str, given: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        estimators.read_hyperparameters(estimator, given)
    assert caught.value.cause.startswith((expected, f"the estimator {expected}"))
