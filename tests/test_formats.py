"""Reading: every form that is promised, and one clear line for every file that cannot be used."""

import bz2
import functools
import gzip
import http.server
import io
import lzma
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from tests.tables import csv, kinds, load, told, whole
from trainer import delimited, dialect, formats, reading
from trainer.errors import UserError

ROWS = "".join(f"{i},{i * 2.5},{i % 3}\n" for i in range(30))
CSV = f"a,y,c\n{ROWS}"


def frame(text: str = CSV) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def parquet(text: str = CSV) -> bytes:
    return bytes(frame(text).to_parquet(index=False))


def ipc(stream: bool = False, of: pa.RecordBatch | None = None) -> bytes:
    table = pa.Table.from_pandas(frame(), preserve_index=False) if of is None else pa.Table.from_batches([of])
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7 if of is None else None)
    return sink.getvalue()


READABLE: dict[str, Callable[[], bytes]] = {
    "plain.csv": CSV.encode,
    "zipped.csv.gz": lambda: gzip.compress(CSV.encode()),
    "zipped.csv.bz2": lambda: bz2.compress(CSV.encode()),
    "zipped.csv.xz": lambda: lzma.compress(CSV.encode()),
    "zipped.csv.zst": lambda: bytes(pa.Codec("zstd").compress(CSV.encode(), asbytes=True)),
    "zipped_under_another_name.csv": lambda: bz2.compress(CSV.encode()),
    "columns.parquet": parquet,
    "table.arrow": ipc,
    "table.feather": ipc,
    "stream.arrows": lambda: ipc(stream=True),
    "with_bom.csv": lambda: b"\xef\xbb\xbf" + CSV.encode(),
    "utf16.csv": lambda: CSV.encode("utf-16"),
    "windows.csv": lambda: CSV.replace("\n", "\r\n").encode(),
    "old_mac.csv": lambda: CSV.replace("\n", "\r").encode(),
    "blank_lines.csv": lambda: b"\n\n" + CSV.replace("\n", "\n\n").encode(),
    "quoted.csv": lambda: frame().to_csv(index=False, quoting=1).encode(),
    "semicolons.csv": lambda: CSV.replace(",", ";").encode(),
    "tabs.tsv": lambda: CSV.replace(",", "\t").encode(),
    "bars.txt": lambda: CSV.replace(",", "|").encode(),
    "no_ending": CSV.encode,
}


@pytest.mark.parametrize("name", READABLE)
def test_every_form_of_a_table_reads_the_same(name: str, tmp_path: Path) -> None:
    content = READABLE[name]()
    (tmp_path / name).write_bytes(content)
    read = load(tmp_path / name)
    assert kinds(read) == {"a": "integer", "c": "integer"}
    assert whole(read).to_numpy().tolist() == frame()[["a", "c", "y"]].to_numpy(dtype=float).tolist()
    assert (read.source.name, read.source.size) == (name, len(content))


def test_a_newline_in_the_header_and_in_values(tmp_path: Path) -> None:
    text = 'a,"b\nc",y\n' + "".join(f'{i},"u\nv",{i % 7}\n' for i in range(20))
    (tmp_path / "t.csv").write_text(text)
    read = load(tmp_path / "t.csv")
    assert kinds(read) == {"a": "integer", "b\nc": "text"}
    assert set(whole(read)["b\nc"]) == {"u\nv"}


# -- folders -------------------------------------------------------------------------------------


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(parquet("c,y,a\n3,2.0,1\n4,2.5,9\n"))
    (tmp_path / "a.parquet").write_bytes(parquet())
    for hidden in ("_SUCCESS", "._a.parquet", ".ipynb_checkpoints/a-checkpoint.parquet", "_temporary/0/b.parquet"):
        (tmp_path / hidden).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / hidden).write_bytes(parquet())
    read = load(tmp_path)
    assert whole(read)["a"].tolist() == [*range(30), 1, 9]
    assert read.source.size == sum(path.stat().st_size for path in tmp_path.glob("?.parquet"))


def test_a_table_in_a_hidden_folder_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / ".cache" / "_run" / "t.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet())
    assert load(path).n_rows == load(path.parent).n_rows == 30


