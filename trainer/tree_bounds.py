"""Whether the indices in a tree stay inside of it: compiled code follows them without looking.

A file in skops' or xgboost's format can hold no code, but it can hold a tree whose child is node 10^8: scikit-learn and
xgboost would read there, and the process would end. So the indices are checked before anything predicts.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

# Values that a categorical split of HistGradientBoosting may hold, and the words of 32 bits that hold them.
CATEGORIES, WORDS = 256, 8
# The deepest nesting of a model that xgboost writes is 9.
DEEPEST = 32
NO_CHILD = -1
OBJECTIVE = "reg:squarederror"
ESTIMATORS = ("ElasticNet", "HistGradientBoostingRegressor", "RandomForestRegressor", "Ridge", "XGBRegressor")


class ForgedError(ValueError):
    """A file that no library has written like this."""


def check_sklearn(pipeline: Any) -> None:
    """Check a fitted pipeline: two steps, of which the last is an estimator of this project with sound trees.

    Raises
    ------
    ForgedError
        It ends in something else, or an index leads out of its tree, or back to where it came from.
    """
    kinds = [type(step).__name__ for _, step in pipeline.steps]
    if len(kinds) != 2 or kinds[0] != "ColumnTransformer" or kinds[1] not in ESTIMATORS:
        raise ForgedError(f"it is made of {' and '.join(kinds)}")
    estimator = pipeline.steps[-1][1]
    if kinds[1] == "RandomForestRegressor":
        for tree in estimator.estimators_:
            _check_forest_tree(tree, estimator.n_features_in_)
    elif kinds[1] == "HistGradientBoostingRegressor":
        _check_boosting(estimator)


def _check_forest_tree(estimator: Any, n_features: int) -> None:
    if type(estimator).__name__ != "DecisionTreeRegressor":
        raise ForgedError(f"its forest has a {type(estimator).__name__}")
    tree = estimator.tree_
    if tree.n_outputs != 1 or estimator.n_outputs_ != 1 or tree.node_count < 1:
        raise ForgedError("a tree predicts several values, or none")
    inner = tree.children_left != NO_CHILD
    _check_nodes(tree.node_count, [tree.children_left[inner], tree.children_right[inner]])
    _check_range("feature", tree.feature[inner], n_features)


def _check_boosting(estimator: Any) -> None:
    mapper = estimator._bin_mapper
    is_categorical = np.asarray(mapper.is_categorical_, dtype=bool)
    n_features = is_categorical.size
    if len(mapper.bin_thresholds_) != n_features or _width(estimator) != n_features:
        raise ForgedError("its trees are for another number of features than it takes")
    for feature in np.flatnonzero(is_categorical):
        _check_range("category", np.asarray(mapper.bin_thresholds_[feature]), CATEGORIES)
    for predictor in (one for iteration in estimator._predictors for one in iteration):
        nodes, bitsets = predictor.nodes, predictor.raw_left_cat_bitsets
        inner = nodes[nodes["is_leaf"] == 0]
        _check_nodes(len(nodes), [inner["left"], inner["right"]])
        _check_range("feature", inner["feature_idx"], n_features)
        split = inner[inner["is_categorical"] != 0]
        if bitsets.ndim != 2 or bitsets.shape[1] != WORDS or not is_categorical[split["feature_idx"]].all():
            raise ForgedError("a split by categories is of a feature that has none")
        _check_range("set of categories", split["bitset_idx"], len(bitsets))


def _width(estimator: Any) -> int:
    """How many columns hist gradient boosting gives to its trees: those that it takes, or what it makes of them."""
    preprocessor = getattr(estimator, "_preprocessor", None)
    if preprocessor is None:
        return int(estimator.n_features_in_)
    width = 0
    for _, step, columns in preprocessor.transformers_:
        taken = int(np.count_nonzero(columns))
        one_by_one = _encodes(step, taken) or _passes(step)
        if taken and not one_by_one:
            raise ForgedError(f"its features are prepared by {type(step).__name__}")
        width += taken
    return width


def _encodes(step: Any, columns: int) -> bool:
    return type(step).__name__ == "OrdinalEncoder" and len(step.categories_) == columns


def _passes(step: Any) -> bool:
    """Whether a step only checks an array, as hist gradient boosting's own does."""
    function = getattr(step, "func", None)
    called = getattr(function, "func", function)  # of a partial
    return type(step).__name__ == "FunctionTransformer" and getattr(called, "__name__", "check_array") == "check_array"


