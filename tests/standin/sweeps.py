"""Sweep jobs: which trials to run, how many at once, which was the best."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.standin import names, rendering, runner
from tests.standin.errors import run_error
from tests.standin.state import Document

if TYPE_CHECKING:
    from tests.standin.service import Service

LOG = "azureml-logs/hyperdrive.txt"


async def follow(service: Service, name: str) -> runner.Ending:
    """Run the trials of a sweep, wherever it stands, and remember the best."""
    properties = service.jobs.body(name)["properties"]
    limits = properties.get("limits") or {}
    try:
        settings = list(
            itertools.islice(
                combinations(properties["searchSpace"], properties.get("samplingAlgorithm") or {}, seed=name),
                int(limits.get("maxTotalTrials") or 1000),
            )
        )
    except ValueError as error:
        return "Failed", run_error("UserError", str(error))
    at_once = int(limits.get("maxConcurrentTrials") or 1)
    service.jobs.update(name, status="Running", started=service.jobs.clock())
    trials = [f"{name}_{number}" for number in range(len(settings))]
    limit, began = rendering.seconds(limits.get("timeout")), asyncio.get_running_loop().time()
    late = False
    while True:
        if service.jobs.body(name).get("cancel"):
            break
        late = limit is not None and asyncio.get_running_loop().time() - began > limit
        if late:
            service.jobs.cancel(name)
            break
        states = [service.documents.get("job", trial) for trial in trials]
        running = [state for state in states if state and state["status"] not in ("Completed", "Failed", "Canceled")]
        if all(states) and not running:
            break
        for trial, setting in [
            pair for pair, state in zip(zip(trials, settings, strict=True), states, strict=True) if not state
        ][: at_once - len(running)]:
            await service.jobs.submit(trial, trial_properties(name, properties, setting), parent=name)
            await _log(service, name, f"Submitted trial {trial}: {json.dumps(setting)}")
        await asyncio.sleep(0.25)
    while not all(service.jobs.ended(trial) for trial in trials if service.documents.get("job", trial)):
        await asyncio.sleep(0.1)
    if late:
        return "Canceled", run_error("UserError", "The sweep was canceled because it exceeded its time limit.")
    if service.jobs.body(name).get("cancel"):
        return "Canceled", None
    return await _judge(service, name, properties, trials)


async def _log(service: Service, name: str, line: str) -> None:
    log = service.folder.job(name) / "hyperdrive.txt"
    with log.open("a") as file:
        file.write(f"{service.jobs.clock()} {line}\n")
    where = f"{names.artifact_prefix(name)}/{LOG}"
    await service.in_thread(service.storage.append, names.ARTIFACTSTORE, where, log)


async def _judge(service: Service, name: str, properties: Document, trials: list[str]) -> runner.Ending:
    """Read the objective of each trial from its run and name the best."""
    objective = properties["objective"]
    scores = {}
    for trial in trials:
        if service.jobs.body(trial)["status"] == "Completed":
            score = await service.tracking.metric(trial, objective["primaryMetric"])
            if score is not None and not math.isnan(score):
                scores[trial] = score
    completed = [trial for trial in trials if service.jobs.body(trial)["status"] == "Completed"]
    if not completed:
        return "Failed", run_error("UserError", "No trial of the sweep has completed.")
    if not scores:
        text = f"No trial has logged the primary metric {objective['primaryMetric']!r}."
        return "Failed", run_error("UserError", text)
    pick = min if objective["goal"].lower() == "minimize" else max
    best = pick(scores, key=lambda trial: scores[trial])
    known = service.jobs.body(name)["properties"]
    found = {"best_child_run_id": best, "score": str(scores[best]), "best_metric_status": "Succeeded"}
    service.jobs.update(name, properties=known | {"properties": (known.get("properties") or {}) | found})
    await _log(service, name, f"Best trial {best}: {scores[best]}")
    return "Completed", None


def trial_properties(name: str, properties: Document, setting: dict[str, Any]) -> Document:
    """Return the command job of one trial."""
    trial = properties["trial"]
    command = re.sub(
        r"\$\{\{\s*search_space\.(\w+)\s*\}\}", lambda found: str(setting.get(found[1], "")), trial["command"]
    )
    timeout = (properties.get("limits") or {}).get("trialTimeout")
    return {
        "jobType": "Command",
        "command": command,
        "codeId": trial.get("codeId"),
        "environmentId": trial.get("environmentId"),
        "environmentVariables": trial.get("environmentVariables") or {},
        "distribution": trial.get("distribution"),
        "resources": trial.get("resources"),
        "computeId": properties.get("computeId"),
        "experimentName": properties["experimentName"],
        "inputs": properties.get("inputs") or {},
        "outputs": properties.get("outputs") or {},
        "limits": {"jobLimitsType": "Command", "timeout": timeout} if timeout else None,
        "tags": {"hyperparameters": json.dumps(setting)},
        "properties": {"azureml.sweep": name},
    }


def combinations(space: dict[str, Any], sampling: dict[str, Any], seed: str) -> Iterator[dict[str, Any]]:
    """Yield the settings of the trials.

    Parameters
    ----------
    space : dict
        `searchSpace` as on the wire: `{"alpha": ["choice", [[0.1, 1]]]}`.
    sampling : dict
        `{"samplingAlgorithmType": "Grid"}` or `Random`; `seed` if given.
    seed : str
        For a random search without a seed.

    Raises
    ------
    ValueError
        For another algorithm, or a grid over something that is not a choice.
    """
    kind = sampling.get("samplingAlgorithmType")
    if kind == "Grid":
        if any(spec[0] != "choice" for spec in space.values()):
            raise ValueError("Grid sampling supports only choice hyperparameters.")
        for values in itertools.product(*(spec[1][0] for spec in space.values())):
            yield dict(zip(space, values, strict=True))
        return
    if kind != "Random":
        raise ValueError(f"The stand-in searches by Grid and Random, not {kind}.")
    chance = random.Random(sampling.get("seed") or seed)
    seen: set[str] = set()
    repeats = 0
    # A space of few values is exhausted before the number of trials is reached.
    while repeats < 1000:
        setting = {key: _draw(chance, *spec) for key, spec in space.items()}
        mark = json.dumps(setting)
        repeats = repeats + 1 if mark in seen else 0
        if not repeats:
            seen.add(mark)
            yield setting


def _draw(chance: random.Random, kind: str, arguments: list[Any]) -> Any:
    """Draw one value; the bounds of the logarithmic distributions are exponents of e."""
    if kind == "choice":
        return chance.choice(arguments[0])
    if kind == "randint":
        return chance.randrange(int(arguments[0]))
    quantum = float(arguments[2]) if kind.startswith("q") else None
    kind = kind.removeprefix("q")
    draws: dict[str, Callable[[float, float], float]] = {"uniform": chance.uniform, "normal": chance.gauss}
    if kind.removeprefix("log") not in draws:
        raise ValueError(f"There is no distribution called {kind}.")
    value = draws[kind.removeprefix("log")](float(arguments[0]), float(arguments[1]))
    value = math.exp(value) if kind.startswith("log") else value
    return value if quantum is None else round(value / quantum) * quantum