@pytest.mark.parametrize("values", [[2022, 2023], ["2024-01-01", "2024-02-01"], ["north & south", "w=e/st"]])
def test_the_folders_of_a_partitioned_table_are_columns(values: list[Any], tmp_path: Path) -> None:
    rows = pd.DataFrame({"x": range(40), "part": [values[i % 2] for i in range(40)], "y": [i % 7 for i in range(40)]})
    rows.to_parquet(tmp_path / "hive", partition_cols=["part"], index=False)
    read = load(tmp_path / "hive")
    kind = "integer" if values[0] == 2022 else "datetime" if values[0] == "2024-01-01" else "text"
    assert kinds(read) == {"x": "integer", "part": kind}
    whole_table = whole(read)
    by_x = whole_table.set_index(whole_table["x"].astype(int)).sort_index()["part"]
    found = [str(value)[:10] if kind == "datetime" else value for value in by_x]
    assert found == [values[i % 2] for i in range(40)]
    if kind == "integer":
        assert load(tmp_path / "hive", target="part", drop="y").n_rows == 40
        assert load(tmp_path / "hive", key="part", split="random").n_features == 1


def test_a_partition_without_a_name_is_missing(tmp_path: Path) -> None:
    for folder in ("k=1", "k=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.parquet").write_bytes(parquet())
    assert next(column for column in load(tmp_path).columns if column.name == "k").missing == 30
    (tmp_path / "0.parquet").write_bytes(parquet())
    with pytest.raises(UserError, match="do not name the same columns"):
        load(tmp_path)


PARTS: dict[str, tuple[pa.Array, pa.Array, str | None]] = {
    "text": (pa.array(["a"] * 10), pa.array(["b"] * 10, pa.large_string()), "text"),
    "views": (pa.array(["a"] * 10, pa.string_view()), pa.array(["b"] * 10).dictionary_encode(), "text"),
    "widths": (pa.array(range(10), pa.int8()), pa.array(range(10), pa.int64()), "integer"),
    "decimals": (pa.array(range(10), pa.int32()), pa.array([i / 2 for i in range(10)], pa.float32()), "number"),
    "nothing yet": (pa.nulls(10), pa.array(range(10)), "integer"),
    "nothing more": (pa.array(["a"] * 10), pa.nulls(10), "text"),
    "dates": (pa.array(range(10), pa.date32()), pa.array(range(10), pa.timestamp("ns")), "datetime"),
    "text and numbers": (pa.array(["a"] * 10), pa.array(range(10)), None),
    "booleans and numbers": (pa.array([True] * 10), pa.array(range(10)), None),
}


@pytest.mark.parametrize("what", PARTS)
def test_parts_may_store_the_same_in_several_types(what: str, tmp_path: Path) -> None:
    first, second, kind = PARTS[what]
    for name, column in {"a": first, "b": second}.items():
        table = pa.table({"c": column, "x": pa.array(range(10)), "y": pa.array(range(10))})
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    if kind is None:
        with pytest.raises(UserError, match=r"in b\.parquet the column 'c' is \w+, and \w+ in the first part"):
            load(tmp_path)
        return
    read = load(tmp_path)
    assert kinds(read) == {"c": kind, "x": "integer"}
    assert load(tmp_path, key="c" if not (first.null_count or second.null_count) else "x").n_rows == 20


def test_parts_with_other_columns_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet())
    for columns, expected in {"a,y": "the column 'c' is missing", "a,y,c,d": "there is another column, 'd'"}.items():
        row = ",".join("1" for _ in columns.split(","))
        (tmp_path / "b.parquet").write_bytes(parquet(f"{columns}\n{row}\n"))
        with pytest.raises(UserError, match=rf"in b\.parquet {expected}"):
            load(tmp_path)


def test_folders_of_other_formats_and_of_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is empty"):
        load(tmp_path)
    (tmp_path / "0.csv").write_text(CSV)
    (tmp_path / "1.csv").write_text("c,a,y\n7,1.5,2\n")  # decimals in the second part alone
    read = load(tmp_path)
    assert (read.n_rows, kinds(read)) == (31, {"a": "number", "c": "integer"})
    assert whole(read)["a"].iloc[-1] == 1.5
    (tmp_path / "2.arrow").write_bytes(ipc())
    with pytest.raises(UserError, match="holds files of several formats"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"also holds notes\.txt"):
        load(tmp_path)


