"""Suites of tests/ where this host cannot run them: version 2 alone, other kernels, other layouts."""

import pytest
from machine import suites

pytestmark = pytest.mark.timeout(2400)
GROUPS = (
    "tests/jail/test_cgroups.py",
    "tests/jail/test_cgroup_drivers.py",
    "tests/emperor/test_resources_v2.py",
    "tests/emperor/test_limits_v2.py",
    "tests/emperor/test_frost.py",
)
EVERYWHERE = ("uml-6.1", "tcg-6.1", "uml-hybrid", "uml-v1", "uml-5.10", "tcg-newest")


@pytest.mark.flavours(*EVERYWHERE)
def test_groups_plans_faults_and_freezing(vm, record_property):
    record_property("inside", suites.run(vm, *GROUPS, seconds=1500))
