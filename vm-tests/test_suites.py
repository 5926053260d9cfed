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


@pytest.mark.deep
@pytest.mark.flavours(*EVERYWHERE)
def test_attacks_on_jails(vm, record_property):
    record_property("inside", suites.run(vm, "tests/escape", seconds=2100))


@pytest.mark.deep
@pytest.mark.flavours("uml-6.1", "tcg-6.1")
def test_a_host_without_memory_and_without_disk(vm, record_property):
    words = (
        "tests/machine/test_memory.py",
        "tests/machine/test_disk.py",
        "tests/emperor/test_mercy.py",
    )
    record_property("inside", suites.run(vm, *words, seconds=1500))


@pytest.mark.deep
@pytest.mark.flavours("uml-6.1", "tcg-6.1")
def test_a_thousand_customers(vm, record_property):
    record_property("inside", suites.run(vm, "tests/machine/test_size.py", seconds=2100))


@pytest.mark.deep
@pytest.mark.flavours("tcg-6.1")
def test_two_hundred_of_one_application_are_merged(vm, record_property):
    record_property("inside", suites.run(vm, "tests/machine/test_merging.py", seconds=2100))


@pytest.mark.deep
@pytest.mark.flavours("uml-6.1", "tcg-6.1")
def test_limits_of_a_machine(vm, record_property):
    record_property("inside", suites.run(vm, "tests/machine/test_limits.py", seconds=1500))
