"""Every parameter: its reader, its checks, and that nothing large is imported for them."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from trainer import settings
from trainer.errors import UserError
from trainer.settings import Bound


def read(**given: str) -> settings.Settings:
    return settings.read(settings.defaults() | given)


BAD = [
    ({"estimator": "rigde"}, "there is no estimator 'rigde'; did you mean 'ridge'?"),
    ({"split": "tme"}, "there is no split 'tme'; did you mean 'time'?"),
    ({"split": "time"}, "split=time needs the column that says when a row was"),
    ({"time": "day"}, "time=day is used by split=time alone, and split is stable"),
    ({"scaling": "minmax"}, "there is no scaling 'minmax'"),
    ({"separator": ":"}, "there is no separator ':'"),
    ({"test_fraction": "1"}, "test_fraction should be a number above 0 and below 1, and is '1'"),
    ({"test_fraction": "half"}, "test_fraction should be a number above 0 and below 1, and is 'half'"),
    ({"alpha": "-0.1"}, "alpha should be a number at least 0"),
    ({"alpha": "nan"}, "alpha should be a number at least 0"),
    ({"l1_ratio": "0.5"}, "the estimator ridge has no l1_ratio; it has alpha"),
    ({"estimator": "elasticnet", "l1_ratio": "1.1"}, "l1_ratio should be a number at least 0 and at most 1"),
    ({"estimator": "xgboost", "n_estimators": "1e3"}, "n_estimators should be an integer from 1"),
    ({"seed": "-1"}, "seed should be an integer from 0"),
    ({"cv": "1"}, "cv=1 leaves no rows to train on"),
    ({"model_name": "a/b"}, "'a/b' cannot be the name of a registered model"),
    ({"model_name": ""}, "'' cannot be the name of a registered model"),
    ({"model_name": "x" * 256}, "cannot be the name of a registered model"),
    ({"target": " "}, "target is empty"),
    ({"columns": 'a,"b'}, "columns has a double quote that does not close"),
    ({"must": "rmse>3"}, "must should say what a model must reach, and is 'rmse>3'"),
    ({"must": "speed<3"}, "must should say what a model must reach, and is 'speed<3'"),
    ({"must": "rmse<small"}, "must should be a number"),
    ({"promote": "always"}, "there is no promote 'always'"),
]


@pytest.mark.parametrize(("given", "cause"), BAD)
def test_a_parameter_that_cannot_be_used_is_told_with_its_remedy(given: dict[str, str], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        read(**given)
    assert caught.value.cause.startswith(cause) or cause in caught.value.cause
    assert caught.value.remedy


def test_values_are_what_their_text_means() -> None:
    found = read(
        key="site,patient",
        columns='age, "weight, kg",age',
        drop="x",
        separator="semicolon",
        decimal=",",
        alpha="0.50",
        must="rmse<60,r2>0.3",
        model_name="None",
        cv="auto",
    )
    assert found.key == ("patient", "site")  # as a set: key=a,b is key=b,a
    assert found.columns == ("age", "weight, kg")
    assert (found.drop, found.separator, found.decimal) == (("x",), ";", ",")
    assert found.hyperparameters == {"alpha": 0.5}
    assert found.given["alpha"] == "0.50"
    assert found.must == (Bound("rmse", 60.0), Bound("r2", 0.3))
    assert found.model_name is None
    assert found.cv is None
    assert read(separator="tab").separator == "\t"
    assert read(estimator="hist_gradient_boosting", n_estimators="7").hyperparameters == {"max_iter": 7}


def test_a_bound_holds_on_its_own_side_alone() -> None:
    assert Bound("rmse", 60).holds(59.9)
    assert not Bound("rmse", 60).holds(60)
    assert Bound("r2", 0.3).holds(0.31)
    assert not Bound("r2", 0.3).holds(float("nan"))
    assert str(Bound("mae", 50)) == "mae<50"


def test_what_several_processes_cannot_do() -> None:
    settings.check_distributed(read(estimator="xgboost", cv="0"), 2)
    for given, told in {
        ("ridge", "0", "stable"): "estimator=ridge",
        ("xgboost", "5", "stable"): "cv=5",
        ("xgboost", "0", "random"): "split=random",
    }.items():
        estimator, cv, split = given
        with pytest.raises(UserError, match=f"2 processes cannot train together with {told}"):
            settings.check_distributed(read(estimator=estimator, cv=cv, split=split), 2)


def test_what_differs_from_the_defaults() -> None:
    assert settings.changes(settings.MAIN, settings.defaults()) == "all defaults"
    changed = settings.defaults() | {"alpha": "3", "model_name": "none"}
    assert settings.changes(settings.MAIN, changed) == "alpha=3 (not auto), model_name=none (not diabetes-progression)"


def test_checking_parameters_imports_the_standard_library_alone() -> None:
    code = "import sys; from trainer import settings; settings.read(settings.defaults()); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in ran.stdout.split()}
    assert (
        not roots
        - {*sys.stdlib_module_names, "trainer", "__main__", "sitecustomize", "_virtualenv"}
        - {name for name in roots if name.startswith(("_", "__editable__"))}
    )
