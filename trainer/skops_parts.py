"""What is in a file of skops, seen without building any of it."""

import json
import zipfile
from pathlib import Path
from typing import Any

from trainer import tree_bounds

# How skops builds what a pipeline of this project is made of.
LOADERS = frozenset(
    f"{kind}Node"
    for kind in (
        *("Bytearray", "Cached", "DType", "Dict", "Function", "Json", "List", "Loss", "NdArray", "Object", "Partial"),
        *("RandomGenerator", "Slice", "Tree", "Tuple", "Type"),
    )
)
# All that a pipeline of this project is made of. skops trusts more of scikit-learn than this: compiled estimators, too,
# that follow the indices in a file without looking.
TYPES = {
    "builtins": ("bool", "bytearray", "dict", "float", "int", "list", "slice", "str", "tuple"),
    "functools": ("partial",),
    "numpy": (
        *("append", "asarray", "bool", "dtype", "float32", "float64", "int64", "interp", "max", "ndarray", "outer"),
        *("ravel", "reshape", "sort", "sum", "take", "uint64"),
    ),
    "numpy.random._generator": ("Generator",),
    "numpy.strings": ("replace", "strip", "translate", "zfill"),
    "pandas._libs.missing": ("NAType",),
    "pandas.core.series": ("Series",),
    "pandas.core.tools.datetimes": ("to_datetime",),
    "pandas.core.tools.numeric": ("to_numeric",),
    "pandas.core.tools.timedeltas": ("to_timedelta",),
    "sklearn._loss._loss": ("CyHalfSquaredError",),
    "sklearn._loss.link": ("IdentityLink", "Interval"),
    "sklearn._loss.loss": ("HalfSquaredError",),
    "sklearn.compose._column_transformer": ("ColumnTransformer",),
    "sklearn.ensemble._forest": ("RandomForestRegressor",),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": ("HistGradientBoostingRegressor",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.impute._base": ("MissingIndicator", "SimpleImputer"),
    "sklearn.linear_model._coordinate_descent": ("ElasticNet",),
    "sklearn.linear_model._ridge": ("Ridge",),
    "sklearn.pipeline": ("FeatureUnion", "Pipeline"),
    "sklearn.preprocessing._data": ("StandardScaler",),
    "sklearn.preprocessing._encoders": ("OneHotEncoder", "OrdinalEncoder"),
    "sklearn.preprocessing._function_transformer": ("FunctionTransformer",),
    "sklearn.preprocessing._target_encoder": ("TargetEncoder",),
    "sklearn.tree._classes": ("DecisionTreeRegressor",),
    "sklearn.tree._tree": ("Tree",),
    "sklearn.utils.validation": ("check_array",),
    "skrub._datetime_encoder": ("DatetimeEncoder", "_CircularEncoder"),
    "xgboost.core": ("Booster",),
    "xgboost.sklearn": ("XGBRegressor",),
}


def foreign(file: Path) -> set[str]:
    """Return the types in a file of skops, and the ways to build them, that no pipeline of this project has.

    Raises
    ------
    ForgedError
        The file is larger than it looks, or holds a booster that xgboost would not have written.
    """
    found: set[str] = set()
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise tree_bounds.ForgedError("it is compressed")
        if sum(member.file_size for member in members) > file.stat().st_size:
            raise tree_bounds.ForgedError("its members are larger than itself")
        nodes = [json.loads(archive.read("schema.json"))]
        while nodes:
            node = nodes.pop()
            if isinstance(node, list):
                nodes += node
            elif isinstance(node, dict):
                nodes += [value for value in node.values() if isinstance(value, dict | list)]
                module, name, loader = node.get("__module__"), node.get("__class__"), node.get("__loader__")
                if "__class__" in node and name not in TYPES.get(str(module), ()):
                    found.add(f"{module}.{name}")
                if "__loader__" in node and loader not in LOADERS:
                    found.add(str(loader))
                if name == "Booster":
                    _check_booster(archive, node)
    return found


def _check_booster(archive: zipfile.ZipFile, node: Any) -> None:
    """Check what xgboost is going to read: a bytearray, as it has written it, and nothing that stands for one."""
    try:
        handle = node["content"]["content"]["handle"]
        loader, file = handle["__loader__"], handle.get("file")
    except (KeyError, TypeError, AttributeError) as error:
        raise tree_bounds.ForgedError("it holds a booster without its content") from error
    if loader != "BytearrayNode":
        raise tree_bounds.ForgedError(f"it holds a booster whose content is of {loader}")
    tree_bounds.check_xgboost(archive.read(file))
