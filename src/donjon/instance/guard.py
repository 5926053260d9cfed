"""No module is imported while the root is the jail's and the privileges are still ours.

What is imported then would come from files that a customer may have written, and run with our
rights. All that we need was imported before; a forgotten one shows as an error of the step that
wanted it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType


class _Refuse:
    """A finder that stands before all others and finds nothing."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        raise ImportError(f"{name} would be imported from the jail's files with privileges")


@contextmanager
def no_imports() -> Iterator[None]:
    """Refuse to import what is not imported yet. Raises ImportError in whoever tries."""
    refuse = _Refuse()
    sys.meta_path.insert(0, refuse)
    try:
        yield
    finally:
        sys.meta_path.remove(refuse)
