"""Score a new table with a registered model: a prediction for each row, with its interval.

    python predict.py --data new.csv                                         # the champion, into predictions.csv
    python predict.py --model models:/sales/3 --data new.parquet --output scored.parquet
    mlflow run . -e predict --env-manager local -P data=new.csv

The table is one like that of training, with the target or without it. Nothing that came with the model is run, unless
`--trust yes` says so.
"""

from trainer import startup  # isort: skip  # first, to start fast

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import cli, settings, tracking
from trainer.errors import Remark

SOURCE = "predict.py"
REPORT = "new_table.json"
# Columns that are named on a line, and the size up to which the predictions are logged with the run.
SHOWN, LOGGED_BYTES = 5, 100 * 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 where the model cannot be used here, or 2 for what can be fixed."""
    return cli.run(__doc__ or "", settings.PREDICT, predict, arguments)


def predict(given: dict[str, str]) -> int:
    """Score a table, from a model's address to a file of predictions."""
    from trainer import bootstrap, model_folder, registry, scoring

    asked = settings.values(settings.PREDICT, given)
    output = scoring.check_output(asked["output"])
    with tracking.session(given, SOURCE) as session:
        with registry.fetched(given["model"]) as folder:
            model = model_folder.load(folder, asked["trust"] == "yes", given["model"])
            version = model_folder.version(folder)
        scored = scoring.score(model, asked["data"], asked["separator"], asked["decimal"], output, asked["key"])
        interval = bootstrap.rmse_interval(scored.actual, scored.predicted, None, 0) if len(scored.actual) else None
        measured = scoring.metrics(scored, interval)
        run = session.open(f"predict {scored.source.name}")
        _log(run, given, model, version, scored, measured, output)
    _show(given, model, version, scored, measured, run.id)
    return 0


def _log(
    run: tracking.Run,
    given: dict[str, str],
    model: Any,
    version: str,
    scored: Any,
    measured: dict[str, float],
    output: Path,
) -> None:
    import json
    from tempfile import TemporaryDirectory

    from trainer import scoring

    tags = {
        "model_uri": given["model"],
        "model_version": version,
        "training_run_id": str(model.metadata.get("run_id", "")),
        "data_name": scored.source.name,
        "data_sha256": scored.source.sha256,
        "remarks": ", ".join(remark.code for remark in _remarks(scored)) or "none",
    }
    tracking.log(run, metrics=measured, tags={name: text for name, text in tags.items() if text})
    tracking.log_dataset(run, scored.source, scored.rows, len(model.feature_names))
    with TemporaryDirectory() as scratch:
        text = json.dumps(scoring.by_column(scored), indent=2, allow_nan=False)
        (Path(scratch) / REPORT).write_text(text + "\n", encoding="utf-8")
        tracking.log_folder(run, Path(scratch))
    if output.stat().st_size <= LOGGED_BYTES:
        tracking.log_file(run, str(output), "")


def _show(given: dict[str, str], model: Any, version: str, scored: Any, measured: dict[str, float], run: str) -> None:
    of = f" ({version})" if version and version != given["model"] else ""
    print(f"model       {given['model']}{of}: {model.estimator or 'a model'} for {model.target or 'an unnamed target'}")
    print(f"data        {scored.source.name}: {scored.rows} rows")
    for what, counts in {
        "missing": {one.profile.name: one.missing for one in scored.seen},
        "unseen": {one.profile.name: one.unseen for one in scored.seen},
        "outside": {one.profile.name: one.outside for one in scored.seen},
    }.items():
        if any(counts.values()):
            print(f"{what:<11} {_listed(counts)}")
    for remark in _remarks(scored):
        print(f"! {remark.text}")
    if "rmse" in measured:
        low, high = measured.get("rmse_low"), measured.get("rmse_high")
        between = "" if low is None else f"  (95 % {low:.4g} to {high:.4g}; {measured['rows_with_target']} rows)"
        print(f"rmse        {measured['rmse']:.4f}{between}")
    if "coverage_90" in measured:
        print(f"coverage    {measured['coverage_90']:.1%} of the targets lie between lower and upper; 90 % should")
    width = "" if scored.half_width is None else f", lower and upper ({scored.half_width:.4g} on either side)"
    print(f"output      {given['output']}: prediction{width}")
    print(f"run         {run}")


def _remarks(scored: Any) -> list[Remark]:
    remarks: list[Remark] = list(scored.remarks)
    if scored.unlike:
        told = ", ".join(f"{name} ({index:.2f})" for name, index in list(scored.unlike.items())[:SHOWN])
        more = f" and {len(scored.unlike) - SHOWN} more" if len(scored.unlike) > SHOWN else ""
        remarks.append(Remark("unlike", f"unlike the training data, by their stability index: {told}{more}"))
    if scored.rows_outside:
        remarks.append(
            Remark(
                "outside", f"{scored.rows_outside} of {scored.rows} rows hold what training has not seen the like of"
            )
        )
    return remarks


def _listed(counts: dict[str, int]) -> str:
    found = sorted(((count, name) for name, count in counts.items() if count), key=lambda item: (-item[0], item[1]))
    shown = ", ".join(f"{name} {count}" for count, name in found[:SHOWN])
    return shown if len(found) <= SHOWN else f"{shown} and {len(found) - SHOWN} more columns"


if __name__ == "__main__":
    startup.leave(main())
