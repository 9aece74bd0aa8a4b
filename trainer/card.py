"""What a run says of itself in Markdown: the model card, and the descriptions that MLflow shows.

Names of columns, files and parameters come from users: none of them is read as Markdown or HTML.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from trainer import pipeline
from trainer.errors import Remark
from trainer.settings import HYPERPARAMETERS, Settings

if TYPE_CHECKING:
    import pandas as pd

    from trainer.lineage import Lineage
    from trainer.table import Column, Table
    from trainer.training import Outcome

# The rows of a table that a reader looks at.
MOST_COLUMNS, MOST_IMPORTANT = 100, 20
# Of a description: MLflow cuts a tag off at 8,000 characters, and a workspace may sooner.
MOST_CHARACTERS = 4_000
# Of a run's name: a column of the runs table.
MOST_NAME = 100

_SPECIAL = re.compile(r"([\\`*{}\[\]#|~>$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|!(?=\[))")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True)
class Standing:
    """What the registry has said of a run's model; no version where none was registered, `unmet` where it must not."""

    run_id: str
    model_name: str | None = None
    version: str | None = None
    verdict: str | None = None
    promoted: bool = False
    unmet: tuple[str, ...] = ()


def plain(text: object) -> str:
    """Return a text on one line, without what moves a cursor or turns the direction of writing."""
    return " ".join(CONTROL.sub(" ", str(text)).split())


def escaped(text: object) -> str:
    """Return a text on one line that Markdown and HTML show as it is."""
    return _SPECIAL.sub(r"\\\1", plain(text).replace("&", "&amp;").replace("<", "&lt;"))


def code(text: object) -> str:
    """Return a text as a span of code, which is shown as it is; one with a tag in it as escaped text."""
    shown = plain(text) or " "
    if "<" in shown:  # a span of code is safe in Markdown, and not everything that shows a card reads Markdown
        return escaped(shown)
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", shown)), default=0))
    room = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{room}{shown}{room}{fence}"


def figure(value: float) -> str:
    """Return a number with four decimals, or as many digits as a very small or large one needs."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1e7 else f"{value:.5g}"


def sentence_on_rmse(metrics: Mapping[str, float]) -> str:
    """Say the RMSE with its interval, beside that of the mean predictor: ``48.0518  (95 % 42.09 to 54.31; ...)``."""
    rmse, baseline = metrics["rmse"], metrics["baseline_rmse"]
    parts = []
    if "rmse_low" in metrics:
        parts.append(f"95 % {_short(metrics['rmse_low'])} to {_short(metrics['rmse_high'])}")
    if rmse < baseline:
        parts.append(f"mean predictor {figure(baseline)}")
    else:
        how = "as good as" if figure(rmse) == figure(baseline) else "worse than"
        parts.append(f"{how} the mean predictor's {figure(baseline)}")
    return f"{figure(rmse)}  ({'; '.join(parts)})"


def _short(value: float) -> str:
    return f"{value:.2f}" if 1 <= abs(value) < 1e7 else f"{value:.3g}"


def run_name(settings: Settings, data_name: str, search: bool = False) -> str:
    """Name a run after what it is: ``ridge alpha=0.1 diabetes.csv``, ``sweep ridge diabetes.csv``."""
    own = [] if search else [f"{name}={text}" for name, text in spelled(settings).items()]
    return plain(" ".join([*(["sweep"] if search else []), settings.estimator, *own, data_name]))[:MOST_NAME]


def comparison_name(estimators: Sequence[str], data_name: str) -> str:
    """Name a run after what it compares: ``compare 5 estimators diabetes.csv``, ``compare ridge xgboost cars.csv``."""
    what = " ".join(estimators) if len(estimators) <= 2 else f"{len(estimators)} estimators"
    return plain(f"compare {what} {data_name}")[:MOST_NAME]


def spelled(settings: Settings) -> dict[str, str]:
    """Return the hyperparameters that were given, as they were spelled."""
    given = {name: settings.given.get(name, "auto") for name in HYPERPARAMETERS}
    return {name: text for name, text in given.items() if text != "auto"}


def model_description(settings: Settings, data_name: str) -> str:
    """Describe a registered model, whose versions come and go."""
    return f"Predicts {code(settings.target)} from {code(data_name)}: `trainer`'s versions and their champion."


def run_description(
    settings: Settings, table: "Table", metrics: Mapping[str, float], remarks: Sequence[Remark], standing: Standing
) -> str:
    """Describe a run, and a version: how good it is, what was remarked on, what came of it, what can be done next."""
    lines = [
        f"**rmse {escaped(sentence_on_rmse(metrics))}** on {metrics['rows_test']:.0f} test rows",
        f"{code(settings.target)} by {settings.estimator}{_with(settings)} from {code(table.source.name)}: "
        f"{metrics['rows_train']:.0f} training rows, {_counted(table.n_features, 'feature')}, {settings.split} split",
    ]
    if "cv_rmse_mean" in metrics:
        lines.append(f"cv rmse {figure(metrics['cv_rmse_mean'])} ± {figure(metrics['cv_rmse_std'])}")
    if standing.verdict:
        lines.append(f"**champion?** {escaped(standing.verdict)}")
    parts = ["  \n".join(lines)]
    if remarks:
        parts.append("\n".join(f"* **!** {escaped(remark.text)}" for remark in remarks))
    parts.append("```\n" + "\n".join(next_commands(standing)) + "\n```")
    text = "\n\n".join(parts)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rsplit("\n", 1)[0]


def _with(settings: Settings) -> str:
    return "".join(f" {name}={escaped(text)}" for name, text in spelled(settings).items())


def next_commands(standing: Standing) -> list[str]:
    """Return the commands that a person may want next."""
    if standing.version is None:
        model = f"runs:/{standing.run_id}/models"
        return [f"uv run python predict.py --model {model} --data NEW.csv", f"uv run python verify.py --model {model}"]
    model = f"models:/{standing.model_name}/{standing.version}"
    commands = [f"uv run python predict.py --model {model} --data NEW.csv", f"uv run python verify.py --model {model}"]
    if not standing.promoted:
        commands.append(f"uv run python champion.py --model-name {standing.model_name} --version {standing.version}")
    return commands


def write(
    settings: Settings,
    table: "Table",
    outcome: "Outcome",
    lineage: "Lineage",
    remarks: Sequence[Remark],
    standing: Standing,
) -> str:
    """Return the model card as Markdown, made by `skops.card`, below the lines that Hugging Face's Hub reads."""
    from skops.card import Card

    metrics = outcome.metrics
    card = Card(outcome.model, template=None)
    summary, commands = run_description(settings, table, metrics, remarks, standing).rsplit("\n\n", 1)
    card.add(
        **{
            "What it does": f"Predicts {code(settings.target)} with the estimator `{settings.estimator}`.",
            "How good it is": summary,
            "Next": commands,
            "Data": f"{code(lineage.data_name)}, {_counted(table.n_rows, 'row')} and "
            f"{_counted(table.n_features, 'feature')}, sha256 `{lineage.data_sha256}`. The {settings.split} split held "
            f"{_counted(int(metrics['rows_test']), 'test row')} back."
            + (
                f" {table.rows_without_target} rows without a target were left out."
                if table.rows_without_target
                else ""
            ),
            "Use": f'`mlflow.pyfunc.load_model("runs:/{lineage.run_id}/models").predict(frame)`, with the '
            "columns of the signature in any order.",
            "Columns": _missing(table.columns),
            "Lineage": f"MLflow run `{lineage.run_id}`, git commit {code(lineage.git.commit)}.",
        }
    )
    hyperparameters = pipeline.final(outcome.model).get_params()
    for title, columns in {
        "Columns": _columns(table.columns),
        "Metrics": {"metric": list(metrics), "value": [f"{value:.6g}" for value in metrics.values()]},
        "What matters": _important(outcome.importance),
        "Hyperparameters": {"name": list(hyperparameters), "value": list(hyperparameters.values())},
        "Versions": {"package": list(lineage.versions), "version": list(lineage.versions.values())},
    }.items():
        cells = {escaped(name): [escaped(value) for value in values] for name, values in columns.items()}
        if any(cells.values()):
            card.add_table(description=card.select(title).content if title == "Columns" else None, **{title: cells})
    return f"{front_matter(settings, lineage, metrics, standing)}\n{card.render()}"