def _check_range(what: str, indices: npt.NDArray[Any], size: int) -> None:
    """Whether all indices are whole numbers in [0, size)."""
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise ForgedError(f"a tree names {what} {indices.max()} of {size}")


def _check_nodes(count: int, children: Iterable[npt.NDArray[Any]]) -> None:
    """Whether all children exist and no node has two parents: then a walk from the root, which has none, ends."""
    every = np.concatenate([np.asarray(side, dtype=np.int64) for side in children])
    _check_range("node", every, count)
    parents = np.bincount(every, minlength=count)
    if count < 1 or parents[0] or parents.max() > 1:
        raise ForgedError("a tree leads back to a node that it comes from")


def check_xgboost(content: bytes, n_features: int | None = None) -> None:
    """Check a model of xgboost before xgboost reads it: a gradient boosted tree, as JSON or UBJSON.

    Parameters
    ----------
    content : bytes
        What `Booster.save_raw` returns, or `Booster.__getstate__` keeps.
    n_features : int, optional
        That it must have.

    Raises
    ------
    ForgedError
        It is no such model, or an index leads out of where it belongs.
    """
    try:
        read = json.loads(content) if content[:1] == b"{" and content[1:2] in b'"\n\r\t }' else _Ubjson(content).read()
        learner = read.get("Model", read)["learner"]
        booster, own = learner["gradient_booster"], learner["learner_model_param"]
        features = int(own["num_feature"])
        if booster["name"] != "gbtree" or learner["objective"]["name"] != OBJECTIVE:
            raise ForgedError(f"it is a model of {booster['name']} for {learner['objective']['name']}")
        if int(own["num_class"]) or int(own.get("num_target", 1)) != 1 or np.size(json.loads(own["base_score"])) != 1:
            raise ForgedError("it predicts several values")
        if n_features not in (None, features):
            raise ForgedError(f"it takes {features} features, and its signature names {n_features}")
        model = booster["model"]
        rounds = _integers(model.get("iteration_indptr", []))
        _check_range("round", rounds, len(model["trees"]) + 1)
        if np.any(np.diff(rounds) < 0) or np.any(_integers(model["tree_info"]) != 0):
            raise ForgedError("a tree belongs to another round, or target")
        _check_categories(model.get("cats", {}), features)
        for tree in model["trees"]:
            _check_xgboost_tree(tree, features)
    except ForgedError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, struct.error, RecursionError) as error:
        raise ForgedError(f"it is no model of xgboost: {type(error).__name__} {error}") from error


def _check_xgboost_tree(tree: Mapping[str, Any], n_features: int) -> None:
    param = tree["tree_param"]
    count = int(param["num_nodes"])
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    features, split_type = _integers(tree["split_indices"]), _integers(tree["split_type"])
    if {len(left), len(right), len(features), len(split_type)} != {count} or int(param["size_leaf_vector"]) not in (
        0,
        1,
    ):
        raise ForgedError("a tree has another number of nodes than it says")
    inner = left != NO_CHILD
    _check_nodes(count, [left[inner], right[inner]])
    _check_range("feature", features[inner], n_features)
    nodes, values = _integers(tree["categories_nodes"]), _integers(tree["categories"])
    starts, sizes = _integers(tree["categories_segments"]), _integers(tree["categories_sizes"])
    if not len(nodes) == len(starts) == len(sizes) or np.any(np.diff(nodes) <= 0):
        raise ForgedError("a tree has sets of categories of no split")
    if not np.array_equal(nodes, np.flatnonzero(split_type)) or np.any(~np.isin(split_type, (0, 1))):
        raise ForgedError("a tree has splits by categories without a set of them")
    _check_range("node", nodes, count)
    if np.any(starts < 0) or np.any(sizes < 0) or np.any(starts + sizes > len(values)):
        raise ForgedError("a set of categories leads out of the tree")
    _check_range("category", values, 2**24)  # beyond it a float32 cannot tell them apart


