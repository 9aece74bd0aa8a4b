"""What the documents tell a reader to type runs, and prints what they show."""

import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import click
import mlflow
import mlflow.cli
import numpy as np
import pandas as pd
import pytest

from submit import remote
from tests.conftest import ROOT, script
from tests.standin import __main__ as standin_command
from trainer import cli, settings
from trainer.errors import UserError

DOCUMENTS = (*sorted(ROOT.glob("README*.md")), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
# In this order, from an empty store: what a page shows may need what a page before has made.
SHOWN = (
    *("README.md", "train.md", "tables.md", "report.md", "compare.md", "compare-and-promote.md"),
    *("predict-and-deploy.md", "trust.md"),
)
ENTRY_OF = {"train": "main"} | {name: name for name in settings.ENTRY_POINTS if name != "main"}
SCRIPT_OF = {entry: name for name, entry in ENTRY_OF.items()}
# Programs that are no part of the environment; their options are their own.
ELSEWHERE = ("az", "brew", "cat", "cd", "curl", "export", "git", "head", "pip", "pipx", "python3", "sh", "source", "uv")
COMMANDS_HERE = {entry.name for entry in metadata.entry_points(group="console_scripts")}
# Of groups that are not always installed.
IN_GROUPS = {"deptry", "jupyter", "lint-imports", "mypy", "ruff"}


@dataclass(frozen=True)
class Command:
    """A command of a document, and the lines that it is said to print."""

    document: str
    text: str
    output: tuple[str, ...] = ()

    @property
    def parts(self) -> list[list[str]]:
        """The words of each command of the line."""
        words = shlex.split(self.text, comments=True)
        ends = [-1, *(place for place, word in enumerate(words) if word == "&&"), len(words)]
        return [words[start + 1 : end] for start, end in pairwise(ends) if end > start + 1]


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown(path: Path) -> Iterator[Command]:
    """Yield the commands of the blocks of a document, with what they print."""
    for block in fenced(path, "console"):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            text, *output = one.splitlines()
            yield Command(path.name, text, tuple(line for line in output if line not in ("", "...")))


def named(path: Path) -> Iterator[Command]:
    """Yield the commands in the running text of a document; those with a gap are none."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for one in re.findall(r"`((?:uv run|make|python|mlflow) [^`]+)`", text):
        if "..." not in one:
            yield Command(path.name, one.replace("\\|", "|"))


COMMANDS = [command for path in DOCUMENTS for command in (*shown(path), *named(path))]


def check(words: list[str]) -> None:
    """Raise what the program itself would say to such a command line."""
    if words[:2] == ["uv", "run"]:
        words = words[2:]
        while words[0] in ("--group", "--only-group", "--python", "--with"):
            words = words[2:]
    program, *rest = words
    if program == "mlflow":
        check_mlflow(rest)
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None, rest[1]
        if rest[1] == "tests.standin" and (inner := standin_command.parse(rest[2:]).command):
            check(inner)
    elif program == "python" and rest[0] == "submit/remote.py":
        check_remote(rest[1:])
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), rest[0]
        if entry := ENTRY_OF.get(Path(rest[0]).stem):
            check_script(entry, rest[1:])
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), rest[0]
    elif program not in ELSEWHERE:
        assert program in COMMANDS_HERE | IN_GROUPS, program
    if "-f" in rest and program == "az":
        assert (ROOT / rest[rest.index("-f") + 1]).is_file()


def check_script(entry: str, flags: list[str]) -> None:
    if flags in (["--help"], ["-h"]):
        return
    given = vars(cli._parser("", settings.ENTRY_POINTS[entry]).parse_args(flags))
    check_values(entry, {name: given[name] for name in settings.defaults(entry)})


def check_values(entry: str, given: dict[str, str]) -> None:
    if entry == "main":
        settings.read(given)
    else:
        settings.values(settings.ENTRY_POINTS[entry], given)


def check_mlflow(words: list[str]) -> None:
    with mlflow.cli.cli.make_context("mlflow", list(words)) as context:
        name, command, rest = mlflow.cli.cli.resolve_command(context, list(words))
        assert command is not None, name
        while isinstance(command, click.Group):
            _, command, rest = command.resolve_command(context, rest)
            assert command is not None, words
        if not rest and name not in ("ui", "server"):
            return  # the command's name, in a sentence
        parameters = command.make_context(name, rest, parent=context).params
    if name == "run" and parameters["uri"] == ".":
        entry = str(parameters["entry_point"])
        given = dict(one.split("=", 1) for one in parameters["param_list"])
        assert not given.keys() - settings.defaults(entry).keys(), words
        check_values(entry, settings.defaults(entry) | given)


def check_remote(words: list[str]) -> None:
    with remote.cli.make_context("remote.py", list(words)) as context:
        left = [*context._protected_args, *context.args]
        if left:
            name, command, rest = remote.cli.resolve_command(context, left)
            assert command is not None
            command.make_context(name, rest, parent=context)
        elif "..." not in words:
            entry = context.params["entry_point"]
            given = dict(one.split("=", 1) for one in context.params["parameters"])
            if not context.params.get("project"):  # of another project, it is that project's to say
                assert not given.keys() - settings.defaults(entry).keys(), words
                check_values(entry, settings.defaults(entry) | given)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.document}: {command.text}")
def test_a_command_can_be_typed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALES_URL", "https://example.org/sales.csv")
    for words in command.parts:
        check(words)


@pytest.mark.parametrize(
    "text",
    [
        "uv run mlflow run . -e trian", "uv run mlflow run . -P alhpa=1", "uv run mlflow run . -P alpha=much",
        "uv run mlflow ui --worker 1", "uv run mlflow uy", "uv run python train.py --tagret=x", "make everything",
        "uv run python champion.py --version=newest", "uv run python submit/remote.py -P alhpa=1", "trian",
        "uv run python submit/remote.py atach JOB", "uv run python submit/remote.py --sise=x",
        "uv run python -m tests.standin --fault preempted", "uv run python -m trainers", "uv run python trainer.py",
        "az ml job create -f job.yml",
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_typed_is_found(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((AssertionError, UserError, click.UsageError, KeyError, SystemExit)):
        check(shlex.split(text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_code_of_a_document_can_be_read(path: Path) -> None:
    for block in fenced(path, "python"):
        compile(block, path.name, "exec")


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of a table of parameters."""
    found = re.findall(r"^\| (`[^|]+`) \| (`[^|]+`) \| (.+) \|$", text, re.MULTILINE)
    return [list(row) for row in found if row[0].strip("`") in settings.defaults()]


def test_both_readmes_have_the_same_commands_outputs_and_parameters() -> None:
    english, japanese = ROOT / "README.md", ROOT / "README.ja.md"
    blocks = fenced(japanese, "console")
    assert [block for block in blocks if block in fenced(english, "console")] == fenced(english, "console")
    elsewhere = [block for path in DOCUMENTS if path != japanese for block in fenced(path, "console")]
    for block in blocks:
        assert block in elsewhere, block
    ours, theirs = (rows(path.read_text(encoding="utf-8")) for path in (english, japanese))
    assert [row[:2] for row in theirs] == [row[:2] for row in ours]
    assert sum(bool(re.search(r"[\u3041-\u30fe\u4e00-\u9fff]", meaning)) for _, _, meaning in theirs) >= 20
    words = [settings.SPLITS, settings.PROMOTIONS, tuple(settings.BOUNDED)]
    for word in (word for group in words for word in group):
        assert any(word in meaning for _, _, meaning in theirs), word


def write_cars(path: Path) -> None:
    """Write the table that docs/tables.md shows: dates, a mark for what is missing, rows without a target."""
    rng = np.random.default_rng(0)
    n_rows = 400
    days = np.sort(rng.integers(0, 5000, n_rows))
    days[0] = 0
    make, power = rng.integers(0, 8, n_rows), rng.integers(60, 220, n_rows)
    price = 4000 + 120 * power - 1.1 * (5000 - days) + 900 * make + rng.normal(0, 1500, n_rows)
    frame = pd.DataFrame(
        {
            "make": [f"maker {letter}" for letter in np.array(list("ABCDEFGH"))[make]],
            "hp": power.astype(str),
            "first_registration": (pd.Timestamp("2007-08-15") + pd.to_timedelta(days, "D")).strftime("%d.%m.%Y"),
            "price": [f"{one:.0f}" for one in price],
        }
    )
    frame.loc[[7, 150, 311], "hp"] = "?"
    frame.loc[[5, 60, 61, 190, 240, 333, 398], "price"] = ""
    frame.to_csv(path)


def comparable(line: str) -> str:
    """Write a line without what differs from run to run, and without what names another store."""
    line = re.sub(r" --backend-store-uri \S+", "", line)
    line = re.sub(r"\b\d+\.\d{3} s\b", "SECONDS", line)
    line = re.sub(r"\b[\d.]+ [kM]B\b", "SIZE", line)  # a model's file names objects by their places in memory
    return re.sub(r"\b[0-9a-f]{32}\b", "RUN", line).strip()


def local(command: Command) -> tuple[str, dict[str, str]] | None:
    """Return the entry point and parameters of a command that runs here, on a table that is here."""
    words = [word for word in command.parts[-1] if word not in ("uv", "run", "--env-manager", "local", ".")]
    if words[:1] == ["mlflow"] and ("run ." in command.text):
        pairs = [word for flag, word in pairwise(words) if flag == "-P"]
        given = dict(pair.split("=", 1) for pair in pairs)
        entry = words[words.index("-e") + 1] if "-e" in words else "main"
    elif words[:1] == ["python"] and (entry := ENTRY_OF.get(Path(words[1]).stem, "")):
        given = {flag[2:].replace("-", "_"): word for flag, word in zip(words[2::2], words[3::2], strict=True)}
    else:
        return None
    return (entry, given) if Path(given.get("data", settings.SHIPPED)).exists() else None


def test_commands_print_what_the_documents_show(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "submit").mkdir()
    shutil.copy(ROOT / "submit" / "sweep.yml", tmp_path / "submit")
    write_cars(tmp_path / "cars.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV", "uv")
    tried = 0
    for path in (path for name in SHOWN for path in DOCUMENTS if path.name == name):
        for command in shown(path):
            if command.output and (found := local(command)):
                entry, given = found
                follows(printed_by(SCRIPT_OF[entry], given, capsys), command)
                tried += 1
    assert tried >= 9


def printed_by(name: str, given: dict[str, str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    done = script(importlib.import_module(name).main, capsys)(**given)
    return [comparable(line) for line in (done.out + done.err).splitlines()]


def follows(printed: list[str], command: Command) -> None:
    """Assert that lines are among those that were printed, in their order."""
    at = 0
    for line in map(comparable, command.output):
        assert line in printed[at:], f"{command.document}: {command.text}\n{line}\nis not in\n" + "\n".join(printed)
        at = printed.index(line, at) + 1
