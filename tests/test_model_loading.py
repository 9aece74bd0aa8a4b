"""Loading a model folder: what is loaded, what is refused, and that nothing of it is run."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from tests import models
from tests.conftest import link
from trainer import model_folder, model_loading, tree_bounds
from trainer.errors import UnusableModelError
from trainer.estimators import ESTIMATORS

NUMBERS = ("size", "visits")
KINDS = {column.name: column.kind for column in models.table()[1]}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind, which nobody changes."""
    home = tmp_path_factory.mktemp("models")
    for which in ("ridge", models.BOOSTER):
        models.saved(home / which, which, *NUMBERS)
    for estimator in ESTIMATORS:
        few = {"n_estimators": "2"} if "n_estimators" in ESTIMATORS[estimator].hyperparameters else {}
        models.saved(home / f"{estimator}_of_every_kind", estimator, **few)
    return home


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda which: Path(copytree(originals / which, tmp_path / which))


# What a hostile folder wants to write.
CANARY = "canary"


class Hostile:
    """A pickle that runs code as it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def change(folder: Path, **changes: Any) -> None:
    """Change keys of the flavors in MLmodel: ``sklearn__code="code"``."""
    content = models.read_mlmodel(folder)
    for where, value in changes.items():
        flavor, _, key = where.partition("__")
        content["flavors"].setdefault(flavor, {})[key] = value
    models.write_mlmodel(folder, content)


def rewrite_skops(folder: Path, edit: Callable[[dict[str, Any]], None], compression: int = zipfile.ZIP_STORED) -> None:
    """Change the schema in a file of skops."""
    path = folder / "model.skops"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    edit(schema)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    models.write_mlmodel(folder, models.read_mlmodel(folder))


def dump(folder: Path, model: Any) -> None:
    """Put another model into a folder of the sklearn flavor."""
    skops.io.dump(model, folder / "model.skops")
    models.write_mlmodel(folder, models.read_mlmodel(folder))


def code_of_its_own(folder: Path) -> None:
    (folder / "code").mkdir()
    program = f"from pathlib import Path\nPath({str(folder.parent / CANARY)!r}).touch()\n"
    for module in ("evil.py", "sitecustomize.py", "skops.py"):
        (folder / "code" / module).write_text(program)


def a_loader_module(folder: Path) -> None:
    code_of_its_own(folder)
    change(folder, python_function__loader_module="evil", python_function__code="code")


def a_known_loader_and_code(folder: Path) -> None:
    code_of_its_own(folder)
    change(folder, python_function__code="code", sklearn__code="code")


def a_flavor_of_its_own(folder: Path) -> None:
    code_of_its_own(folder)
    change(folder, evil__code="code")


def a_python_model(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Hostile(folder.parent / CANARY)))
    change(folder, python_function__python_model="python_model.pkl")


def a_pickle(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Hostile(folder.parent / CANARY)))
    change(
        folder,
        python_function__model_path="model.pkl",
        sklearn__pickled_model="model.pkl",
        sklearn__serialization_format="cloudpickle",
    )


def a_pickle_under_another_name(folder: Path) -> None:
    (folder / "model.skops").write_bytes(pickle.dumps(Hostile(folder.parent / CANARY)))
    change(folder)


def two_files(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Hostile(folder.parent / CANARY)))
    change(folder, python_function__model_path="model.pkl")


def a_function(folder: Path) -> None:
    def to_system(schema: dict[str, Any]) -> None:
        call = {"__class__": "function", "__module__": "builtins", "__loader__": "FunctionNode", "__id__": 1}
        schema["content"]["content"]["verbose"] = call | {"content": {"module_path": "posix", "function": "system"}}

    rewrite_skops(folder, to_system)
    change(folder, sklearn__skops_trusted_types=["posix.system", "builtins.function"])


def a_way_to_build_another_type(folder: Path) -> None:
    def to_partial(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["verbose"]["__loader__"] = "OperatorFuncNode"

    rewrite_skops(folder, to_partial)


def an_estimator_that_skops_trusts(folder: Path) -> None:
    frame, _ = models.table(*NUMBERS)
    dump(folder, make_pipeline(KNeighborsRegressor()).fit(frame, frame["size"]))


def a_file_outside(folder: Path) -> None:
    (folder / "model.skops").rename(folder.parent / "model.skops")
    change(folder, python_function__model_path="../model.skops", sklearn__pickled_model="../model.skops")


def an_absolute_path(folder: Path) -> None:
    change(folder, python_function__model_path="/etc/hostname", sklearn__pickled_model="/etc/hostname")


def a_link(folder: Path) -> None:
    (folder / "model.skops").rename(folder.parent / "model.skops")
    link(folder / "model.skops", folder.parent / "model.skops")


def a_link_for_mlmodel(folder: Path) -> None:
    (folder / "MLmodel").rename(folder.parent / "MLmodel")
    link(folder / "MLmodel", folder.parent / "MLmodel")


def a_linked_folder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "model.skops").rename(folder.parent / "elsewhere" / "model.skops")
    (folder / "part").symlink_to(folder.parent / "elsewhere")
    change(folder, python_function__model_path="part/model.skops", sklearn__pickled_model="part/model.skops")


def a_pipe(folder: Path) -> None:
    (folder / "model.skops").unlink()
    os.mkfifo(folder / "model.skops")  # a reader would wait without end


def another_model(folder: Path) -> None:
    frame, _ = models.table(*NUMBERS)
    skops.io.dump(make_pipeline(KNeighborsRegressor()).fit(frame, frame["size"]), folder / "model.skops")


def a_huge_mlmodel(folder: Path) -> None:
    with (folder / "MLmodel").open("r+b") as file:
        file.truncate(2**40)


def a_huge_model(folder: Path) -> None:
    with (folder / "model.skops").open("r+b") as file:
        file.truncate(2**43)


def a_compressed_model(folder: Path) -> None:
    rewrite_skops(folder, lambda schema: schema.update(padding=" " * 2**20), zipfile.ZIP_DEFLATED)


def aliases_that_multiply(folder: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    (folder / "MLmodel").write_text("\n".join(lines) + "\n" + (folder / "MLmodel").read_text())


def a_python_tag(folder: Path) -> None:
    tag = f"evil: !!python/object/apply:pathlib.Path.touch [{str(folder.parent / CANARY)!r}]\n"
    (folder / "MLmodel").write_text(tag + (folder / "MLmodel").read_text())


def no_mapping(folder: Path) -> None:
    (folder / "MLmodel").write_text("- 1\n")


def brackets(folder: Path) -> None:
    (folder / "MLmodel").write_text("[" * 5_000)


def a_class(folder: Path) -> None:
    change(folder, xgboost__model_class="subprocess.Popen")


def other_columns(folder: Path) -> None:
    (folder / "training_table.json").write_text(json.dumps({"columns": [{"name": "size", "kind": "code"}]}))
    change(folder)


def another_day(folder: Path) -> None:
    (folder / "training_table.json").write_text("{}")


HOSTILE = [
    ("ridge", a_loader_module, "it wants the module evil (its loader_module)"),
    ("ridge", a_known_loader_and_code, "it wants code that came with it (code: code)"),
    ("ridge", a_flavor_of_its_own, "it wants the flavor evil"),
    ("ridge", a_python_model, "it wants code that came with it (python_model: python_model.pkl)"),
    ("ridge", a_pickle, "it wants a pickle (model.pkl, cloudpickle)"),
    ("ridge", a_pickle_under_another_name, "cannot be loaded here: BadZipFile: File is not a zip file"),
    ("ridge", two_files, "it wants two files, model.skops and model.pkl"),
    ("ridge", a_function, "it wants builtins.function, which no pipeline of this project has"),
    ("ridge", a_way_to_build_another_type, "it wants OperatorFuncNode, which no pipeline of this project has"),
    (
        "ridge",
        an_estimator_that_skops_trusts,
        "it wants sklearn.metrics._dist_metrics.EuclideanDistance64, which no pipeline",
    ),
    ("ridge", a_file_outside, "it wants the file '../model.skops', which is not in it"),
    ("ridge", an_absolute_path, "it wants the file '/etc/hostname', which is not in it"),
    ("ridge", a_link, "it wants the file 'model.skops', which is a link"),
    ("ridge", a_link_for_mlmodel, "it wants the file 'MLmodel', which is a link"),
    ("ridge", a_linked_folder, "it wants the file 'part/model.skops', which is a link"),
    ("ridge", a_pipe, "has no model.skops"),
    ("ridge", another_model, "it wants sklearn.metrics._dist_metrics.EuclideanDistance64, which no pipeline"),
    ("ridge", a_huge_mlmodel, "more than this machine's memory"),
    ("ridge", a_huge_model, "its model.skops, of 8,192 GB: more than this machine's memory"),
    ("ridge", a_compressed_model, "model.skops was not written by sklearn: it is compressed"),
    ("ridge", aliases_that_multiply, "its MLmodel cannot be read: YAMLError: it has an alias"),
    ("ridge", a_python_tag, "its MLmodel cannot be read: ConstructorError"),
    ("ridge", no_mapping, "its MLmodel cannot be read: TypeError"),
    ("ridge", brackets, "its MLmodel cannot be read: "),
    (models.BOOSTER, a_class, "it wants the class subprocess.Popen (its model_class)"),
    ("ridge", other_columns, "its training_table.json cannot be read: ValueError: a column is code"),
    ("ridge", another_day, "training_table.json is not what was recorded on the day of training"),
]


@pytest.mark.parametrize(("which", "make", "expected"), HOSTILE, ids=[make.__name__ for _, make, _ in HOSTILE])
def test_a_hostile_folder_is_refused_and_runs_nothing(
    which: str, make: Callable[[Path], None], expected: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    hostile = folder(which)
    make(hostile)
    with pytest.raises(UnusableModelError) as refused:
        model_folder.load(hostile, name="models:/theirs/3")
    assert expected in refused.value.cause
    assert refused.value.cause.startswith("models:/theirs/3")
    assert str(tmp_path) not in str(refused.value)
    assert not (tmp_path / CANARY).exists()


def test_what_is_trusted_is_loaded_by_mlflow(folder: Callable[[str], Path], tmp_path: Path) -> None:
    own = folder("ridge")
    (own / "code").mkdir()
    (own / "code" / "trusted_by_somebody.py").write_text(
        f"from pathlib import Path\nfrom mlflow.sklearn import _load_pyfunc\nPath({str(tmp_path / CANARY)!r}).touch()\n"
    )
    change(own, python_function__loader_module="trusted_by_somebody", python_function__code="code")
    agreement = model_folder.score_again(own, trust=True)
    assert (tmp_path / CANARY).exists()
    assert agreement.largest_relative < 1e-12


def forge_tree(folder: Path, edit: Callable[[Any], None]) -> None:
    """Change the nodes of the first tree of a model in skops' format."""
    own = skops.io.load(folder / "model.skops", trusted=list(_untrusted(folder)))
    estimator = own.named_steps["estimator"]
    if hasattr(estimator, "_predictors"):
        edit(estimator._predictors[0][0].nodes)
    else:
        first = estimator.estimators_[0]
        tree = first.tree_
        kind, arguments, state = tree.__reduce__()
        edit(state["nodes"])
        first.tree_ = kind(*arguments)
        first.tree_.__setstate__(state)
    dump(folder, own)


