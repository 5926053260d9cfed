"""A thousand customers on one host: all are reachable after a start, and a bad one disturbs none."""

import time
from pathlib import Path

import hosting
import pytest
from notes import note
from planned import get

pytestmark = [pytest.mark.root, pytest.mark.machine, pytest.mark.slow, pytest.mark.timeout(400)]
COUNT = 1000
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
BAD = "raise RuntimeError\n"
SHARED = "emperor-throttle = 1000\nemperor-max-throttle = 4000\n"


def customer(host, number, app="app.py"):
    """Write one vassal on demand that ends when nobody has asked for a while."""
    name = f"v{number:04}"
    # first, or a quick look finds a vassal that is not on demand
    (host.place / "vassals" / f"{name}.ini.sock").write_text(str(host.sock(name)))
    (host.place / "vassals" / f"{name}.ini").write_text(
        f"[uwsgi]\nchdir = {host.place}\nhttp-socket = fd://0\nwsgi-file = {app}\nmaster = true\n"
        f"uid = {20000 + number}\ngid = {20000 + number}\nidle = 3\ndie-on-idle = true\nneed-app = true\n"
    )
    return name


def states(host):
    return [row["state"] for row in host.stats()["vassals"]]


def test_a_thousand_on_demand_are_reachable_and_a_crash_loop_disturbs_none(host):
    (host.place / "app.py").write_text(APP)
    (host.place / "bad.py").write_text(BAD)
    names = [customer(host, number) for number in range(COUNT)]
    begun = time.monotonic()
    host.start(
        f"emperor-use-clone = fs,ipc,pid,uts\nemperor-on-demand-extension = .sock\n{SHARED}"
    )
    hosting.wait_for(lambda: states(host).count("on-demand") == COUNT, "a thousand sockets", 60)
    ready = time.monotonic() - begun
    bad = customer(host, COUNT, "bad.py")
    hosting.wait_for(host.sock(bad).exists, "the bad one's socket", 30)
    worst = 0.0
    for at, name in enumerate(names):
        if at % 100 == 0:  # whoever asks it starts it again
            with pytest.raises((OSError, AssertionError)):
                assert get(host, bad, "/", 0.05) == "well"
        asked = time.monotonic()
        assert get(host, name, "/", 30) == "well"
        worst = max(worst, time.monotonic() - asked)
    took = time.monotonic() - begun
    deaths = f"{bad}.ini:4: wsgi-file: cannot load the application bad.py"
    hosting.wait_for(lambda: host.log().count(deaths) > 2, "deaths of the bad one", 30)
    resident = [
        int(line.split()[1]) // 1024
        for line in Path(f"/proc/{host.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    note(
        f"{COUNT} on demand: sockets after {ready:.1f} s, all had answered after {took:.0f} s, "
        f"the slowest in {worst:.2f} s; Emperor {resident[0]} MiB"
    )
