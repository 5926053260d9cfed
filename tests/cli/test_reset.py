"""``donjon reset``: a vassal on layers, stopped, goes back to its base; a running one does not."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hosting import Host, wait_for

pytestmark = pytest.mark.root

APP = """
import os
def application(environ, start_response):
    path = "/var/visits"
    count = int(open(path).read()) if os.path.exists(path) else 0
    open(path, "w").write(str(count + 1))
    start_response("200 OK", [])
    return [b'{"visits": %d}' % count]
"""


@pytest.fixture(scope="module")
def host():
    """An Emperor whose vassal ``shop`` writes into its own copy of a shared root."""
    one = Host(Path(tempfile.mkdtemp(prefix="donjon-reset.")))
    lower = one.place / "base"
    (lower / "var").mkdir(parents=True)
    (lower / "app.py").write_text(APP)
    (one.place / "cow").mkdir()
    try:
        (one.place / "vassals" / "shop.ini").write_text(
            f"[uwsgi]\nrootfs = overlay:{lower}:{one.place}/cow\nmaster = true\n"
            f"bind = {one.place}/sockets:/sockets\nhttp-socket = /sockets/shop.sock\n"
            "wsgi-file = /app.py\n"
        )
        one.vassal("plain", "uid = 10011\ngid = 10011\n")
        one.start(f"emperor-control = {one.place}/control\n")
        one.answer("shop")
        yield one
    finally:
        one.close()


def row(ask):
    return json.loads(ask("show", "--json", "shop").stdout)


def stop(ask):
    ask("stop", "shop")
    wait_for(lambda: row(ask)["pid"] <= 0, "end of the vassal")


def start(ask, host):
    ask("start", "shop")
    return wait_for(lambda: host.answer("shop"), "answer")["visits"]


def test_a_running_vassal_is_not_reset(ask, donjon, host):
    done = ask("reset", "shop")
    assert done.returncode == 1
    assert done.stderr == "donjon: cannot reset shop.ini: it runs (donjon stop shop.ini)\n"
    done = donjon("reset", "--file", host.place / "vassals" / "shop.ini")
    assert done.returncode == 1
    assert "a running jail writes to it (stop it first: donjon stop NAME)" in done.stderr


def test_a_stopped_vassal_keeps_its_changes_until_it_is_reset(ask, host):
    before = host.answer("shop")["visits"]
    stop(ask)
    assert (host.place / "cow" / "upper" / "var" / "visits").exists()
    assert start(ask, host) > before
    stop(ask)
    done = ask("reset", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"shop.ini begins at its base: {host.place}/cow is empty\n"
    assert os.listdir(host.place / "cow") == ["lock"]
    assert start(ask, host) == 0
    assert not (host.place / "base" / "var" / "visits").exists()


def test_a_file_is_reset_as_well(ask, donjon, host):
    host.answer("shop")
    stop(ask)
    done = donjon("reset", "--file", host.place / "vassals" / "shop.ini")
    assert (done.returncode, done.stderr) == (0, "")
    assert start(ask, host) == 0


def test_a_root_that_keeps_nothing_has_nothing_to_reset(ask, donjon, host):
    done = donjon("reset", "--file", host.place / "vassals" / "plain.ini")
    assert done.returncode == 1
    assert "has nothing to reset: its rootfs is the host" in done.stderr
    assert "rootfs = overlay:LOWER:UPPER does" in done.stderr


def test_a_name_or_a_file_is_needed(donjon):
    assert donjon("reset").returncode == 2
    assert donjon("reset", "shop", "--file", "shop.ini").returncode == 2
