"""Which version of a registered model of the workspace is meant."""

import re

from .console import command
from .errors import UserError, nearest
from .workspace import Workspace

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def check(uri: str) -> re.Match[str]:
    """Check the form of an address: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    if (meant := _URI.fullmatch(uri)) is None:
        raise UserError(f"{uri!r} names no registered model", "give models:/NAME@champion or models:/NAME/VERSION")
    return meant


def find_version(workspace: Workspace, uri: str) -> tuple[str, str]:
    """Find the registered version that is meant: its model's name, and its number."""
    from trainer import registry

    meant = check(uri)
    client, name = workspace.mlflow(), meant["name"]
    known = [str(one.version) for one in workspace.call("list the versions", lambda: registry.versions(client, name))]
    if not known:
        raise UserError(
            f"the workspace {workspace.name} has no model {name!r}", f"train one: {command('-P', f'model_name={name}')}"
        )
    newest = f"models:/{name}/{known[-1]}"
    if meant["version"]:
        number, absent = str(meant["version"]), UserError(f"{name} has no version {meant['version']}", f"give {newest}")
    elif meant["alias"] == registry.CHAMPION:
        champion = workspace.call("find the champion", lambda: registry.find_champion(client, name))
        number = champion.number
        absent = UserError(
            f"{name} has no champion{f': {champion.remark}' if champion.remark else ''}", f"give a version: {newest}"
        )
    else:
        aliases = workspace.call("list the aliases", lambda: client.get_registered_model(name).aliases)
        number = str(aliases.get(meant["alias"]))
        absent = UserError(
            f"{name} has no alias {meant['alias']!r}{nearest(meant['alias'], aliases)}", f"give a version: {newest}"
        )
    if number not in known:
        raise absent
    return name, number