def _check_categories(categories: Mapping[str, Any], n_features: int) -> None:
    """Whether the names of the categories that a booster may keep are where it looks for them."""
    segments, order = _integers(categories.get("feature_segments", [])), _integers(categories.get("sorted_idx", []))
    if not len(segments):
        return
    if (
        len(segments) != n_features + 1
        or segments[0] != 0
        or np.any(np.diff(segments) < 0)
        or segments[-1] != len(order)
    ):
        raise ForgedError("its categories are of other features")
    for names, size, start in zip(categories["enc"], np.diff(segments), segments[:-1], strict=True):
        _check_range("category", order[start : start + size], max(int(size), 1))
        offsets = names.get("offsets")
        if offsets is None:
            if len(names["values"]) != size:
                raise ForgedError("its categories are of other features")
            continue
        ends = _integers(offsets)
        if size and (
            len(ends) != size + 1 or ends[0] != 0 or np.any(np.diff(ends) < 0) or ends[-1] != len(names["values"])
        ):
            raise ForgedError("the name of a category leads out of the model")


def _integers(values: Any) -> Indices:
    """Return a list, or an array of UBJSON, as integers."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ForgedError("it holds something else where there should be integers")
    return array.astype(np.int64)


# The types of UBJSON that xgboost writes; all are big-endian.
_NUMBERS = {b"U": "u1", b"i": "i1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_LITERALS = {b"Z": None, b"T": True, b"F": False}


@dataclass
class _Ubjson:
    """A reader of UBJSON, as far as xgboost writes it; see https://ubjson.org and xgboost's src/common/json.cc."""

    content: bytes
    position: int = 0

    def read(self) -> Any:
        found = self._value(self._take(1), 0)
        if self.position != len(self.content):
            raise ForgedError("something follows the model")
        return found

    def _take(self, size: int) -> bytes:
        taken = self.content[self.position : self.position + size]
        if size < 0 or len(taken) != size:
            raise ForgedError("it ends too early")
        self.position += size
        return taken

    def _value(self, kind: bytes, depth: int) -> Any:
        if depth > DEEPEST:
            raise ForgedError("it is nested too deeply")
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0]
        if kind in _LITERALS:
            return _LITERALS[kind]
        if kind == b"S":
            return self._text()
        if kind == b"[":
            return self._array(depth)
        if kind == b"{":
            return self._object(depth)
        raise ForgedError(f"it holds {kind!r} where a value should be")

    def _numbers(self, kind: bytes, count: int) -> npt.NDArray[Any]:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(dtype.itemsize * count), dtype=dtype)

    def _size(self) -> int:
        kind = self._take(1)
        if kind not in (b"U", b"i", b"I", b"l", b"L"):
            raise ForgedError(f"it holds {kind!r} where a size should be")
        return int(self._numbers(kind, 1)[0])

    def _text(self) -> str:
        return self._take(self._size()).decode()

    def _array(self, depth: int) -> Any:
        kind, count = self._take(1), None
        if kind == b"$":
            element = self._take(1)
            if element not in _NUMBERS or self._take(1) != b"#":
                raise ForgedError(f"it holds an array of {element!r}")
            return self._numbers(element, self._size())
        if kind == b"#":
            count = self._size()
            return [self._value(self._take(1), depth + 1) for _ in range(count)]
        found = []
        while kind != b"]":
            found.append(self._value(kind, depth + 1))
            kind = self._take(1)
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        found = {}
        while self._take(1) != b"}":
            self.position -= 1
            name = self._text()
            found[name] = self._value(self._take(1), depth + 1)
        return found
