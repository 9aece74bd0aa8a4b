"""MLflow 3's logged models: what fills the Models tab, where the server has them. A workspace has not."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import signals
from trainer.errors import UserError
from trainer.recording import Run, optional, said_to_server

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel as Created


@dataclass(frozen=True)
class LoggedModel:
    """A logged model's id; None where the server has none."""

    id: str | None = None

    @property
    def source(self) -> str | None:
        """What a version made from it names as its source: so the UI leads from one to the other."""
        return f"models:/{self.id}" if self.id else None


@contextmanager
def logged_model(run: Run, folder: Path, name: str, params: Mapping[str, str]) -> Iterator[LoggedModel]:
    """Create a logged model of a run, and store a model folder in it; ready once the block has ended.

    Whether the server has logged models is found out by trying once. The folder is an artifact of the run as well:
    later steps of a team, and a workspace, read it there.

    Parameters
    ----------
    folder : Path
        The model's.
    name : str
        Of the model within its run.
    params : mapping of str to str
        Shown beside it.
    """
    from mlflow.entities import LoggedModelOutput

    client = run.client
    created: list[Created] = []

    def create() -> None:
        created.append(
            client.create_logged_model(
                run.experiment_id,
                name=name,
                source_run_id=run.id,
                params={key: text[:500] for key, text in params.items()},
                model_type="regressor",
            )
        )

    if not optional("create a logged model", create):
        yield LoggedModel()
        return
    model = created[0]
    try:
        with said_to_server("store the logged model", any_error=True):
            client.log_model_artifacts(model.model_id, str(folder))
        yield LoggedModel(model.model_id)
        with said_to_server("finish the logged model"):
            client.finalize_logged_model(model.model_id, "READY")
        output = LoggedModelOutput(model.model_id, step=0)  # by which the run's page leads to the model
        optional("name the logged model on the run", lambda: client.log_outputs(run.id, [output]))
    except BaseException as error:
        with suppress(UserError), signals.hurried(error), said_to_server("give up the logged model"):
            client.finalize_logged_model(model.model_id, "FAILED")
        raise


def link(run: Run, model: LoggedModel, name: str, version: str) -> None:
    """Note a registered version on the logged model that it was made from, as `mlflow.register_model` does."""
    if model.id:
        noted = {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])}
        optional("note the version on its model", lambda: run.client.set_logged_model_tags(str(model.id), noted))