@pytest.mark.parametrize(("log", "name"), [("_delta_log", "Delta"), (".hoodie", "Hudi")])
def test_a_table_with_a_log_of_its_own_is_refused_by_name(log: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(parquet())
    (tmp_path / log).mkdir()
    (tmp_path / log / "0.checkpoint.parquet").write_bytes(parquet())
    with pytest.raises(UserError, match=f"is a {name} table"):
        load(tmp_path)


# -- what identifies it --------------------------------------------------------------------------


def test_the_digests_are_those_of_earlier_versions(tmp_path: Path) -> None:
    file = load("data/diabetes.csv", "progression").source
    assert file.sha256 == "2bc61e7fd2fb43607febff223eba28c50dd90d8df941708e927bd87f186b526b"
    (tmp_path / "b").mkdir()
    for name in ("a.csv", "b/c.csv"):
        (tmp_path / name).write_text(CSV)
    assert (
        formats.describe(formats.locate(str(tmp_path))).sha256
        == "b358ae9fdd799d0d1b535b202247af22c45359867bd2971ac977434762ecfd93"
    )
    assert load(tmp_path).source == formats.describe(formats.locate(str(tmp_path)))
    for name, content in READABLE.items():
        (tmp_path / name).write_bytes(content())
        assert load(tmp_path / name).source == formats.describe(formats.locate(str(tmp_path / name))), name


@pytest.mark.parametrize("how", ["a value in place", "longer"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet())
    original = formats.Parquet.batches

    def meanwhile(self: formats.Parquet, *arguments: Any, **named: Any) -> Iterator[pa.RecordBatch]:
        yield from original(self, *arguments, **named)
        if how == "longer":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            os.utime(path, ns=(1, 1))

    monkeypatch.setattr(formats.Parquet, "batches", meanwhile)
    with pytest.raises(UserError, match="has changed while it was read"):
        load(path)


def test_a_file_elsewhere_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = fsspec.filesystem("memory")
    late = "a,y\n" + "".join(f"{i if i < 20_000 else 'x'},{i % 7}\n" for i in range(20_001))
    filesystem.pipe({"/bucket/table.csv": CSV.encode(), "/bucket/late.csv": late.encode(), "/b/0.parquet": parquet()})
    opened: list[str] = []
    original = filesystem.open

    def counted(path: str, *arguments: Any, **named: Any) -> Any:
        opened.append(path)
        return original(path, *arguments, **named)

    monkeypatch.setattr(type(filesystem), "open", lambda _, path, *rest, **named: counted(path, *rest, **named))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 20_000)  # the text in the last line is not in the first block
    assert load("memory://bucket/table.csv").n_rows == 30
    assert load("memory://b").n_rows == 30
    read = load("memory://bucket/late.csv")
    assert kinds(read) == {"a": "text"}
    assert opened == ["/bucket/table.csv", "/b/0.parquet", "/bucket/late.csv"]


# -- what cannot be read -------------------------------------------------------------------------

CUT = gzip.compress(CSV.encode())[:60]
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n \n", "is empty"),
    "empty.csv.gz": (gzip.compress(b""), "is empty"),
    "header.csv": (b"a,y,c\n", "has a header and no rows"),
    "header_without_newline.csv": (b"a,y,c", "has a header and no rows"),
    "header.arrow": (pa.BufferOutputStream().getvalue().to_pybytes() or b"ARROW1", "cannot be read as Arrow IPC"),
    "few.csv": (b"a,y,c\n1,2,3\n4,5,6\n", "has 2 rows; at least 10 are needed"),
    "short_line.csv": (f"a,y,c\n1,2,3\n\n1,2\n{ROWS}".encode(), "line 4 of .* has 2 fields, and the header has 3"),
    "long_line.csv": (
        f'a,y,c\n1,2,"x\nz"\n1,2,3,4\n{ROWS}'.encode(),
        "line 4 of .* has 4 fields, and the header has 3",
    ),
    "inches.csv": (f'a,y,c\n1,2,5" pipe\n1,2\n{ROWS}'.encode(), "line 3 of .* has 2 fields, and the header has 3"),
    "stray_quote.csv": (
        f'a,y,c\n1,"2,3\n{ROWS}'.encode(),
        "in line 2 of .* a double quote opens a value, and no quote",
    ),
    "last_quote.csv": (f'a,y,c\n{ROWS}1,2,"3\n{ROWS}'.encode(), "in line 32 of .* a double quote opens a value"),
    "title.csv": (f"Sales of 2024\n{CSV}".encode(), r"line 1 of .* \('Sales of 2024'\) is no header: the lines below"),
    "comment.csv": (f"# made by x, y, z\n{CSV}".encode(), r"line 1 of .* is no header: the names are in line 2"),
    "names.csv": (b"a,y,c,d,e\n" + ROWS.encode(), "the header of .* has 5 names, and the lines below it have 3 fields"),
    "latin1.csv": (f"a,y,c\n{ROWS}1,2,é\n".encode("latin1"), r"is not UTF-8 text; it looks like CP1252"),
    "latin1_header.csv": (f"é,y,c\n{ROWS}".encode("latin1"), "it looks like CP1252"),
    "sjis.csv": (f"a,y,都市\n{ROWS}1,2,さっぽろ\n".encode("cp932"), "it looks like CP932"),
    "euc.csv": (f"a,y,都市\n{ROWS}1,2,さっぽろ\n".encode("euc-jp"), "it looks like EUC-JP"),
    "cyrillic.csv": (f"a,y,город\n{ROWS}1,2,Москва\n".encode("cp1251"), "it looks like CP1251"),
    "half_a_letter.csv": (f'a,y,c\n{ROWS}1,2,"é'.encode()[:-1], "is not UTF-8 text"),
    "latin1_in_a_short_line.csv": (f"a,y,c\n{ROWS}1,é\n{ROWS}".encode("latin1"), "it looks like CP1252"),
    "utf16le.csv": (CSV.encode("utf-16-le"), "it looks like UTF-16LE"),
    "duplicate.csv": (CSV.replace("a,y,c", "a,y,a").encode(), "more than one column 'a'"),
    "truncated.parquet": (parquet()[:-30], "cannot be read as Parquet"),
    "half.parquet": (parquet()[:400], "cannot be read as Parquet"),
    "half.arrow": (ipc()[:400], "cannot be read as Arrow IPC"),
    "csv_inside.parquet": (CSV.encode(), "is not a Parquet file"),
    "cut.csv.gz": (CUT, "is a damaged gzip file"),
    "cut.csv.xz": (lzma.compress(CSV.encode())[:80], "is a damaged xz file"),
    "book.xlsx": (b"PK\x03\x04....", "a zip archive or an Excel file"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1....", "an old Excel file"),
    "survey.sav": (b"$FL2@(#) SPSS DATA FILE", "is an SPSS file"),
    "frame.csv": (b"\x80\x05\x95\0\0", "is a pickle"),
    "binary.csv": (bytes(range(255)) * 4, "is no text at all, but a binary file"),
    "rows.csv": (b'[\n {"a": 1, "y": 2},\n {"a": 2, "y": 3}]', "is JSON"),
    "lines.csv": (b'{"a": 1, "y": 2}\n{"a": 2, "y": 3}\n', "is JSON"),
    "page.csv": (b"<!doctype html><title>Sign in</title>", "is a web page"),
    "no_header.csv": (ROWS.encode(), "has numbers where the names of the columns should be: 0, 0.0, 0"),
    "wrong_name.csv": (CSV.replace("a,y,c", "a,yy,c").encode(), "not a column of .*; did you mean 'yy'"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_one_clear_line_for_a_file_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    content, expected = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        load(tmp_path / name)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  fix: ")


def test_a_broken_line_far_down_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 5_000)
    monkeypatch.setattr(delimited, "HEAD_BYTES", 5_000)
    lines = ["a,y,c", *(f"{i},{i % 7},z" for i in range(4_000))]
    for broken, expected in {
        "1,2": r"line 3001 of .* has 2 fields, and the header has 3",
        '1,"2,3': r"in line 3001 of .* a double quote opens a value",
        '1,2,"3': r"in line 3001 of .* a double quote opens a value",
        "1,2,\xe9": "it looks like CP1252",
    }.items():
        content = "\n".join([*lines[:3_000], broken, *lines[3_000:]])
        (tmp_path / "t.csv").write_bytes(content.encode("latin1"))
        with pytest.raises(UserError, match=expected):
            load(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("data", "expected", "fix"),
    [
        ("no/such/file.csv", r"there is no file /.*/no/such/file\.csv", "give data=PATH with the whole path"),
        ("s3://bucket/table.csv", "needs the package s3fs, which is not installed", "pip install s3fs"),
        ("abfss://c@a.dfs.core.windows.net/t.csv", "needs the package adlfs", "pip install adlfs"),
        ("nonsense://bucket/table.csv", "is not a path or URL that can be read", "give a local path"),
        ("memory://no/such.csv", "there is no file memory://no/such.csv", "check the path"),
    ],
)
def test_one_clear_line_for_a_place_that_cannot_be_reached(data: str, expected: str, fix: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        load(data)
    assert fix in caught.value.remedy


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; what begins with 4 or 5 is answered with that status."""

    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0]
        if name[:3].isdigit():
            self.send_error(int(name[:3]))
        else:
            super().do_GET()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve a folder with a table."""
    (tmp_path / "t.csv").write_text(CSV)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_a_web_server_answers_is_told_apart_and_no_secret_with_it(served: str) -> None:
    read = load(f"{served}/t.csv?sig=SECRET")
    assert (read.n_rows, read.source.uri, read.source.name) == (30, f"{served}/t.csv", "t.csv")
    for status, expected in {"404": "there is no file", "403": "may not be read", "503": "cannot be reached"}.items():
        with pytest.raises(UserError, match=expected) as caught:
            load(f"{served}/{status}.csv?sig=SECRET")
        assert "SECRET" not in str(caught.value)


def test_a_server_that_does_not_answer_is_no_missing_file(served: str) -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        load("http://127.0.0.1:1/t.csv")


def test_an_arrow_file_with_offsets_beyond_its_memory_is_damaged(tmp_path: Path) -> None:
    offsets = np.array([*range(20), 2**30], dtype=np.int32)
    columns = {"t": pa.array(["x"] * 20), "a": pa.array(range(20)), "y": pa.array(range(20))}
    content = ipc(of=pa.record_batch(columns))
    good = np.arange(21, dtype=np.int32).tobytes()
    assert content.count(good) == 1
    (tmp_path / "t.arrow").write_bytes(content.replace(good, offsets.tobytes()))
    with pytest.raises(UserError, match="cannot be read as Arrow IPC"):
        load(tmp_path / "t.arrow")


# -- how a CSV file is written -------------------------------------------------------------------


def test_what_is_recognised_of_a_csv_file_is_told(tmp_path: Path) -> None:
    values = {
        "Ort": ["Köln", "Ulm"] * 20,
        "Preis": [f"{i},5" for i in range(40)],
        "y": [f"1.{i:03d},25" for i in range(40)],
    }
    read = load(csv(tmp_path / "t.csv", values, ";"))
    assert told(read, "csv") == [f"{tmp_path / 't.csv'}: the columns are separated by semicolons, decimals by a comma"]
    assert kinds(read) == {"Ort": "text", "Preis": "number"}
    assert whole(read)[""].iloc[7] == 1007.25
    assert told(load(csv(tmp_path / "u.csv", {"a": range(20), "y": range(20)})), "csv") == []


DIALECTS: dict[str, tuple[str, str, dict[str, str], dict[str, float]]] = {
    "semicolons and points": ("a;y", "1.5;{}", {}, {"a": 1.5}),
    "commas in text": ("a;t;y", "1,5;x, y;{}", {}, {"a": 1.5}),
    "thousands and no decimals": ("a;b;y", "1.234;2,5;{}", {}, {"a": 1234}),
    "quoted decimal commas": ("a,b,y", '"1,5",7,{}', {}, {"a": 1.5, "b": 7}),
    "tabs and commas": ("a\tb\ty", "1,5\t2\t{}", {}, {"a": 1.5}),
    "told to be commas": ("a;y", "1,234;{}", {"decimal": "comma"}, {"a": 1.234}),
    "told to be points": ("a;y", "1,234;{}", {"decimal": "point"}, {"a": 1234}),
    "told to Excel": ("sep=;\na;y", "1,5;{}", {}, {"a": 1.5}),
    "told to be bars": ("a|b;c|y", "1|2|{}", {"separator": "pipe"}, {"a": 1, "b;c": 2}),
}


@pytest.mark.parametrize("what", DIALECTS)
def test_separators_and_decimals(what: str, tmp_path: Path) -> None:
    header, line, given, expected = DIALECTS[what]
    (tmp_path / "t.csv").write_text("\n".join([header, *(line.format(number) for number in range(40))]))
    read = whole(load(tmp_path / "t.csv", split="random", **given))
    assert {name: read[name].iloc[0] for name in expected} == expected


def test_decimal_commas_that_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "HEAD_BYTES", 200)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 400)
    values = ["1.234" for _ in range(100)], [i if i < 90 else f"{i},5" for i in range(100)]
    read = load(csv(tmp_path / "t.csv", {"a": values[0], "b": values[1], "y": range(100)}, ";"))
    assert set(whole(read)["a"]) == {1234.0}
    assert whole(read)["b"].iloc[-1] == 99.5


def test_a_header_one_field_short_and_a_comma_at_the_end_of_every_line(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},{2 * i}" for i in range(1, 41)]
    (tmp_path / "r.csv").write_text("\n".join(["a,y", *rows]))
    read = load(tmp_path / "r.csv")
    assert kinds(read) == {"a": "integer"}
    assert "one name less" in told(read, "csv")[0]
    assert whole(read)[""].tolist() == [2 * i for i in range(1, 41)]
    for header in ("n,a,y,", "n,a,y"):
        (tmp_path / "c.csv").write_text("\n".join([header, *(f"{row}," for row in rows)]))
        read = load(tmp_path / "c.csv")
        assert kinds(read) == {"n": "integer", "a": "integer"}
        assert whole(read)[""].tolist() == [2 * i for i in range(1, 41)]
        assert "Unnamed: 3" in told(read, "empty")[0]


@pytest.mark.parametrize("encoding", ["cp932", "euc-jp", "cp1251", "gb18030", "cp1252"])
def test_encodings_are_recognised_by_their_letters(encoding: str) -> None:
    texts = {"cp1251": "Москва и Санкт-Петербург", "gb18030": "北京市朝阳区", "cp1252": "Orléans, Besançon, Köln"}
    data = texts.get(encoding, "東京タワーへようこそ").encode(encoding)
    assert dialect.looks_like(b"id,name\n1," + data).lower().startswith(encoding)


# -- how far it is -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    ("screen", "seconds", "expected"), [(Terminal, 0, True), (Terminal, 3600, False), (io.StringIO, 0, False)]
)
def test_progress_is_told_on_a_terminal_when_it_takes_long(
    name: str,
    screen: type[io.StringIO],
    seconds: float,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    (tmp_path / "t.parquet").write_bytes(parquet())
    said = screen()
    monkeypatch.setattr(reading, "PROGRESS_SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", said)
    load(tmp_path / name)
    assert ("100%" in said.getvalue()) == expected


def test_an_empty_row_group_does_no_harm(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    with pa.parquet.ParquetWriter(tmp_path / "t.parquet", table.schema) as writer:
        writer.write_table(table)
        writer.write_table(table.slice(0, 0))
    assert load(tmp_path / "t.parquet").n_rows == 30
    pa.parquet.write_table(table.slice(0, 0), tmp_path / "e.parquet")
    with pytest.raises(UserError, match="has a header and no rows"):
        load(tmp_path / "e.parquet")


def test_names_with_points_are_those_of_columns(tmp_path: Path) -> None:
    values = {"a": np.arange(20), "a.b": np.arange(20) % 3, "y": np.arange(20.0)}
    pd.DataFrame(values).to_parquet(tmp_path / "t.parquet", index=False)
    assert kinds(load(tmp_path / "t.parquet", columns="a")) == {"a": "integer"}
    assert kinds(load(tmp_path / "t.parquet")) == {"a": "integer", "a.b": "integer"}


@pytest.mark.parametrize(
    ("separator", "uri", "name"),
    [("/", "data/a\\b.csv", "a\\b.csv"), ("/", "data/parts/", "parts"), ("\\", "C:\\data\\a.csv", "a.csv")],
)
def test_a_backslash_separates_folders_where_it_does(
    separator: str, uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.formats.os.sep", separator)
    assert formats.Source(uri, "", 0).name == name