def _untrusted(folder: Path) -> list[str]:
    return list(skops.io.get_untrusted_types(file=folder / "model.skops"))


def set_first(field: str, value: int, place: int = 0) -> Callable[[Any], None]:
    def edit(nodes: Any) -> None:
        nodes[field][place] = value

    return edit


@pytest.mark.parametrize(
    ("estimator", "edit", "expected"),
    [
        ("random_forest", set_first("left_child", 10**8), "a tree names node 100000000 of"),
        ("random_forest", set_first("right_child", -7), "a tree names node"),
        ("random_forest", set_first("left_child", 0), "a tree leads back to a node that it comes from"),
        ("random_forest", set_first("left_child", 1, place=1), "a tree leads back to a node that it comes from"),
        ("random_forest", set_first("feature", 10**8), "a tree names feature 100000000 of"),
        ("hist_gradient_boosting", set_first("left", 10**8), "a tree names node 100000000 of"),
        ("hist_gradient_boosting", set_first("right", 0), "a tree leads back to a node that it comes from"),
        ("hist_gradient_boosting", set_first("feature_idx", 10**8), "a tree names feature 100000000 of"),
        (
            "hist_gradient_boosting",
            set_first("is_categorical", 1),
            "a split by categories is of a feature that has none",
        ),
    ],
)
def test_a_forged_tree_is_not_followed(
    estimator: str, edit: Callable[[Any], None], expected: str, folder: Callable[[str], Path]
) -> None:
    forged = folder(f"{estimator}_of_every_kind")
    forge_tree(forged, edit)
    with pytest.raises(UnusableModelError, match=expected):
        model_folder.load(forged)


