"""An open table: the columns of all its parts, its rows as Arrow batches, its digest, in one pass over the bytes."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from trainer.columns import meaning
from trainer.delimited import RETRIES, Delimited
from trainer.errors import Remark, UserError, disk_errors
from trainer.formats import COPY_BYTES, Format, Source, describe, recognised, source_of
from trainer.group import ALONE, Group
from trainer.locations import Location, Part, reaching

PROGRESS_SECONDS = 2.0
_LOCAL = LocalFileSystem()


@dataclass
class _File:
    """A part that is at hand: where, of which format, and what is known of its bytes."""

    part: Part
    path: str | None  # here; None where it is read where it is
    kind: Format
    stat: tuple[int, int] | None = None
    digest: str = ""
    size: int = 0
    schema: pa.Schema = None
    rows: int = 0
    groups: tuple[int, ...] = ()  # the rows of each row group, of Parquet
    csv: Delimited | None = None


@dataclass
class Reading:
    """A table that is open: the types of its columns, and its rows.

    Attributes
    ----------
    names : list of str
        May hold a name twice; then there are no types.
    schema : dict of str to pyarrow.DataType
        Where the parts differ, the widest type of the same meaning.
    """

    location: Location
    files: list[_File]
    names: list[str]
    schema: dict[str, pa.DataType]
    progress: "Progress"
    group: Group = ALONE

    @property
    def n_groups(self) -> int:
        """How many row groups it has; 0 where it is not Parquet."""
        return sum(len(one.groups) for one in self.files)

    @property
    def numbers(self) -> npt.NDArray[np.int64] | None:
        """The numbers of this process's rows in the table; None where it reads all of them."""
        if self.group.world_size == 1:
            return None
        sizes = [rows for one in self.files for rows in one.groups]
        ends = np.cumsum(sizes)
        own = range(self.group.rank, len(sizes), self.group.world_size)
        return np.concatenate([np.empty(0, np.int64), *(np.arange(ends[g] - sizes[g], ends[g]) for g in own)])

    def _own(self, number: int) -> dict[str, list[int]]:
        """Return which row groups of a file this process reads, as an argument."""
        if self.group.world_size == 1:
            return {}
        before = sum(len(one.groups) for one in self.files[:number])
        rank, size = self.group.rank, self.group.world_size
        return {"groups": [g for g in range(len(self.files[number].groups)) if (before + g) % size == rank]}

    @property
    def typed(self) -> frozenset[str]:
        """The columns whose files say what their types are: not those of CSV, nor those that folders name."""
        return frozenset(self.names if self.files[0].csv is None else ()) - set(self.files[0].part.values)

    @property
    def rows(self) -> int:
        """How many rows this process reads; 0 where that is not known."""
        numbers = self.numbers
        return sum(one.rows for one in self.files) if numbers is None else len(numbers)

    @property
    def decimal(self) -> str:
        """What its numbers have."""
        csv = self.files[0].csv
        return "." if csv is None else csv.dialect.decimal

    @property
    def separator(self) -> str:
        """What separates its columns; nothing where it is not CSV."""
        csv = self.files[0].csv
        return "" if csv is None else csv.dialect.separator

    @property
    def zeros(self) -> dict[str, str]:
        """Columns of CSV that hold values such as 01234, and the first of them."""
        csv = self.files[0].csv
        return {} if csv is None else csv.dialect.zeros

    @property
    def remarks(self) -> list[Remark]:
        """What was recognised, and is not as it usually is."""
        csv = self.files[0].csv
        return [] if csv is None else csv.remarks

    def as_text(self, column: str | None) -> None:
        """From now on, read a column of CSV as text; all of them where that was not enough some times."""
        csv = self.files[0].csv
        assert csv is not None
        csv.text.update(self.names if column is None or len(csv.text) >= RETRIES else [column])
        self.schema.update(dict.fromkeys(csv.text, pa.string()))

    def keep_as_text(self, names: Sequence[str]) -> None:
        """Read columns of CSV that are known to be text as the text that they are; another format says it itself."""
        csv = self.files[0].csv
        if csv is not None:
            csv.text.update(names)
            self.schema.update(dict.fromkeys(names, pa.string()))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give the rows of some columns, in the table's order.

        Raises
        ------
        delimited.RetypedError
            Call `as_text` with its column, and begin again.
        """
        total, done = max(1, self.rows), 0
        for number, one in enumerate(self.files):
            own = [name for name in names if name not in one.part.values]
            if one.csv is not None:
                for batch, share in one.csv.batches(own):
                    self.progress.tell((number + share) / len(self.files))
                    yield _with_values(batch, one.part, names)
                one.digest, one.size = one.csv.digest, one.csv.size
                continue
            with self._unchanged(one) as file:
                assert one.kind.open is not None
                for batch in one.kind.open(file, one.part.name).batches(own, **self._own(number)):
                    done += batch.num_rows
                    self.progress.tell(done / total)
                    yield _with_values(batch, one.part, names)

    @contextmanager
    def _unchanged(self, one: _File) -> Iterator[Any]:
        """Open a file again; hash it through the same handle, and refuse it if it has changed meanwhile."""
        with self._opened(one) as file:
            if not one.digest and self.group.world_size == 1:
                one.digest, one.size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
                file.seek(0)
            yield file
            if one.stat is not None and one.stat != _stat(file):
                raise UserError(
                    f"{one.part.name} has changed while it was read", "run again once nobody writes to it any more"
                )

    @contextmanager
    def _opened(self, one: _File) -> Iterator[Any]:
        where, path = (self.location.filesystem, one.part.path) if one.path is None else (_LOCAL, one.path)
        with reaching(one.part.path, one.part.name), where.open(path, "rb") as file:
            yield file

    def source(self) -> Source:
        """Identify what was read; of several processes only the first one does."""
        if self.group.world_size > 1:
            return describe(self.location) if self.group.rank == 0 else Source(self.location.data, "", 0)
        return source_of(self.location, [(one.digest, one.size) for one in self.files])


@contextmanager
def opened(
    location: Location,
    separator: str = "auto",
    decimal: str = "auto",
    wanted: Sequence[str] = (),
    group: Group = ALONE,
) -> Iterator[Reading]:
    """Open a table; files that are elsewhere are fetched, once. Of several processes each reads its share where it is.

    Parameters
    ----------
    location : Location
    separator, decimal : str
        Of CSV files, or ``auto``.
    wanted : sequence of str
        Columns that it should have: they tell between two separators that would both do.
    group : Group
        The processes that share the table's rows.
    """
    progress = Progress(location.data)
    text: set[str] = set()
    with ExitStack() as stack:
        stack.callback(pa.default_memory_pool().release_unused)
        stack.callback(progress.end)
        folder = None
        if not location.is_local and group.world_size == 1:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="table-", ignore_cleanup_errors=True)))
        files: list[_File] = []
        found = Reading(location, files, [], {}, progress, group)
        for number, part in enumerate(location.parts):
            one = _fetched(location, part, folder, progress, number)
            if group.world_size > 1 and one.kind.name != "Parquet":
                raise UserError(
                    f"several processes read Parquet, and {part.name} is {one.kind.name}", "use one process"
                )
            if one.kind.open is None:
                one.csv = Delimited(str(one.path), part.name, separator, decimal, tuple(wanted), text)
                one.schema = one.csv.schema
            else:
                with found._opened(one) as file:
                    one.stat = _stat(file) if one.path else None
                    reader = one.kind.open(file, part.name)
                    one.schema, one.rows = reader.schema, reader.rows
                    one.groups = tuple(getattr(reader, "groups", ()))
            files.append(one)
        if len({one.kind.open is None for one in files}) > 1:
            raise UserError(
                f"the folder {location.data} holds files of several formats", "give a folder of one format alone"
            )
        found.names, found.schema = _unified(location, files)
        yield found


def _fetched(location: Location, part: Part, folder: Path | None, progress: "Progress", number: int) -> _File:
    """Have the bytes of a part here, and see what they are."""
    with reaching(part.path, part.name):
        if folder is None:
            with location.filesystem.open(part.path, "rb") as file:
                path = part.path if location.is_local else None
                return _File(part, path, recognised(file.read(16), part.name))
        sha256, size = hashlib.sha256(), 0
        kept = folder / str(number)
        with (
            disk_errors(f"fetch {part.name} to {folder}", "free space there, or set TMPDIR to a folder with more"),
            kept.open("wb") as copy,
            location.filesystem.open(part.path, "rb") as stream,
        ):
            total = max(1, getattr(stream, "size", None) or 1)
            while block := stream.read(COPY_BYTES):
                copy.write(block)
                sha256.update(block)
                size += len(block)
                progress.tell((number + min(1.0, size / total)) / len(location.parts), "fetching")
        with kept.open("rb") as file:
            return _File(part, str(kept), recognised(file.read(16), part.name), None, sha256.hexdigest(), size)


def _stat(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


# -- the parts of a folder -----------------------------------------------------------------------


def _with_values(batch: pa.RecordBatch, part: Part, names: Sequence[str]) -> pa.RecordBatch:
    arrays = []
    for name in names:
        if name in part.values:
            zeros = pa.array(np.zeros(batch.num_rows, dtype=np.int32))
            arrays.append(pa.DictionaryArray.from_arrays(zeros, pa.array([part.values[name]], pa.string())))
        else:
            arrays.append(batch.column(batch.schema.get_field_index(name)))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _unified(location: Location, files: list[_File]) -> tuple[list[str], dict[str, pa.DataType]]:
    """Return the columns of all parts, or say which part differs, and where."""
    first = files[0].schema
    folders = location.parts[0].values
    names = [name for name in first.names if name not in folders] + list(folders)
    if len(set(names)) < len(names):
        return names, {}
    schema = {name: pa.string() if name in folders else first.field(name).type for name in names}
    for one in files[1:]:
        found = one.schema
        own = [name for name in found.names if name not in folders]
        said = ""
        if missing := [name for name in names if name not in own and name not in folders]:
            said = f"the column {missing[0]!r} is missing"
        elif extra := [name for name in own if name not in schema]:
            said = f"there is another column, {extra[0]!r}"
        elif len(own) > len(set(own)):
            said = "a column is there twice"
        else:
            for name in own:
                wider = _wider(schema[name], found.field(name).type, one.csv is not None)
                if wider is None:
                    said = f"the column {name!r} is {found.field(name).type}, and {schema[name]} in the first part"
                    break
                schema[name] = wider
        if said:
            raise UserError(
                f"the parts of {location.data} do not have one schema: in {one.part.relative} {said}",
                "write all parts with the same columns and types",
            )
    if files[0].csv is not None:
        files[0].csv.text.update(
            name for name in names if any(_type(one, name) != _type(files[0], name) for one in files)
        )
        schema.update(dict.fromkeys(files[0].csv.text, pa.string()))
    return names, schema


def _type(one: _File, name: str) -> pa.DataType | None:
    return None if name in one.part.values else one.schema.field(name).type


def _wider(first: pa.DataType, other: pa.DataType, csv: bool) -> pa.DataType | None:
    meant, found = meaning(first), meaning(other)
    if meant == found and (meant is not None or first == other):
        return first
    if "empty" in (meant, found):
        return other if meant == "empty" else first
    if {meant, found} == {"integer", "number"}:
        return pa.float64()
    return pa.string() if csv else None


class Progress:
    """A line on a terminal for what takes longer than two seconds."""

    def __init__(self, data: str) -> None:
        self.data, self.started, self.told = data, monotonic(), False

    def tell(self, share: float, doing: str = "reading") -> None:
        """Say how far it is."""
        if sys.stderr.isatty() and monotonic() - self.started > PROGRESS_SECONDS:
            print(f"\r{doing:<11} {self.data}: {share:.0%} ", end="", file=sys.stderr, flush=True)
            self.told = True

    def end(self) -> None:
        """Take the line away."""
        if self.told:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
