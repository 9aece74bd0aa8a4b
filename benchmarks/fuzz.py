"""Train on damaged files: whatever their bytes, the outcome is a model or an error of two lines.

    uv run python -m benchmarks.fuzz --minutes 10
    uv run python -m benchmarks.fuzz --seed 0 --trial 1234      # that one again, with its traceback

A table with every kind of column is written in each format; bytes of it are changed, left out, doubled or put in, of
a compressed CSV file also before it is compressed. A child process reads the file, trains and measures, so that a
crash inside a library is seen, too.
"""

import argparse
import bz2
import collections
import gzip
import io
import lzma
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from trainer import checks, settings, training
from trainer.errors import UserError
from trainer.table import load

ROWS = 60
TRIALS_A_CHILD = 200
# A trial may take so much CPU, in seconds, and address space.
SECONDS, MEMORY = 20, 4 * 2**30
ODD = [b"", b"\0", b"\xff", b'"', b",", b"\n", b"\r", b"-", b"1e999", b"nan", b"\xc3", b"9" * 20, b"\xff\xff\xff\x7f"]


def frame() -> pd.DataFrame:
    """Make a table with every kind of column."""
    rng = np.random.default_rng(0)
    at = np.arange(ROWS)
    made = pd.DataFrame(
        {
            "number": rng.normal(size=ROWS).round(3),
            "integer": rng.integers(0, 50, ROWS),
            "text": rng.choice(["Oslo", "Zürich", 'say "hi", you', "two\nlines"], ROWS),
            "flag": rng.random(ROWS) < 0.5,
            "day": pd.date_range("2024-01-30", periods=ROWS).astype("datetime64[us]"),
            "price": [f"${1000 + 7 * one:,}" for one in at],
            "gaps": np.where(at % 7 == 0, np.nan, at * 0.5),
        }
    )
    return made.assign(y=made["number"] * 3 + made["integer"] + at)


def _csv(encoding: str = "utf-8") -> bytes:
    return frame().to_csv(index=False).encode(encoding)


def _parquet(**given: object) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pandas(frame(), preserve_index=False), sink, row_group_size=25, **given)
    return sink.getvalue()


def _feather(compression: str) -> bytes:
    sink = io.BytesIO()
    pa.feather.write_feather(pa.Table.from_pandas(frame(), preserve_index=False), sink, compression=compression)
    return sink.getvalue()


def _stream() -> bytes:
    table = pa.Table.from_pandas(frame().astype({"text": "category"}), preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    return sink.getvalue()


def _zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".csv.gz": partial(gzip.compress, mtime=0),
    ".csv.bz2": bz2.compress,
    ".csv.xz": lzma.compress,
    ".csv.zst": _zstd,
}


@cache
def originals() -> dict[str, bytes]:
    """Return a sound file of each format, by the ending of its name; what stands before a dash is no part of it."""
    return {
        ".csv": _csv(),
        "semicolon-.csv": frame().to_csv(index=False, sep=";", decimal=",").encode(),
        "utf16-.csv": _csv("utf-16"),
        **{ending: pack(_csv()) for ending, pack in PACKED.items()},
        ".parquet": _parquet(),
        "zstd-.parquet": _parquet(compression="zstd", use_dictionary=False, data_page_version="2.0"),
        "plain-.parquet": _parquet(compression="none"),
        ".feather": _feather("lz4"),
        "plain-.feather": _feather("uncompressed"),
        ".arrows": _stream(),
    }


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, at one place or several."""
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        at = int(rng.integers(0, len(changed) + 1))
        # footers and headers say the most
        at = [at, min(at, 64), len(changed) - min(at, 64), len(changed) - min(at, 2_000)][int(rng.integers(0, 4))]
        at, length = max(0, at), int(rng.choice([1, 1, 2, 4, 8, 30, 500]))
        way = int(rng.integers(0, 6))
        if way == 0:
            changed[at : at + length] = rng.bytes(len(changed[at : at + length]))
        elif way == 1 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif way == 2:
            del changed[at : at + length]
        elif way == 3:
            changed[at:at] = changed[at : at + length]
        elif way == 4:
            changed[at:at] = ODD[int(rng.integers(0, len(ODD)))]
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def damaged(seed: int, trial: int) -> tuple[str, bytes]:
    """Return the ending and the bytes of one trial's file."""
    rng = np.random.default_rng([seed, trial])
    files = originals()
    name = list(files)[trial % len(files)]
    if name in PACKED and rng.random() < 0.3:
        return name, PACKED[name](mutated(_csv(), rng))
    return name.split("-")[-1], mutated(files[name], rng)


def attempt(path: Path) -> str:
    """Train on a file, and say what came of it; two lines are one word."""
    given = {"data": str(path), "target": "y", "model_name": "none", "cv": "2"}
    asked = settings.read(settings.defaults() | given)
    try:
        table = load(asked)
        outcome = training.learn(asked, table)
        checks.examine(asked, table, outcome.metrics, outcome.predicted)
    except UserError as error:
        if len(str(error).splitlines()) != 2 or not error.cause or not error.remedy:
            return f"not two lines: {error}"
        return "two lines"
    except MemoryError:
        return "two lines"  # the command line says them
    except Exception:  # noqa: BLE001 - what is looked for here
        return traceback.format_exc()
    return "trained"


def child(folder: Path, seed: int, trials: range) -> None:
    """Try some files, and write a line for each, before and after."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with (folder / "log").open("w", buffering=1) as log:
        for trial in trials:
            name, data = damaged(seed, trial)
            path = folder / f"table{name}"
            path.write_bytes(data)
            log.write(f"{trial}\t{name}\t")
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            log.write(repr(attempt(path)) + "\n")
            signal.setitimer(signal.ITIMER_PROF, 0)
            path.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="one alone, in this process")
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch)
        if given.trial is not None:
            ending, data = damaged(given.seed, given.trial)
            (folder / f"table{ending}").write_bytes(data)
            print(attempt(folder / f"table{ending}"))
            return 0
        return _report(folder, given.seed, monotonic() + 60 * given.minutes)


def _report(folder: Path, seed: int, end: float) -> int:
    attempt_of: dict[int, tuple[str, str]] = {}
    trial = 0
    attempt(_sound(folder))  # imports everything once
    while monotonic() < end:
        pid = os.fork()
        if not pid:
            child(folder, seed, range(trial, trial + TRIALS_A_CHILD))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for line in (folder / "log").read_text().splitlines():
            number, ending, said = line.split("\t", 2)
            trial = int(number) + 1
            attempt_of[int(number)] = ending, said or repr(f"ended by signal {-status}, or exit code {status}")
    counts = collections.Counter((ending, _kind(said)) for ending, said in attempt_of.values())
    for (ending, kind), count in sorted(counts.items()):
        print(f"{ending:<16} {kind:<16} {count}")
    faults = [(at, said) for at, (_, said) in attempt_of.items() if _kind(said) == "FAULT"]
    for at, said in faults:
        print(f"trial {at}: {said[-400:]}")
    return 1 if faults else 0


def _sound(folder: Path) -> Path:
    path = folder / "table.csv"
    path.write_bytes(_csv())
    return path


def _kind(said: str) -> str:
    return said.strip("'") if said.strip("'") in ("trained", "two lines") else "FAULT"


if __name__ == "__main__":
    sys.exit(main())