def forge(folder: Path, edit: Callable[[Any], None]) -> None:
    """Change the fitted pipeline of a folder in skops' format."""
    own = skops.io.load(folder / "model.skops", trusted=list(_untrusted(folder)))
    edit(own)
    dump(folder, own)


def a_category_beyond_the_bits(own: Any) -> None:
    mapper = own.steps[-1][1]._bin_mapper
    feature = int(np.flatnonzero(mapper.is_categorical_)[0])
    mapper.bin_thresholds_[feature] = np.array([0.0, 1e6])


def fewer_sets_than_splits(own: Any) -> None:
    for iteration in own.steps[-1][1]._predictors:
        for predictor in iteration:
            predictor.raw_left_cat_bitsets = np.zeros((0, 8), dtype=np.uint32)
            predictor.nodes["is_categorical"][0] = 1
            predictor.nodes["feature_idx"][0] = 0


def another_number_of_features(own: Any) -> None:
    mapper = own.steps[-1][1]._bin_mapper
    mapper.is_categorical_ = np.zeros(1, dtype=np.uint8)


def another_last_step(own: Any) -> None:
    own.steps.append(("predictor", own.steps[-1][1]))


def a_pipeline_in_a_pipeline(own: Any) -> None:
    own.steps[-1] = ("estimator", make_pipeline(own.steps[-1][1]))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (a_category_beyond_the_bits, r"a tree names category 1000000\.0 of 256"),
        (fewer_sets_than_splits, "a tree names set of categories 0 of 0"),
        (another_number_of_features, "its trees are for another number of features than it takes"),
        (another_last_step, "it is made of ColumnTransformer and Hist.* and Hist"),
        (a_pipeline_in_a_pipeline, "it is made of ColumnTransformer and Pipeline"),
    ],
)
def test_a_forged_boosting_does_not_predict(
    edit: Callable[[Any], None], expected: str, folder: Callable[[str], Path]
) -> None:
    forged = folder("hist_gradient_boosting_of_every_kind")
    forge(forged, edit)
    with pytest.raises(UnusableModelError, match=expected):
        model_folder.load(forged)


