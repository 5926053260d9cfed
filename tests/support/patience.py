"""How long tests wait: what they name, times DONJON_TEST_PATIENCE where a machine is slow or loaded."""

import os

FACTOR = float(os.environ.get("DONJON_TEST_PATIENCE") or 1)


def patient(seconds: float) -> float:
    """Return for how long to wait here for what takes at most ``seconds`` on an idle machine."""
    return seconds * FACTOR
