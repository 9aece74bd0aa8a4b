"""Say in Markdown how good a job's model is, from its metric.json: what .github/workflows/train.yml comments.

    python -m tools.job_summary outputs/JOB/metric.json --comment comment.md

Prints `promoted` and `model` as a workflow's step outputs.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def comment(metric: Mapping[str, Any]) -> str:
    """Return the table of a run: its figures, its version, what came of the comparison, and the remarks."""
    interval = f" (95 % {metric['RMSE_low']:.4g} to {metric['RMSE_high']:.4g})" if metric.get("RMSE_low") else ""
    spread = f"{metric['cv_RMSE_mean']:.4f} ± {metric['cv_RMSE_std']:.4f}" if metric.get("cv_RMSE_mean") else "none"
    registered = f"`models:/{metric['model_name']}/{metric['version']}`" if metric["version"] else "not registered"
    rows = [
        ("rmse", f"{metric['RMSE']:.4f}{interval}; mean predictor {metric['baseline_RMSE']:.4f}"),
        ("cv rmse", spread),
        ("r2", f"{metric['R2']:.4f}"),
        ("rows", f"{metric['rows_train']} training + {metric['rows_test']} test, `{metric['data_name']}`"),
        ("model", registered),
        ("champion", str(metric["champion_verdict"] or "not compared")),
        ("job", f"`{metric['run_id']}`"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows)]
    return "\n".join([*lines, "", *(f"- ! {remark}" for remark in metric["remarks"])]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the comment, and print the step's outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metric", type=Path, help="a job's metric.json")
    parser.add_argument("--comment", type=Path, required=True, help="the file to write")
    given = parser.parse_args(arguments)
    metric = json.loads(given.metric.read_text(encoding="utf-8"))
    given.comment.write_text(comment(metric), encoding="utf-8")
    print(f"promoted={str(bool(metric['promoted'])).lower()}")
    print(f"model=models:/{metric['model_name']}/{metric['version']}" if metric["version"] else "model=")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
