"""Every case of the table against every profile, and the host as it was after each."""

import json
import os
from pathlib import Path

import hosting
import prison
import pytest
from cases import CASES, lacks
from profiles import PROFILES, lacks_root

pytestmark = pytest.mark.root

TRIED = [case for case in CASES if case.is_tried]
MUST_RUN = os.environ.get("DONJON_MUST_RUN", "").split(",")
RESULTS = os.environ.get("DONJON_ESCAPE_RESULTS")


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return prison.build_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module", params=PROFILES, ids=lambda profile: profile.name)
def jail(request, probe):
    """Two vassals in the profile: ``cell`` is attacked, ``neighbour`` must not notice."""
    profile = request.param
    reason = lacks(profile.needs) or lacks_root(profile)
    if reason:
        assert profile.root not in MUST_RUN, reason
        pytest.skip(reason)
    one = prison.Prison(profile, probe)
    yield one
    one.close()


def note(case, profile, outcome):
    """Write down what came of a case, for scripts/escape-matrix."""
    if RESULTS:
        with Path(RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps([case.id, profile.name, outcome]) + "\n")


@pytest.mark.parametrize("case", TRIED, ids=lambda case: case.id)
def test_the_jail_holds(jail, case):
    reason = lacks(case.needs)
    if reason:
        pytest.skip(reason)
    if not case.is_for(jail.profile.name):
        pytest.skip("not a case for this profile")
    through = case.attack(jail)
    note(case, jail.profile, "; ".join(through))
    assert through == [], f"{case.tries}: {case.must}"
    assert jail.changed() == []
    assert hosting.ask(jail.host.sock("neighbour"), "/A4")


def test_the_settings_of_the_kernel_are_as_they_were(jail):
    now = prison.settings()
    assert {k: (v, now.get(k)) for k, v in jail.settings.items() if now.get(k) != v} == {}
