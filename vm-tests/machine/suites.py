"""Tests of this tree run by a pytest inside a guest."""

from xml.etree import ElementTree

from machine.guests import Guest

PATIENCE = "6"
"""How much longer tests wait in a guest (tests/support/patience.py): a fork takes twenty times as long."""
_NOTES = "/run/notes"  # what tests measured, a line each
_ENVIRON = {
    "DONJON_TEST_PATIENCE": PATIENCE,
    "DONJON_MACHINE": "1",
    "DONJON_MACHINE_NOTES": _NOTES,
}


def run(guest: Guest, *words: str, seconds: float) -> str:
    """Run pytest with ``words`` in ``guest``; return its count and notes, or fail with what it said.

    A suite of which nothing ran is a failure.
    """
    guest.write(_NOTES, "")
    done = guest.run(
        "python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml=/run/junit.xml",
        *words, seconds=seconds, environ=_ENVIRON,
    )  # fmt: skip
    assert not done.late, f"not done after {seconds} s:\n{done.output[-6000:]}"
    assert done.status == 0, done.output[-12000:]
    (suite,) = ElementTree.fromstring(guest.read("/run/junit.xml"))
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    assert total > skipped, done.output[-3000:]
    notes = guest.read(_NOTES).decode().splitlines()
    return "; ".join([f"{total - skipped} passed, {skipped} skipped", *notes])
