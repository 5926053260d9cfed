"""The Emperor as a service of systemd, with the unit of examples/systemd."""

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
        "systemctl stop donjon; systemctl reset-failed; rm -rf /etc/donjon /run/served",
        seconds=120,
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