def front_matter(settings: Settings, lineage: "Lineage", metrics: Mapping[str, float], standing: Standing) -> str:
    """Return a card's metadata as the Hub of Hugging Face takes them, in YAML between two lines of dashes.

    Notes
    -----
    https://huggingface.co/docs/hub/model-cards; results are those of its `model-index`.
    """
    measured = [
        {"type": name, "name": f"{name}, test rows", "value": float(f"{metrics[name]:.6g}")}
        for name in ("rmse", "mae", "r2")
    ]
    # not everything that shows a card knows that these lines are none of its Markdown
    name = plain(lineage.data_name).replace("&", "&amp;").replace("<", "&lt;")
    data = {"type": "tabular", "name": name, "revision": lineage.data_sha256}
    facts = {
        "library_name": "xgboost" if settings.estimator == "xgboost" else "sklearn",
        "pipeline_tag": "tabular-regression",
        "tags": ["tabular-regression", "mlflow", "skops", settings.estimator],
        "model-index": [
            {
                "name": standing.model_name or lineage.run_id,
                "results": [{"task": {"type": "tabular-regression"}, "dataset": data, "metrics": measured}],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=120)}---\n"


def _columns(columns: Sequence["Column"]) -> dict[str, list[Any]]:
    shown = columns[:MOST_COLUMNS]
    return {
        "column": [column.name for column in shown],
        "kind": [column.kind for column in shown],
        "missing": [column.missing for column in shown],
        "from": ["" if column.low is None else f"{column.low:g}" for column in shown],
        "to": ["" if column.high is None else f"{column.high:g}" for column in shown],
    }


def _missing(columns: Sequence["Column"]) -> str:
    """Say which columns had gaps, and that any may have."""
    gaps = [column.name for column in columns if column.missing]
    said = "Any value may be missing when the model predicts, and a text may be one that training has not seen. "
    if not gaps:
        return said + "In this table none was missing, so that the model has not learnt what a gap means."
    more = f" and {len(gaps) - 10} more" if len(gaps) > 10 else ""
    return said + f"In this table values were missing in {', '.join(code(name) for name in gaps[:10])}{more}."


def _important(importance: "pd.DataFrame") -> dict[str, list[Any]]:
    shown = importance.head(MOST_IMPORTANT)
    added = [f"{mean:.4g} ± {std:.2g}" for mean, std in zip(shown["mean"], shown["std"], strict=True)]
    return {"feature": shown["feature"].tolist(), "RMSE added when shuffled": added}


def kinds(columns: Iterable["Column"]) -> str:
    """Say what the features were taken for: ``9 numbers, 1 text``."""
    names = {"number": "number", "integer": "number", "boolean": "boolean", "text": "text", "datetime": "date"}
    counts: dict[str, int] = {}
    for column in columns:
        counts[names[column.kind]] = counts.get(names[column.kind], 0) + 1
    return ", ".join(_counted(count, name) for name, count in counts.items())


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
