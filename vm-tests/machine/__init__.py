"""Machines that the suite boots: kernels and root file systems of Debian packages, and the guests.

Everything made is kept below ``cache()`` by a key of what it was made from, so that the second run makes
nothing. Nothing is installed on the host.
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
TREE = HERE.parent


def cache() -> Path:
    """Where kernels and images are kept: ``DONJON_TEST_CACHE``, as for scripts/test-root."""
    return Path(os.environ.get("DONJON_TEST_CACHE", "/var/cache/donjon-tests"))
