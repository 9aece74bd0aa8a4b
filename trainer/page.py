"""report.html: what was trained on what, how good it is, and where it is not; one file without scripts and network.

It is shown in MLflow's artifact viewer, in a frame that forbids scripts, and opened from a folder. Names and values
come from users: `markup.element` escapes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from trainer import card, figures, learning_curve, pieces, plot
from trainer.card import Standing, figure
from trainer.diagnostics import FEWEST_ROWS, MOST_COLUMNS, Coverage, Diagnosis, Errors, Summary, short
from trainer.errors import Remark
from trainer.learning_curve import LearningCurve
from trainer.lineage import Lineage
from trainer.markup import Markup, element, together
from trainer.pieces import NOTHING
from trainer.plot import Row
from trainer.settings import Settings
from trainer.stylesheet import STYLESHEET

if TYPE_CHECKING:
    from trainer.comparison import Comparison
    from trainer.table import Table
    from trainer.training import Outcome

# No script, and nothing from elsewhere, whatever a name may hold.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Told:
    """All that a report is written from.

    Attributes
    ----------
    worst : DataFrame
        The test rows with the largest errors: number, keys, actual, predicted, error, and the columns asked for.
    curve : sequence of (int, float)
        The RMSE by rounds of boosting.
    compared : Comparison or None
    board : Markup
        What the trials of a search, or the estimators, have shown; empty for one run.
    learning : LearningCurve
        What the model does with fewer rows.
    """

    settings: Settings
    table: "Table"
    outcome: "Outcome"
    lineage: Lineage
    remarks: Sequence[Remark]
    standing: Standing
    diagnosis: Diagnosis
    worst: pd.DataFrame
    curve: Sequence[tuple[int, float]] = ()
    compared: "Comparison | None" = None
    board: Markup = NOTHING
    learning: LearningCurve = learning_curve.NOTHING


def write(told: Told) -> str:
    """Return the report as HTML."""
    title = f"{told.settings.target} from {told.lineage.data_name}"
    parts = [part for write_part in SECTIONS if (part := write_part(told))]
    head = together(
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", f"{title}: {told.settings.estimator}"),
        element("style", Markup(STYLESHEET)),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


# -- what comes first -------------------------------------------------------------------------------


def _heading(told: Told) -> Markup:
    settings, metrics, standing = told.settings, told.outcome.metrics, told.standing
    given = " ".join(f"{name}={text}" for name, text in card.spelled(settings).items())
    what = f"{settings.estimator}{' ' if given else ''}{given}, trained on {metrics['rows_train']:.0f} rows and "
    place = NOTHING
    if standing.version is not None:
        registered = together("version ", standing.version, " of ", pieces.name(standing.model_name))
        place = element("p", registered, ": champion" if standing.promoted else ": not champion", class_="place")

    measured = f"{what}measured on {metrics['rows_test']:.0f} others"
    return element(
        "header",
        element(
            "h1",
            pieces.name(settings.target),
            element("small", " predicted from ", pieces.name(told.lineage.data_name)),
        ),
        element("p", measured),
        place,
    )


def _tiles(told: Told) -> Markup:
    metrics = told.outcome.metrics
    better = 1 - metrics["rmse"] / metrics["baseline_rmse"] if metrics["baseline_rmse"] else 0.0
    half = "half of" if metrics["rows_test"] and not len(told.outcome.folds.residuals) else "of"
    tiles = [
        (
            "rmse, test rows",
            figure(metrics["rmse"]),
            f"95 %: {short(metrics['rmse_low'])} to {short(metrics['rmse_high'])}" if "rmse_low" in metrics else "",
        ),
        ("rmse saved", pieces.percent(better), f"of the mean predictor's {figure(metrics['baseline_rmse'])}"),
        ("r², test rows", f"{metrics['r2']:.3f}", "1 is perfect, 0 the mean"),
        ("mae, test rows", figure(metrics["mae"]), "mean absolute error"),
    ]
    if "cv_rmse_mean" in metrics:
        tiles.append(
            (
                "cv rmse",
                figure(metrics["cv_rmse_mean"]),
                f"± {figure(metrics['cv_rmse_std'])} over the folds",
            )
        )
    if told.outcome.interval:
        interval = told.outcome.interval
        tiles.append(
            (
                f"{pieces.percent(interval.confidence)} interval",
                f"± {short(interval.half_width)}",
                f"holds {pieces.percent(interval.coverage)} {half} the test rows",
            )
        )
    cells = [
        element("div", element("dt", what), element("dd", element("b", value), element("span", remark)))
        for what, value, remark in tiles
    ]
    said = element(
        "p", "rmse, mae and the interval are in units of ", pieces.name(told.settings.target), ".", class_="note"
    )
    return together(element("dl", *cells, class_="tiles"), said)


def _verdict(told: Told) -> Markup:
    standing = told.standing
    if not standing.verdict:
        return NOTHING
    said = element("p", standing.verdict, class_="verdict good" if standing.promoted else "verdict")
    compared, charts = told.compared, []
    gain = compared.verdict.gain if compared else None
    if compared and gain and (gain.rmse, gain.low, gain.high) != (0, 0, 0):
        own, unit = f"version {standing.version}", f"in units of {told.settings.target}"
        both = [
            Row(f"version {compared.champion}", gain.champion_rmse, remark=figure(gain.champion_rmse)),
            Row(own, gain.challenger_rmse, remark=figure(gain.challenger_rmse)),
        ]
        saved = [Row("saved", gain.rmse, gain.low, gain.high, f"{gain.rmse:.4g}", standing.promoted)]
        beside = together(
            plot.rows(both, f"rmse, {unit}", "rmse of both"),
            plot.rows(saved, f"rmse saved (95 % interval), {unit}", "the gain", bars=False, reference=0.0),
        )
        told_of = f"Both on the same {gain.rows} test rows. Right of the dashed line, {own} is better."
        charts.append(pieces.chart(beside, told_of))
        if compared.by_champion is not None:
            drawn = figures.comparison(told.table.test.target, compared.by_champion, told.outcome.predicted)
            charts.append(pieces.chart(drawn, f"Row by row: below the dashed line, {own} is better."))
    return pieces.section("Champion and challenger", said, pieces.charts(*charts))


def _remarks(told: Told) -> Markup:
    if not told.remarks:
        return NOTHING
    return pieces.section(
        "Remarks", element("ul", *(element("li", remark.text) for remark in told.remarks), class_="remarks")
    )


# -- how good it is ---------------------------------------------------------------------------------


def _sides(told: Told) -> Markup:
    metrics, found = told.outcome.metrics, told.diagnosis
    rows = [Row("training rows", found.training_rmse, remark=figure(found.training_rmse))]
    if "cv_rmse_mean" in metrics:
        mean, std = metrics["cv_rmse_mean"], metrics["cv_rmse_std"]
        rows.append(Row("cross-validation", mean, mean - std, mean + std, figure(mean)))
    low, high = metrics.get("rmse_low"), metrics.get("rmse_high")
    rows.append(Row("test rows", metrics["rmse"], low, high, figure(metrics["rmse"]), is_best=True))
    rows.append(Row("mean predictor", metrics["baseline_rmse"], remark=figure(metrics["baseline_rmse"])))
    below = f"rmse, in units of {told.settings.target}"
    of = "" if found.training_rows == metrics["rows_train"] else f" ({found.training_rows} of them)"
    chart = pieces.chart(
        plot.rows(rows, below, "rmse of training and test rows"),
        f"A model that is much better on the rows it has seen{of} than on others has learnt them by heart. "
        "Whiskers: the standard deviation over the folds, and the 95 % interval of the test rows.",
    )
    target = told.settings.target
    points = _points(len(told.outcome.predicted))
    points_drawn = [
        pieces.chart(
            figures.predicted_vs_actual(target, told.table.test.target, told.outcome.predicted),
            f"A perfect model's points lie on the dashed line.{points}",
        ),
        pieces.chart(
            figures.residuals(target, told.table.test.target, told.outcome.predicted),
            f"No pattern should be left in what the model misses.{points}",
        ),
    ]
    curves = []
    if told.curve:
        curves.append(pieces.chart(figures.rounds(target, told.curve), "A curve that rises again has too many rounds."))
    learning = told.learning
    if learning.rows:
        curves.append(pieces.chart(figures.learning_curve(target, learning), learning_curve.told(learning)))
    skipped = f"There is no curve of the rmse by training rows: {learning.skipped}." if learning.skipped else ""
    said = element("p", skipped, class_="note") if skipped else NOTHING
    drawn = [pieces.charts(*row) for row in ([chart], points_drawn, curves)]
    return pieces.section("How good it is", *drawn, said)


def _points(rows: int) -> str:
    return "" if rows <= figures.POINTS else f" {figures.POINTS} rows, evenly chosen of {rows}."


def _where(told: Told) -> Markup:
    found = told.diagnosis
    parts = {f"by {told.settings.target}, in tenths of the rows": found.deciles}
    parts |= {f"by {name}": errors for name, errors in found.categories.items()}
    charts = [pieces.chart(_by(told, errors, below), _bias(errors)) for below, errors in parts.items() if errors]
    return pieces.section("Where the errors are", pieces.charts(*charts)) if charts else NOTHING


def _by(told: Told, errors: Sequence[Errors], below: str) -> Markup:
    rows = [Row(one.label, one.rmse, remark=f"{short(one.rmse)} · {one.rows} rows") for one in errors]
    return plot.rows(rows, f"rmse {below}", f"rmse {below}", reference=told.outcome.metrics["rmse"])


def _bias(errors: Sequence[Errors]) -> str:
    high, low = max(errors, key=lambda one: one.bias), min(errors, key=lambda one: one.bias)
    said = [f"{abs(one.bias):.4g} too {'high' if one.bias > 0 else 'low'} for {one.label}" for one in (high, low)]
    return f"On average, predictions are {said[0]}, and {said[1]}. The dashed line is the rmse of all test rows."


def _intervals(told: Told) -> Markup:
    found, interval = told.diagnosis, told.outcome.interval
    if interval is None:
        return NOTHING
    charts = []
    if found.levels:
        promised = np.array([float(one.label.rstrip("%")) / 100 for one in found.levels])
        held, low, high = (np.array([getattr(one, name) for one in found.levels]) for name in ("share", "low", "high"))
        charts.append(
            pieces.chart(
                figures.calibration(promised, held, low, high),
                f"Intervals of all widths, measured on {found.levels[-1].rows} test rows: honest ones lie on the "
                "dashed line.",
            )
        )
    if found.coverage:
        charts.append(
            pieces.chart(
                plot.rows(
                    _covered(found.coverage),
                    f"% of rows within the interval, by predicted {told.settings.target}",
                    "coverage",
                    bars=False,
                    reference=100 * interval.confidence,
                ),
                "The interval has one width for all rows: where it holds too few, predictions are less certain "
                "than it says.",
            )
        )
    said = (
        f"A prediction ± {short(interval.half_width)} is to hold {pieces.percent(interval.confidence)} of new rows; of "
        f"{interval.rows} test rows it held {pieces.percent(interval.coverage)}."
    )
    return pieces.section("Calibration of the intervals", element("p", said), pieces.charts(*charts))


def _covered(parts: Sequence[Coverage]) -> list[Row]:
    return [
        Row(one.label, 100 * one.share, 100 * one.low, 100 * one.high, f"{pieces.percent(one.share)} of {one.rows}")
        for one in parts
    ]


def _importance(told: Told) -> Markup:
    importance = told.outcome.importance
    if importance.empty:
        return NOTHING
    more = f" The first {figures.BARS} of {len(importance)} features." if len(importance) > figures.BARS else ""
    chart = pieces.chart(
        figures.feature_importance(told.settings.target, importance),
        "How much worse the predictions of test rows become when one feature is shuffled, with the standard "
        f"deviation over the repeats. Features that say the same share their importance.{more}",
    )
    return pieces.section("What matters", pieces.charts(chart))


def _worst(told: Told) -> Markup:
    frame = told.worst
    if frame.empty:
        return NOTHING
    rows = [[pieces.cell(value) for value in row] for row in frame.itertuples(index=False)]
    asked = (
        ""
        if told.settings.show != ()
        else " Their features are shown where they are asked for: show=COLUMN, or show=all."
    )
    said = f"The {len(rows)} test rows with the largest errors; row 0 is the first of the table.{asked}"
    return pieces.section(
        "The worst rows", element("p", said, class_="note"), pieces.table([str(name) for name in frame.columns], rows)
    )


# -- the data ---------------------------------------------------------------------------------------


def _data(told: Told) -> Markup:
    columns = told.diagnosis.columns
    more = len(told.table.columns) + 1 - len(columns)
    said = f"The training rows. A value that fewer than {FEWEST_ROWS} rows have is not shown."
    said += f" Of the features, the first {MOST_COLUMNS}; {more} more are left out." if more > 0 else ""
    names = ["column", "type", "missing", "distinct", "distribution", "values"]
    return pieces.section(
        "The data", element("p", said, class_="note"), pieces.table(names, [_column(one) for one in columns])
    )


def _column(one: Summary) -> list[Markup]:
    frequent = [together(pieces.name(value), f" ({pieces.percent(share)})") for value, share in one.frequent]
    listed = [together(", " if number else "", value) for number, value in enumerate(frequent)]
    said = together(one.facts, "; often " if one.facts and listed else "", *listed)
    missing = pieces.percent(one.missing) if one.missing else "none"
    drawn = plot.histogram(one.shares, "distribution") if len(one.shares) else NOTHING
    return [pieces.name(one.name), together(one.kind), together(missing), together(f"{one.distinct}"), drawn, said]


# -- where it comes from, what to do with it --------------------------------------------------------


def _use(told: Told) -> Markup:
    standing = told.standing
    model = (
        f"models:/{standing.model_name}/{standing.version}" if standing.version else f"runs:/{standing.run_id}/models"
    )
    python = (
        "import mlflow, pandas as pd\n\n"
        f'model = mlflow.pyfunc.load_model("{model}")\n'
        'model.predict(pd.read_csv("NEW.csv"))'
    )
    return pieces.section(
        "Use it",
        element("p", "In the project's folder:"),
        pieces.code("\n".join(card.next_commands(standing))),
        element("p", "Or from Python; MLFLOW_TRACKING_URI says where the model is:"),
        pieces.code(python),
    )


def _lineage(told: Told) -> Markup:
    lineage, settings, table = told.lineage, told.settings, told.table
    git = lineage.git.commit + {"true": ", with changes", "false": ""}.get(lineage.git.dirty, "")
    facts: dict[str, object] = {
        "run": lineage.run_id,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "data": lineage.data_name,
        "sha256 of the data": lineage.data_sha256,
        "size of the data": f"{lineage.data_bytes} bytes, {table.n_rows} rows",
        "features": f"{table.n_features} ({card.kinds(table.columns)})",
        "rows without a target": f"{table.rows_without_target}, left out" if table.rows_without_target else "none",
        "split": f"{settings.split}{f', test rows from {table.time_cut} on' if table.time_cut else ''}",
        "git commit": git,
    }
    rows = [[together(name), element("code", value)] for name, value in facts.items()]
    given = [[pieces.name(name), element("code", text)] for name, text in settings.given.items()]
    versions = [[together(name), element("code", text)] for name, text in lineage.versions.items()]
    tables = [
        element("div", element("h3", title), pieces.table(["", ""], content))
        for title, content in (("Parameters", given), ("Environment", versions))
    ]
    return pieces.section("Where it comes from", pieces.table(["", ""], rows), element("div", *tables, class_="charts"))


SECTIONS = (
    _heading, _tiles, _verdict, _remarks, lambda told: told.board, _sides, _where, _intervals, _importance, _worst,
    _data, _use, _lineage,
)  # fmt: skip
