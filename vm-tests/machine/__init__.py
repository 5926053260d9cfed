"""Machines that the suite boots: kernels and root file systems of Debian packages, and the guests.

Everything made is kept below ``cache()`` by a key of what it was made from, so that the second run makes
nothing. Nothing is installed on the host.
"""

import os
import shutil
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
TREE = HERE.parent


def cache() -> Path:
    """Where kernels and images are kept: ``DONJON_TEST_CACHE``, as for scripts/test-root."""
    return Path(os.environ.get("DONJON_TEST_CACHE", "/var/cache/donjon-tests"))


def workshop(kind: str) -> "tempfile.TemporaryDirectory[str]":
    """Return a directory of the cache to make a ``kind`` in, while the caller holds its lock.

    What a maker that was killed left there goes first: it is hundreds of megabytes.
    """
    for left in cache().glob(f"making-{kind}-*"):
        shutil.rmtree(left)
    return tempfile.TemporaryDirectory(dir=cache(), prefix=f"making-{kind}-")
