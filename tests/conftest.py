"""Fixtures that several test files use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standin import StandIn


@pytest.fixture(scope="session")
def standin_session() -> Iterator[StandIn]:
    """A workspace on this machine, started once for all tests that want one.

    At the end no client may have asked for a route that the stand-in does not know: that is how an update of
    a client library is noticed.
    """
    with StandIn() as workspace:
        yield workspace
        unknown = sorted(set(workspace.unknown_routes))
    assert not unknown, f"clients asked for what the stand-in does not know: {unknown}"


@pytest.fixture
def standin(standin_session: StandIn) -> Iterator[StandIn]:
    """The workspace of the session, without faults before and after the test."""
    standin_session.clear_faults()
    yield standin_session
    standin_session.clear_faults()
