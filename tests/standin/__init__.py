"""A stand-in for a workspace of Azure Machine Learning, on this machine. See README.md beside this file."""

from tests.standin.faults import Fault
from tests.standin.workspace import POSSIBLE, Request, StandIn

__all__ = ["POSSIBLE", "Fault", "Request", "StandIn"]
