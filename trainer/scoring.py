"""A new table scored with a model: predictions written row by row, and what the table is like."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer import formats, incoming, profile
from trainer.delimited import RetypedError, no_rows
from trainer.errors import Remark, UserError, disk_errors
from trainer.model_loading import Model
from trainer.reading import Reading, opened

# How an output is written, by its ending.
ENDINGS = (".csv", ".parquet")
PREDICTION, LOWER, UPPER = "prediction", "lower", "upper"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """What came of a table.

    Attributes
    ----------
    source : formats.Source
    rows, rows_outside : int
        Of the table; of those the ones with a number or date outside of the range of training, or an unseen text.
    seen : list of profile.Seen
        Of each feature; none for a model that has no record of its training table.
    unlike : dict of str to float
        Features that are distributed unlike training, with their stability index.
    actual, predicted : ndarray of shape (n_known,)
        Of the rows whose target is known.
    half_width : float or None
        Of the interval.
    remarks : tuple of Remark
    """

    source: formats.Source
    rows: int
    rows_outside: int
    seen: list[profile.Seen]
    unlike: dict[str, float]
    actual: Floats
    predicted: Floats
    half_width: float | None
    remarks: tuple[Remark, ...]

    @property
    def coverage(self) -> float:
        """The share of the known targets that lie within the interval."""
        return float(np.mean(np.abs(self.actual - self.predicted) <= (self.half_width or 0.0)))


def check_output(output: str) -> Path:
    """Refuse what cannot be written, before anything is computed.

    Raises
    ------
    UserError
        The ending is unknown, or there is no such folder.
    """
    path = Path(output)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"output={output} should end with {' or '.join(ENDINGS)}", "give output=predictions.csv, say")
    if path.is_dir() or not path.parent.is_dir():
        what = (
            f"{output} is a folder" if path.is_dir() else f"the folder {path.parent} of output={output} does not exist"
        )
        raise UserError(what, "give a file in a folder that exists")
    return path


def score(
    model: Model, data: str, separator: str, decimal: str, output: Path, keys: Sequence[str] | None = None
) -> Scored:
    """Score a table, and write its predictions: whole, or not at all.

    Parameters
    ----------
    model : Model
    data, separator, decimal : str
        As in training.
    output : Path
        CSV or Parquet, by its ending. It holds the keys that the table has, ``prediction``, and ``lower`` and
        ``upper`` where the model has an interval.
    keys : sequence of str, optional
        Columns that are copied; None: those that named the groups of training.

    Raises
    ------
    UserError
        The table cannot be read, or is not one that the model can score.
    """
    wanted_keys = model.training.get("key", []) if keys is None else keys
    location = formats.locate(data)
    names = [*model.feature_names, *wanted_keys]
    with opened(location, separator, decimal, names) as reading:
        found = incoming.wanted(reading, model, wanted_keys, location.data)
        if keys is not None and (absent := [name for name in keys if name not in found.keys]):
            raise UserError(f"{location.data} has no column {absent[0]!r}", "give key=COLUMN of this table, or none")
        while True:
            try:
                return _score(model, reading, found, location.data, output)
            except RetypedError as error:  # of CSV: a column goes on otherwise than it begins
                reading.as_text(error.column)
            except incoming.ReorderedError:  # of dates: `found` knows their order now
                continue


def _score(model: Model, reading: Reading, found: incoming.Wanted, data: str, output: Path) -> Scored:
    profiles = profile.read(model.training)
    seen = [profile.Seen(profiles[name]) for name in found.kinds if name in profiles and profiles[name].shares]
    half_width = model.training.get("interval", {}).get("half_width")
    rows = rows_outside = 0
    actual: list[Floats] = []
    predicted: list[Floats] = []
    with _written(output, found.keys, half_width) as write:
        for batch in incoming.batches(reading, found, model, data):
            predictions = model.predict(batch.features)
            write(batch.keys, predictions)
            outside = np.zeros(len(predictions), dtype=bool)
            for one in seen:
                outside |= one.add(batch.features[one.profile.name])
            rows += len(predictions)
            rows_outside += int(outside.sum())
            if batch.target is not None:
                known = np.isfinite(batch.target)
                actual.append(batch.target[known])
                predicted.append(predictions[known])
        if not rows:
            raise no_rows(data)
    remarks = [*reading.remarks, *_told(found, model, seen)]
    unlike = profile.unlike(seen, int(model.training.get("rows", 0)))
    return Scored(
        reading.source(),
        rows,
        rows_outside,
        seen,
        unlike,
        _joined(actual),
        _joined(predicted),
        half_width,
        tuple(remarks),
    )


def _told(found: incoming.Wanted, model: Model, seen: Sequence[profile.Seen]) -> Iterator[Remark]:
    for name, how in found.read_as.items():
        yield Remark("dates", f"{name}: its dates are read {how}")
    if empty := [one.profile.name for one in seen if one.missing == one.rows and one.profile.shares[-1] < 1]:
        yield Remark("empty", f"{', '.join(empty)}: no value in any row, and training had some")
    if not seen:
        yield Remark("no_record", f"{model.name} has no record of its training table: what is unlike it is not told")


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


@contextmanager
def _written(output: Path, keys: Sequence[str], half_width: float | None) -> Iterator[Any]:
    """Give a function that writes rows into a file beside the output, which takes its place when all are written."""
    with disk_errors(f"write {output}", "free some space there, or give another output"):
        file = NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False)  # noqa: SIM115
        beside = Path(file.name)
        sink: Any = None
        try:
            with file:

                def write(key_columns: Sequence[pa.Array], predictions: Floats) -> None:
                    nonlocal sink
                    table = _table(keys, key_columns, predictions, half_width)
                    if sink is None:
                        sink = _sink(output, file, table.schema)
                    sink.write(table.cast(sink.schema) if table.schema != sink.schema else table)

                yield write
                if sink is not None:
                    sink.close()
                file.flush()
                os.fsync(file.fileno())
            _publish(beside, output)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise


def _publish(beside: Path, output: Path) -> None:
    """Give a temporary file the permissions that any new file has, and its name."""
    mask = os.umask(0)
    os.umask(mask)
    beside.chmod(0o666 & ~mask)
    beside.replace(output)


@dataclass
class _Csv:
    """A writer that knows its schema, as the one of Parquet does."""

    schema: pa.Schema
    writer: Any

    def write(self, table: pa.Table) -> None:
        self.writer.write(table)

    def close(self) -> None:
        self.writer.close()


@dataclass
class _Parquet:
    schema: pa.Schema
    writer: Any

    def write(self, table: pa.Table) -> None:
        self.writer.write_table(table)

    def close(self) -> None:
        self.writer.close()


def _sink(output: Path, file: Any, schema: pa.Schema) -> Any:
    if output.suffix.lower() == ".parquet":
        return _Parquet(schema, pa.parquet.ParquetWriter(file, schema))
    options = pa.csv.WriteOptions(quoting_style="needed")
    return _Csv(schema, pa.csv.CSVWriter(file, schema, write_options=options))


def _table(keys: Sequence[str], columns: Sequence[pa.Array], predictions: Floats, half_width: float | None) -> pa.Table:
    named: dict[str, Any] = {name: _plain(column) for name, column in zip(keys, columns, strict=True)}
    named[PREDICTION] = predictions
    if half_width is not None:
        named[LOWER], named[UPPER] = predictions - half_width, predictions + half_width
    return pa.table(list(named.values()), names=list(named))


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def metrics(scored: Scored, rmse_interval: tuple[float, float] | None) -> dict[str, float]:
    """Return what a run logs of it."""
    found: dict[str, float] = {
        "rows": scored.rows,
        "rows_outside_training": scored.rows_outside,
        "missing_values": sum(one.missing for one in scored.seen),
        "unseen_values": sum(one.unseen for one in scored.seen),
        "columns_unlike_training": len(scored.unlike),
    }
    if len(scored.actual):
        errors = scored.actual - scored.predicted
        found |= {"rmse": float(np.sqrt(np.mean(errors**2))), "rows_with_target": len(errors)}
        if rmse_interval:
            found |= {"rmse_low": rmse_interval[0], "rmse_high": rmse_interval[1]}
        if scored.half_width is not None:
            found["coverage_90"] = scored.coverage
    return found


def by_column(scored: Scored) -> Mapping[str, Any]:
    """Return what the table is like, column by column; JSON types only."""
    return {
        one.profile.name: {
            "kind": one.profile.kind,
            "missing": one.missing,
            "outside_training": one.outside,
            "unseen": one.unseen if one.profile.complete else None,
            "stability_index": one.stability_index,
        }
        for one in scored.seen
    }
