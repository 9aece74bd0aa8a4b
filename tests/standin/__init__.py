"""A stand-in for a workspace of Azure Machine Learning, on this machine. See README.md beside this file."""

from tests.standin.faults import Fault
from tests.standin.workspace import Request, StandIn

__all__ = ["Fault", "Request", "StandIn"]
