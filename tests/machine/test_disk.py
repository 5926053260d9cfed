"""The disk is full: what runs goes on, what cannot be done is said, and is done when there is room."""

import os
import subprocess
from pathlib import Path

import hosting
import pytest
from planned import get, well

pytestmark = [pytest.mark.root, pytest.mark.machine, pytest.mark.slow, pytest.mark.timeout(200)]
APP = """
import sys
def application(environ, start_response):
    print("asked for " + environ["PATH_INFO"] * 20, file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    (host.place / "logs").mkdir()
    return host


@pytest.fixture
def full():
    """Take every block of the disk; give them back by a call."""
    ballast = Path("/ballast")

    def free():
        ballast.unlink(missing_ok=True)
        os.sync()

    def fill():
        with ballast.open("wb") as file:
            for size in (1 << 26, 1 << 20, 1 << 12):
                at = os.fstat(file.fileno()).st_size
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), at, size)
                        at += size
                except OSError:
                    continue
        os.sync()

    yield fill, free
    free()


def files(place):
    """Names and sizes of what must not be half written."""
    return {path.name: path.read_bytes() for path in Path(place).glob("ids*") if path.is_file()}


def test_a_full_disk_stops_nobody_and_is_said(host, full):
    fill, free = full
    host.vassal("old", "id-range = auto:old\n")
    host.start(
        f"emperor-log-directory = {host.place}/logs\nid-range-ledger = {host.place}/ids\n"
        f"emperor-control = {host.place}/control\nemperor-pidfile = {host.place}/pid\n"
    )
    well(host, "old", 30)
    new = host.vassal("new", "id-range = auto:new\n")
    text = new.read_text()
    new.unlink()
    hosting.wait_for(
        lambda: len(host.stats()["vassals"]) == 1, "the end of one that came early", 30
    )
    log, ledger, pid = (
        host.place / "logs" / "old.ini.log",
        files(host.place),
        host.row("old")["pid"],
    )
    # what is shown of the kernel's own file systems needs no block of the disk
    other = Path("/run/new.ini")
    other.write_text(text)
    fill()
    before = log.stat().st_size
    for number in range(400):
        assert get(host, "old", f"/full/{number}" + "x" * 200) == "well"
    assert log.stat().st_size - before < 400 * 200, "the disk was not full"
    os.symlink(other, host.place / "vassals" / "new.ini")
    reason = hosting.wait_for(lambda: host.row("new")["error"], "the reason", 30)
    assert "No space left on device" in reason
    assert files(host.place) == ledger
    for verb in ("ls", "show"):
        done = subprocess.run(
            [*hosting.DONJON, verb, "--control", f"{host.place}/control", *(["old.ini"] if verb == "show" else [])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (host.row("old")["pid"], host.emperor.poll()) == (pid, None)
    free()
    well(host, "new", 60)
    assert get(host, "old", "/after") == "well"
    hosting.wait_for(lambda: "/after" in log.read_text(), "the log's next line", 15)
    assert "bytes are missing here: No space left on device\n" in log.read_text()
    assert set(files(host.place)) == set(ledger)
    assert len(subprocess.run(
        [*hosting.DONJON, "ids", "--ledger", f"{host.place}/ids", "--json"], capture_output=True, check=True
    ).stdout) > 10  # fmt: skip
