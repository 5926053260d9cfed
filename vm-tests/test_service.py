"""The Emperor as a service of systemd, with the unit of examples/systemd."""

import json

import pytest

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.flavours("uml-6.1", "tcg-6.1", "uml-hybrid", "uml-v1", "tcg-newest"),
]
APP = """def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
NAMES = ("one", "two")
CURL = "curl -fs --retry 300 --retry-all-errors --retry-delay 0 --retry-max-time 90"


def answer(vm, name):
    """Return what vassal ``name`` says, once it does."""
    return vm.sh(f"{CURL} --unix-socket /run/served/{name}.sock http://x/", seconds=120)


@pytest.fixture
def service(vm):
    vm.sh("mkdir -p /etc/donjon/vassals /srv/www /run/served; chmod 1777 /run/served")
    vm.write("/srv/www/app.py", APP)
    for name in NAMES:
        vm.write(
            f"/etc/donjon/vassals/{name}.ini",
            f"[uwsgi]\nchdir = /srv/www\nwsgi-file = app.py\nmaster = true\nuid = 33\ngid = 33\n"
            f"http-socket = /run/served/{name}.sock\n",
        )
    vm.sh("cp examples/systemd/donjon.service /etc/systemd/system/ && systemctl daemon-reload")
    vm.sh("systemctl start donjon || { journalctl -u donjon --no-pager | tail -n 40; false; }")
    yield vm
    vm.sh(
        "systemctl stop donjon.socket donjon 2>/dev/null || true; rm -rf /etc/systemd/system/donjon* "
        "/etc/donjon /run/served /var/log/donjon; systemctl daemon-reload; systemctl reset-failed",
        seconds=180,
    )


def shown(vm, word):
    return vm.sh(f"systemctl show --value -p {word} donjon").strip()


def test_a_service_starts_reloads_recovers_and_stops(service):
    assert [answer(service, name) for name in NAMES] == ["well", "well"]
    assert shown(service, "StatusText") == "The Emperor is governing 2 vassals"
    said = service.sh("journalctl -u donjon --no-pager")
    assert "vassal one.ini is ready to accept requests" in said

    before = shown(service, "MainPID")
    service.sh("systemctl restart donjon")
    assert [answer(service, name) for name in NAMES] == ["well", "well"]
    assert shown(service, "MainPID") != before

    emperor = shown(service, "MainPID")
    service.sh(f"kill -9 {emperor}")
    service.sh(f"for i in $(seq 600); do [ $(systemctl show --value -p MainPID donjon) != {emperor} ] "
               "&& [ $(systemctl is-active donjon) = active ] && exit 0; sleep 0.1; done; exit 1")  # fmt: skip
    assert [answer(service, name) for name in NAMES] == ["well", "well"]
    assert shown(service, "NRestarts") == "1"

    service.sh("systemctl stop donjon")
    assert (shown(service, "ActiveState"), shown(service, "Result")) == ("inactive", "success")
    service.sh("! pgrep -u 33")
    assert service.sh("find /sys/fs/cgroup -type d -name '*.ini'") == ""


def drop_in(vm, text):
    """Change the unit as an administrator does."""
    vm.sh("mkdir -p /etc/systemd/system/donjon.service.d")
    vm.write("/etc/systemd/system/donjon.service.d/here.conf", f"[Service]\n{text}")
    vm.sh("systemctl daemon-reload")


def test_an_emperor_that_hangs_is_started_again_by_the_watchdog(service):
    drop_in(service, "WatchdogSec=15\nTimeoutAbortSec=5\n")
    service.sh("systemctl restart donjon")
    assert answer(service, "one") == "well"
    hung = shown(service, "MainPID")
    service.sh(f"kill -STOP {hung}")
    service.sh(f"for i in $(seq 900); do [ $(systemctl show --value -p MainPID donjon) != {hung} ] "
               "&& [ $(systemctl is-active donjon) = active ] && exit 0; sleep 0.1; done; exit 1", seconds=180)  # fmt: skip
    assert "Watchdog timeout" in service.sh("journalctl -u donjon --no-pager")
    assert [answer(service, name) for name in NAMES] == ["well", "well"]
    assert shown(service, "MainPID") != hung


def test_the_first_connection_starts_the_service_and_its_vassal(service):
    service.sh("systemctl stop donjon", seconds=180)
    service.sh("cp examples/systemd/donjon.socket /etc/systemd/system/")
    drop_in(
        service,
        "ExecStart=\nExecStart=/usr/bin/env donjon --emperor /etc/donjon/vassals "
        "--emperor-use-clone fs,ipc,pid,uts --emperor-on-demand-directory /run/served\n",
    )
    for name in NAMES:
        path = f"/etc/donjon/vassals/{name}.ini"
        service.sh(f"sed -i s,^http-socket.*,http-socket=fd://0, {path}")
    service.sh("systemctl start donjon.socket")
    assert shown(service, "ActiveState") == "inactive"
    ask = f"{CURL} --unix-socket /run/served/one.socket http://x/"
    assert service.sh(ask) == "well"
    assert shown(service, "ActiveState") == "active"
    # who bound the socket keeps it: nobody is refused while the Emperor is restarted
    said = service.sh(
        "systemctl restart --no-block donjon; for i in 1 2 3 4 5 6; do "
        "curl -fs --max-time 60 --unix-socket /run/served/one.socket http://x/ && echo; done",
        seconds=400,
    )
    assert said.split() == ["well"] * 6
    service.sh("systemctl stop donjon.service", seconds=180)
    assert service.sh("test -S /run/served/one.socket && echo there") == "there\n"
    assert service.sh(ask) == "well"


def test_what_is_logged_is_in_the_journal_and_in_files_that_are_turned_over(service):
    log = "/var/log/donjon/one.ini.log"
    assert [answer(service, name) for name in NAMES] == ["well", "well"]
    wanted = "vassal one.ini is ready to accept requests"
    rows = service.sh(
        "journalctl _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID donjon) "
        "-o json --output-fields=MESSAGE,_SYSTEMD_UNIT --no-pager"
    )
    found = [json.loads(line) for line in rows.splitlines()]
    assert [row["_SYSTEMD_UNIT"] for row in found if wanted in row["MESSAGE"]] == [
        "donjon.service"
    ]

    # the kernel's lines of a journal that starts anew reach it, and the Emperor goes on
    emperor = shown(service, "MainPID")
    service.sh("systemctl restart systemd-journald")
    assert answer(service, "one") == "well"
    assert shown(service, "MainPID") == emperor

    service.sh(f"systemctl stop donjon; truncate -s 16M {log}; systemctl start donjon", 180)
    emperor = shown(service, "MainPID")
    assert answer(service, "one") == "well"
    service.sh(f"for i in $(seq 300); do test -e {log}.1 && exit 0; sleep 0.1; done; exit 1")
    assert int(service.sh(f"stat -c %s {log}.1")) == 16 << 20
    assert int(service.sh(f"stat -c %s {log}")) < 1 << 20

    # what logrotate does with copytruncate
    service.sh(f"cp {log} {log}.2 && truncate -s 0 {log} && touch /etc/donjon/vassals/one.ini")
    service.sh(f"for i in $(seq 600); do test -s {log} && exit 0; sleep 0.1; done; exit 1")
    assert b"\0" not in service.read(log)
    assert answer(service, "one") == "well"
    assert shown(service, "MainPID") == emperor
