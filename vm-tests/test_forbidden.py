"""Hosts whose kernel or administrator forbids something: who asks for it is told, everybody else serves."""

import json

import pytest

pytestmark = pytest.mark.timeout(900)
APP = """def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
CURL = "curl -fs --retry 300 --retry-all-errors --retry-delay 0 --retry-max-time 90"


@pytest.fixture
def emperor(vm):
    """Start an Emperor with these vassals; return what it says of each."""
    vm.sh("mkdir -p /srv/www /srv/vassals /run/served; chmod 1777 /run/served")
    vm.write("/srv/www/app.py", APP)

    def start(**vassals):
        for name, lines in vassals.items():
            vm.write(
                f"/srv/vassals/{name}.ini",
                "[uwsgi]\nchdir = /srv/www\nwsgi-file = app.py\nmaster = true\n"
                f"http-socket = /run/served/{name}.sock\nchmod-socket = 666\n{lines}",
            )
        vm.sh(
            "systemd-run --quiet --unit=emperor -p Type=notify donjon --emperor /srv/vassals "
            "--emperor-use-clone fs,ipc,pid,uts --emperor-control /run/served/control"
        )

    yield start
    vm.sh("systemctl stop emperor; rm -rf /srv/vassals /run/served", seconds=120)


def row(vm, name):
    rows = json.loads(vm.sh("donjon ls --json --control /run/served/control"))
    return next(row for row in rows if row["name"] == f"{name}.ini")


def answer(vm, name):
    return vm.sh(f"{CURL} --unix-socket /run/served/{name}.sock http://x/", seconds=120)


@pytest.mark.flavours("uml-no-userns")
def test_without_user_namespaces_who_wants_one_is_told_and_others_serve(vm, emperor):
    plain = "uid = 33\ngid = 33\nrootfs = host\nbind = /run/served\n"
    emperor(plain=plain, wants=f"{plain}unshare = user\n")
    assert answer(vm, "plain") == "well"
    said = vm.sh(
        "for i in $(seq 300); do journalctl -u emperor --no-pager | grep -m 1 'wants.ini.*user' && exit 0; "
        "sleep 0.1; done; journalctl -u emperor --no-pager; exit 1"
    )
    assert "No space left on device" in said or "max_user_namespaces" in said
    assert row(vm, "wants")["state"] != "running"
    assert answer(vm, "plain") == "well"


@pytest.mark.flavours("uml-6.1", "tcg-no-landlock")
def test_without_landlock_a_jail_is_made_without_it_and_says_so_once(vm, emperor):
    emperor(one="uid = 33\ngid = 33\nrootfs = host\nbind = /run/served\nlandlock = auto\n")
    assert answer(vm, "one") == "well"
    said = vm.sh("journalctl -u emperor --no-pager")
    assert said.count("one.ini:11: landlock: this kernel has no Landlock; no second wall") == 1, (
        said
    )
