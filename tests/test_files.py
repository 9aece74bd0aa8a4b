"""Reading: every form that is promised, and one clear line for every file that cannot be used."""

import gzip
import io
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from trainer import files, table
from trainer.errors import UserError

ROWS = "".join(f"{i},{i * 2.5},{i % 3}\n" for i in range(30))
CSV = f"a,y,c\n{ROWS}"


def parquet(csv: str = CSV) -> bytes:
    return bytes(pd.read_csv(io.StringIO(csv)).to_parquet(index=False))


READABLE = {
    "plain.csv": CSV.encode(),
    "zipped.csv.gz": gzip.compress(CSV.encode()),
    "columns.parquet": parquet(),
    "with_bom.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "no_ending": CSV.encode(),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_form_of_a_table_reads_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(READABLE[name])
    read = table.read(str(tmp_path / name), "y")
    assert list(read.features.columns) == ["a", "c"]
    assert read.features["a"].tolist() == list(range(30))
    assert read.target.tolist() == [i * 2.5 for i in range(30)]
    assert read.source.name == name
    assert read.source.size == len(READABLE[name])


def test_a_folder_of_parquet_parts_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(parquet("a,y,c\n1,2,3\n" * 1))
    (tmp_path / "a.parquet").write_bytes(parquet(CSV.replace("2.5", "2")))
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(UserError, match=r"in b\.parquet the column 'y' is int64, and double in the first"):
        table.read(str(tmp_path), "y")
    (tmp_path / "b.parquet").write_bytes(parquet("c,y,a\n3,2.0,1\n4,2.5,9\n"))
    read = table.read(str(tmp_path), "y")
    assert read.features["a"].tolist() == [*range(30), 1, 9]
    assert read.source.size == sum(path.stat().st_size for path in tmp_path.glob("*.parquet"))


def test_the_digest_tells_contents_apart_and_nothing_else(tmp_path: Path) -> None:
    for name, text in {"one.csv": CSV, "two.csv": CSV, "three.csv": CSV + "1,2,3\n"}.items():
        (tmp_path / name).write_text(text)
    digests = [
        files.describe(files.locate(str(tmp_path / name))).sha256 for name in ("one.csv", "two.csv", "three.csv")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_any_file_system_of_fsspec_will_do() -> None:
    with fsspec.open("memory://bucket/table.csv", "wb") as stream:
        stream.write(CSV.encode())
    assert len(table.read("memory://bucket/table.csv", "y").target) == 30


UNREADABLE = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"a,y,c\n", "has a header and no rows"),
    "header_without_newline.csv": (b"a,y,c", "has a header and no rows"),
    "few.csv": (b"a,y,c\n1,2,3\n4,5,6\n", "has 2 rows; at least 10 are needed"),
    "short_line.csv": (
        f"a,y,c\n1,2,3\n\n1,2\n{ROWS}".encode(),
        "line 4 of .* has 2 fields, and the header has 3",
    ),
    "long_line.csv": (
        f'a,y,c\n1,2,"x\nz"\n1,2,3,4\n{ROWS}'.encode(),
        "line 4 of .* has 4 fields, and the header has 3",
    ),
    "latin1.csv": (f"a,y,c\n{ROWS}1,2,é\n".encode("latin1"), "column 'c' of .* is not UTF-8"),
    "latin1_header.csv": (f"é,y,c\n{ROWS}".encode("latin1"), "the header of .* is not UTF-8"),
    "utf16.csv": (CSV.encode("utf-16"), "is not UTF-8"),
    "semicolons.csv": (CSV.replace(",", ";").encode(), "the target 'y' is not a column"),
    "duplicate.csv": (CSV.replace("a,y,c", "a,y,a").encode(), "more than one column 'a'"),
    "index.csv": (CSV.replace("a,y,c", ",y,c").encode(), "the row index of a notebook's DataFrame"),
    "truncated.parquet": (parquet()[:-30], "cannot be read as Parquet"),
    "half.parquet": (parquet()[:400], "cannot be read as Parquet"),
    "csv_inside.parquet": (CSV.encode(), "is not a Parquet file"),
    "cut.csv.gz": (gzip.compress(CSV.encode())[:60], "is a damaged gzip file"),
    "book.xlsx": (b"PK\x03\x04....", "a zip archive or an Excel file"),
    "missing_target.csv": (f"{CSV}1,,2\n".encode(), "the target 'y' of .* is missing in row 31"),
    "text_target.csv": (f"{CSV}1,oops,2\n".encode(), r"not numeric, but string \(row 31 says 'oops'\)"),
    "constant_target.csv": (b"a,y\n" + b"1,5\n2,5\n" * 6, "has one value only, 5"),
    "infinite_target.csv": (f"{CSV}1,inf,2\n".encode(), "column 'y' of .* is infinite in row 31"),
    "infinite.csv": (
        f"{CSV}-inf,1,2\ninf,1,2\n".encode(),
        "'a' of .* is infinite in 2 rows, the first of them row 31",
    ),
    "all_missing.csv": (
        CSV.replace("\n", ",\n").replace("c,\n", "c,d\n").encode(),
        "column 'd' of .* are missing",
    ),
    "no_feature.csv": (("y\n" + "".join(f"{i}\n" for i in range(20))).encode(), "has no feature"),
    "dates.csv": (
        ("a,y\n" + "".join(f"2024-01-{i:02},{i}\n" for i in range(1, 20))).encode(),
        "is of type date32",
    ),
    "wrong_name.csv": (CSV.replace("a,y,c", "a,yy,c").encode(), "not a column of .*; did you mean 'yy'"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_one_clear_line_for_a_table_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    content, expected = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        table.read(str(tmp_path / name), "y")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  fix: ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("no/such/file.csv", "there is no file no/such/file.csv"),
        ("s3://bucket/table.csv", "needs a driver that is not installed"),
        ("nonsense://bucket/table.csv", "is not a path or URL that can be read"),
    ],
)
def test_one_clear_line_for_a_place_that_cannot_be_reached(data: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        table.read(data, "y")


def test_a_folder_holds_the_parts_of_one_parquet_table_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is empty"):
        table.read(str(tmp_path), "y")
    (tmp_path / "part.parquet").write_bytes(parquet())
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"also holds notes\.txt"):
        table.read(str(tmp_path), "y")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("d",), "the key 'd' is not a column"),
        (("y",), "given as target and as key"),
        (("a", "c"), "has no feature"),
    ],
)
def test_one_clear_line_for_a_key_that_cannot_be_one(key: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(UserError, match=expected):
        table.read(str(tmp_path / "t.csv"), "y", key)


def test_a_row_without_a_key_belongs_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{CSV}1,2,\n")
    with pytest.raises(UserError, match=r"the key 'c' of .* is missing in row 31"):
        table.read(str(tmp_path / "t.csv"), "y", ("c",))
