"""Tests of this tree run by a pytest inside a guest."""

from xml.etree import ElementTree

from machine.guests import Guest


def run(guest: Guest, *words: str, seconds: float) -> str:
    """Run pytest with ``words`` in ``guest``; return its count, or fail with what it said.

    A suite of which nothing ran is a failure.
    """
    done = guest.run(
        "python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml=/run/junit.xml",
        *words, seconds=seconds,
    )  # fmt: skip
    assert not done.late, f"not done after {seconds} s:\n{done.output[-6000:]}"
    assert done.status == 0, done.output[-12000:]
    (suite,) = ElementTree.fromstring(guest.read("/run/junit.xml"))
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    assert total > skipped, done.output[-3000:]
    return f"{total - skipped} passed, {skipped} skipped"