@pytest.mark.parametrize("stand_in", ["NdArrayNode", "CachedNode"])
def test_a_booster_in_a_pipeline_is_checked_however_its_content_is_stored(
    stand_in: str, folder: Callable[[str], Path]
) -> None:
    def disguise(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                disguise(one)
        elif isinstance(node, dict):
            if node.get("__class__") == "Booster":
                node["content"]["content"]["handle"]["__loader__"] = stand_in
            for one in node.values():
                disguise(one)

    forged = folder("xgboost_of_every_kind")
    rewrite_skops(forged, disguise)
    with pytest.raises(UnusableModelError, match=f"a booster whose content is of {stand_in}"):
        model_folder.load(forged)


def test_a_forged_booster_in_a_pipeline_does_not_reach_xgboost(folder: Callable[[str], Path]) -> None:
    forged = folder("xgboost_of_every_kind")
    path = forged / "model.skops"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-40] if name.endswith(".bin") else content)
    models.write_mlmodel(forged, models.read_mlmodel(forged))
    with pytest.raises(UnusableModelError, match=r"model\.skops was not written by sklearn: it ends too early"):
        model_folder.load(forged)


def test_a_forest_may_not_look_at_more_features_than_it_is_given(folder: Callable[[str], Path]) -> None:
    forged = folder("random_forest_of_every_kind")
    own = skops.io.load(forged / "model.skops", trusted=list(_untrusted(forged)))
    own.named_steps["estimator"].n_features_in_ = 1
    dump(forged, own)
    with pytest.raises(UnusableModelError, match=r"a tree names feature \d+ of 1"):
        model_folder.load(forged)


Json = dict[str, Any]


