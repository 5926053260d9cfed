# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""The gate for an interface, in a module of its own that imports what it needs.

Whoever receives a plan with such a gate has then imported it too, while the root is still the
host's: nothing is imported from a root of the jail's with root's rights.
"""

from __future__ import annotations

from donjon.jail import gates
from donjon.jail.step import Builtin, Context
from donjon.netns import links  # noqa: F401  (what gates.wait_for imports later is then there)
from donjon.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceGate(Builtin):
    """``wait-for-interface = NAME``."""

    target: str
    timeout: int

    def describe(self) -> str:
        return f"wait for the interface {self.target}, {self.timeout} seconds at most"

    def execute(self, context: Context) -> None:
        gates.wait_for("interface", self.target, self.timeout)
