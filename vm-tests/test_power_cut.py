"""The power goes at any moment while vassals come, change and go: the next start has them all, once.

Configurations, the ledger of id ranges, sockets, the pid file and the logs lie on a disk that outlives
the guest. Each boot checks what the cut before it left, and is cut in its turn.
"""

import json
import random
import re
import select

import pytest
from machine import guests

EMPEROR = """[uwsgi]
emperor = /srv/vassals
emperor-use-clone = fs,ipc,pid,uts
emperor-control = /srv/run/control
emperor-stats = /srv/run/stats
emperor-pidfile = /srv/run/emperor.pid
id-range-ledger = /srv/ids
plan-file = /srv/plans.ini
plan-assign = * all
"""
APP = """def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
CHURN = "/usr/local/src/donjon/vm-tests/guest/churn.py"
LEDGER = "donjon ids --ledger /srv/ids --json"


def prepare(vm):
    vm.sh("mkdir -p /srv/vassals /srv/run && chmod 755 /srv && chmod 1777 /srv/run")
    vm.write("/srv/app.py", APP)
    vm.write("/srv/emperor.ini", EMPEROR)
    vm.write("/srv/plans.ini", "[plan:all]\npids = 64\nmemory-max = 128M\n")
    vm.sh("sync")


def committed(console):
    """Return the names that are on the disk for certain, and those that may be."""
    certain, doubtful = set(), set()
    for what, name in re.findall(r"COMMIT (add|removing) (\S+)", console):
        if what == "add":
            certain.add(name)
        else:
            certain.discard(name)
            doubtful.add(name)
    return certain, doubtful


def look(vm):
    """Start the Emperor and return what it has, once every vassal answers."""
    vm.sh(
        "systemd-run --quiet --unit=emperor -p Type=notify -p TasksMax=infinity donjon --ini /srv/emperor.ini"
    )
    names = [name.removesuffix(".ini") for name in vm.sh("ls /srv/vassals").split()]
    for name in names:
        vm.sh(
            f"curl -fs --retry 300 --retry-all-errors --retry-delay 0 --retry-max-time 90 "
            f"--unix-socket /srv/run/{name}.sock http://x/ || "
            "{ journalctl -u emperor --no-pager | tail -n 40; false; }",
            seconds=120,
        )
    told = [
        row["name"] for row in json.loads(vm.sh("donjon ls --json --control /srv/run/control"))
    ]
    assert sorted(told) == sorted(f"{name}.ini" for name in names)
    ledger = {row["name"]: row["base"] for row in json.loads(vm.sh(LEDGER))} if names else {}
    assert len(set(ledger.values())) == len(ledger)
    assert set(names) <= set(ledger)
    pidfile = vm.sh("cat /srv/run/emperor.pid; systemctl show --value -p MainPID emperor").split()
    assert pidfile[0] == pidfile[1]
    return set(names), ledger


@pytest.mark.flavours("uml-6.1", "tcg-6.1")
@pytest.mark.timeout(5400)
def test_nothing_is_lost_or_doubled(machines, flavour, tmp_path, pytestconfig, record_property):
    cuts = pytestconfig.getoption("cuts") if flavour.startswith("uml") else 2
    disk = guests.data_disk(tmp_path / "data.ext4")
    certain, ledger, changes = set(), {}, 0
    for cut in range(cuts + 1):
        vm = machines.boot(flavour, disk)
        try:
            if cut == 0:
                prepare(vm)
            names, found = look(vm)
            assert certain <= names, f"after cut {cut}: lost {certain - names}"
            kept = {name: found.get(name) for name in ledger}
            assert kept == ledger, f"after cut {cut}: the ledger forgot or changed a row"
            ledger, certain = found, names
            if cut < cuts:
                vm.sh(f"systemd-run --quiet --unit=churn python3 {CHURN} {cut}")
                select.select(
                    [],
                    [],
                    [],
                    random.Random(cut).uniform(0.2, 5) * (1 if flavour.startswith("uml") else 3),
                )
        finally:
            vm.cut()
        console = vm.console.read_text(errors="replace")
        changes += console.count("COMMIT")
        added, doubtful = committed(console)
        certain = (certain | added) - doubtful
    assert changes > cuts, "hardly anything was under way when the power went"
    record_property("inside", f"{cuts} cuts, {changes} changes")