@pytest.fixture(scope="module")
def boosters() -> dict[str, bytes]:
    """A model of xgboost in both of its formats."""
    model, _, _ = models.booster(*NUMBERS)
    return {form: bytes(model.get_booster().save_raw(form)) for form in ("json", "ubj")}


def tree(field: str, value: Any, place: int | None = 0) -> Callable[[Json, Json], None]:
    def edit(_: Json, model: Json) -> None:
        if place is None:
            model["trees"][0][field] = value
        else:
            model["trees"][0][field][place] = value

    return edit


def categories(**fields: Any) -> Callable[[Json, Json], None]:
    def edit(_: Json, model: Json) -> None:
        first = model["trees"][0]
        first["split_type"][0] = 1
        sound = {"nodes": [0], "segments": [0], "sizes": [1]}
        first.update({f"categories_{name}": value for name, value in (sound | fields).items() if name != "values"})
        first["categories"] = fields.get("values", [3])

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (tree("left_children", 10**8), "a tree names node 100000000"),
        (tree("left_children", 0), "leads back"),
        (tree("left_children", 1, 1), "leads back"),
        (tree("right_children", -5), "a tree names node"),
        (tree("split_indices", 10**8), "a tree names feature 100000000 of 2"),
        (tree("left_children", [1], None), "another number of nodes"),
        (tree("split_type", 7), "splits by categories"),
        (tree("tree_param", {"num_nodes": "1", "size_leaf_vector": "7"}, None), "another number of nodes"),
        (categories(segments=[10**9]), "a set of categories leads out of the tree"),
        (categories(values=[10**9]), "a tree names category 1000000000"),
        (categories(nodes=[10**9]), "splits by categories without a set"),
        (categories(sizes=[]), "sets of categories of no split"),
        (lambda _, model: model["tree_info"].__setitem__(0, 10**7), "another round, or target"),
        (lambda _, model: model.update(iteration_indptr=[0, 10**7, 2]), "a tree names round 10000000"),
        (
            lambda _, model: model.update(cats={"feature_segments": [0, 5, 9], "sorted_idx": [], "enc": []}),
            "categories",
        ),
        (lambda learner, _: learner["gradient_booster"].update(name="gblinear"), "a model of gblinear"),
        (lambda learner, _: learner["learner_model_param"].update(num_class="100000"), "several values"),
        (lambda learner, _: learner["learner_model_param"].update(num_feature="9"), "takes 9 features"),
        (lambda learner, _: learner.pop("objective"), "no model of xgboost: KeyError 'objective'"),
        (tree("split_indices", "x"), "something else where there should be integers"),
    ],
)
def test_a_forged_booster_does_not_reach_xgboost(
    edit: Callable[[Json, Json], None], expected: str, boosters: dict[str, bytes]
) -> None:
    content = json.loads(boosters["json"])
    edit(content["learner"], content["learner"]["gradient_booster"]["model"])
    with pytest.raises(tree_bounds.ForgedError, match=expected):
        tree_bounds.check_xgboost(json.dumps(content).encode(), 2)


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_a_booster_as_xgboost_writes_it_is_let_through(form: str, boosters: dict[str, bytes]) -> None:
    tree_bounds.check_xgboost(boosters[form], 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"binf" + b"\0" * 400,
        b"[" * 200_000,
        b"{L" + (2**62).to_bytes(8, "big") + b"learner",
        b"{L" + (-5).to_bytes(8, "big", signed=True) + b"learner",
        b"{U\x07learner[$d#L" + (2**62).to_bytes(8, "big"),
        b"{U\x07learner[#L" + (2**62).to_bytes(8, "big"),
        pickle.dumps([1]),
    ],
)
def test_what_is_no_booster_is_not_given_to_xgboost(content: bytes, folder: Callable[[str], Path]) -> None:
    forged = folder(models.BOOSTER)
    (forged / "model.ubj").write_bytes(content)
    with pytest.raises(UnusableModelError, match=r"model\.ubj was not written by xgboost"):
        model_folder.load(forged)


def test_any_cut_of_a_booster_is_noticed(boosters: dict[str, bytes]) -> None:
    whole = boosters["ubj"]
    for size in range(0, len(whole), 97):
        with pytest.raises(tree_bounds.ForgedError):
            tree_bounds.check_xgboost(whole[:size], 2)


