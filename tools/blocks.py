"""The blocks that cog writes into MLproject, submit/*.yml and the docs, from trainer/settings.py: `make sync`."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import yaml

from trainer.settings import ENTRY_POINTS, HYPERPARAMETERS, Parameter

SCRIPTS = {name: "train" if name == "main" else name for name in ENTRY_POINTS}
# What a job is given as files: their paths are put in quotes, for they are the node's and not spelled by the user.
FILES = ("data", "search")
# A trial registers nothing, and what it is not told keeps its default.
NOT_IN_TRIALS = (*HYPERPARAMETERS, "model_name", "promote", "must")
ROOT = Path(__file__).resolve().parent.parent
SWEEP_YML, MAKEFILE = ROOT / "submit" / "sweep.yml", ROOT / "Makefile"


def mlproject(entry_point: str) -> str:
    """Return the parameters and the command of an entry point of MLproject."""
    parameters = ENTRY_POINTS[entry_point]
    lines = ["    parameters:"]
    for group, members in _groups(parameters):
        lines.append(f"      # {group}")
        lines += (f"      {one.name}: {{type: string, default: {_scalar(one.default)}}}" for one in members)
    lines += ["    command: >-", f"      python {SCRIPTS[entry_point]}.py"]
    lines += (f"      {one.flag} {{{one.name}}}" for one in parameters)
    return "\n".join(lines)


def job_command() -> str:
    """Return the command of a job."""
    lines = ["command: >-", "  python train.py"]
    lines += (f"  {one.flag} {_placed('inputs', one)}" for one in ENTRY_POINTS["main"])
    return "\n".join(lines)


def trial_command(searched: Sequence[str]) -> str:
    """Return the command of a sweep job's trial, which has its hyperparameters from the search space."""
    lines = ["  command: >-", "    python train.py"]
    for one in ENTRY_POINTS["main"]:
        if one.name in searched:
            lines.append(f"    {one.flag} {_placed('search_space', one)}")
        elif one.name == "model_name":
            lines.append(f"    {one.flag} none")
        elif one.name not in NOT_IN_TRIALS:
            lines.append(f"    {one.flag} {_placed('inputs', one)}")
    return "\n".join(lines)


def job_inputs(left_out: Sequence[str] = ()) -> str:
    """Return the inputs of a job but those that are left out; all of them text, so that they arrive as spelled."""
    lines = []
    for group, members in _groups(ENTRY_POINTS["main"]):
        shown = [one for one in members if one.name not in left_out]
        if shown:
            lines.append(f"  # {group}")
        for one in shown:
            file = f"{{type: uri_file, path: ../{one.default}}}"
            lines.append(f"  {one.name}: {file if one.name in FILES else _scalar(one.default)}")
    return "\n".join(lines)


def table(*entry_points: str, left_out: Sequence[str] = ()) -> str:
    """Return the table of parameters of entry points."""
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for entry_point in entry_points:
        for one in ENTRY_POINTS[entry_point]:
            if one.name not in left_out:
                meaning = one.meaning.replace("|", "\\|")
                lines.append(f"| `{one.name}` | `{one.default}` | {meaning} |")
    return "\n".join(lines)


def remarks() -> str:
    """Return the table of what is remarked on."""
    from trainer.checks import CHECKS

    lines = ["| code | when | why it matters | what to do |", "|---|---|---|---|"]
    lines += (f"| `{one.code}` | {one.detected} | {one.why} | {one.remedy} |" for one in CHECKS)
    return "\n".join(lines)


def verbs() -> str:
    """Return the table of what each verb of the Makefile runs."""
    makefile = MAKEFILE.read_text(encoding="utf-8")
    lists = dict(re.findall(r"^([A-Z]+) = (.+)$", makefile, re.MULTILINE)) | {"ARGS": ""}
    lines = ["| verb | without make |", "|---|---|"]
    for name, after, recipe in re.findall(r"^([a-z-]+):([^#\n]*)## .*\n((?:\t.*\n)*)", makefile, re.MULTILINE):
        if name == "help":
            continue
        commands = [part.strip() for line in recipe.splitlines() for part in line.split("&&")]
        plain = [re.sub(r"\$\((\w+)\)", lambda found: lists[found[1]], command).strip() for command in commands]
        ran = ", ".join(f"`{command}`" for command in plain) or ", ".join(f"`make {verb}`" for verb in after.split())
        lines.append(f"| `make {name}` | {ran} |")
    return "\n".join(lines)


def searched() -> tuple[str, ...]:
    """Return the hyperparameters that submit/sweep.yml searches."""
    return tuple(yaml.safe_load(SWEEP_YML.read_text(encoding="utf-8"))["search_space"])


def _placed(source: str, parameter: Parameter) -> str:
    placed = f"${{{{{source}.{parameter.name}}}}}"
    return f'"{placed}"' if parameter.name in FILES else placed


def _groups(parameters: Sequence[Parameter]) -> Iterator[tuple[str, list[Parameter]]]:
    for group, members in groupby(parameters, key=lambda parameter: parameter.group):
        yield group, list(members)


def _scalar(text: str) -> str:
    """Write text as a scalar that YAML reads as text."""
    return text if yaml.safe_load(text) == text else f'"{text}"'