@pytest.mark.parametrize("which", [models.BOOSTER, *(f"{estimator}_of_every_kind" for estimator in ESTIMATORS)])
def test_loaded_without_mlflow_it_predicts_what_it_predicted(
    which: str, originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr("mlflow.pyfunc.load_model", None)
    agreement = model_folder.score_again(originals / which)
    assert agreement.largest_relative < 1e-12
    assert agreement.rows == models.ROWS


def test_what_a_model_says_of_itself(originals: Path) -> None:
    model = model_folder.load(originals / "ridge_of_every_kind")
    assert model.feature_names == model_folder.feature_names(model) == list(KINDS)
    assert model_folder.kinds(model) == KINDS
    assert (model.target, model.estimator) == ("y", "ridge")
    assert model_folder.estimator(originals / "ridge_of_every_kind") in ESTIMATORS


def test_columns_in_any_order_and_of_any_dtype_are_scored(originals: Path) -> None:
    model = model_folder.load(originals / "ridge_of_every_kind")
    frame, _ = models.table()
    expected = model.predict(frame)
    others = {
        "nullable": frame.astype({"visits": "Int64", "smoker": "boolean", "city": "string", "size": "Float64"}),
        "categories": frame.astype({"city": "category", "visits": "category"}),
        "integers": frame.astype({"visits": "int32"}),
        "objects": frame.astype(object).where(frame.notna(), None),
        "true and false": frame.assign(smoker=frame["smoker"].map({1.0: True, 0.0: False})),
        "shuffled": frame[frame.columns[::-1]].assign(more=1),
        "dates as text": frame.assign(since=frame["since"].dt.strftime("%Y-%m-%d %H:%M")),
        "dates of a zone": frame.assign(since=frame["since"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
    }
    for what, given in others.items():
        np.testing.assert_allclose(model.predict(given), expected, rtol=1e-12, err_msg=what)


def test_a_cast_that_would_lose_something_is_refused(originals: Path) -> None:
    model = model_folder.load(originals / "ridge_of_every_kind", name="models:/m/1")
    frame, _ = models.table()
    with pytest.raises(UnusableModelError, match=r"models:/m/1 takes numbers in the column 'visits', .* holds 'many'"):
        model.predict(frame.assign(visits="many"))
    with pytest.raises(UnusableModelError, match=r"takes text in the column 'city', .* holds 1\.0"):
        model.predict(frame.assign(city=1.0))
    with pytest.raises(UnusableModelError, match=r"takes numbers in the column 'size', .* holds Timestamp"):
        model.predict(frame.assign(size=pd.Timestamp("2024-02-01")))
    with pytest.raises(UnusableModelError, match="models:/m/1 needs the column 'city'"):
        model.predict(frame.drop(columns="city"))
    with pytest.raises(UnusableModelError, match=r"takes dates in the column 'since', and it holds 'soon'"):
        model.predict(frame.assign(since="soon"))
    with pytest.raises(UnusableModelError, match=r"takes dates in the column 'since', and it holds 3\.0"):
        model.predict(frame.assign(since=3.0))


OLD = {"size": "double", "visits": "long", "smoker": "boolean", "city": "string", "street": "string"}


def test_a_model_of_version_010_is_loaded_and_its_integers_are_not_cut(tmp_path: Path) -> None:
    old = models.as_version_010(models.saved(tmp_path / "old", "ridge", *OLD), **OLD)
    assert model_folder.score_again(old).largest_relative < 1e-12
    model = model_folder.load(old)
    assert model_folder.kinds(model) == {name: KINDS[name] for name in OLD}
    frame, _ = models.table(*OLD)
    with pytest.raises(UnusableModelError, match=r"takes integers in the column 'visits', and it holds 0\.9"):
        model_folder.predict(model, frame.assign(visits=[0.9] + [1.0] * (models.ROWS - 1)))
    assert np.isfinite(model_folder.predict(model, frame.assign(visits=[np.nan] + [1.0] * (models.ROWS - 1)))).all()


def test_a_large_table_is_scored_in_blocks(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_folder.load(originals / "ridge_of_every_kind")
    frame, _ = models.table()
    expected = model.predict(frame)
    monkeypatch.setattr(model_loading, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-12)
