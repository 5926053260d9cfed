"""The manual's page on control groups: shares of a processor and of memory, measured (SPT-01)."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import hosting
import pytest

from donjon.jail import cgroup_layout

pytestmark = [pytest.mark.root, pytest.mark.cgroup1, pytest.mark.slow]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quality"
CUSTOMERS = {"one": 8101, "two": 8102, "three": 8103, "four": 8104}
SECONDS = 4.0
LAYOUT = cgroup_layout.look()


def get(port, path="/"):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: link.recv(65536), b""))


def time_of(pid):
    """Return the nanoseconds a process ran: proc_pid_schedstat(5)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


@pytest.fixture
def example(tmp_path):
    base = f"donjon-quality-{os.getpid()}"
    place = Path(f"/tmp/{base}")
    shutil.copytree(EXAMPLE, place)
    place.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        emperor = subprocess.Popen(
            [*hosting.DONJON, "--ini", str(place / "emperor.ini"), "--plan-cgroup", base,
             "--emperor-control", str(tmp_path / "control"), "--emperor-stats", str(tmp_path / "stats")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        for port in CUSTOMERS.values():
            hosting.wait_for(lambda port=port: b"200" in get(port), "answer")
        rows = hosting.receive(tmp_path / "stats")
        yield base, {row["id"][:-4]: row["pid"] for row in json.loads(rows)["vassals"]}
    finally:
        emperor.send_signal(signal.SIGINT)
        try:
            assert emperor.wait(30) == 0, (tmp_path / "log").read_text()[-2000:]
        finally:
            emperor.kill()
            emperor.wait()
            shutil.rmtree(place)
    assert not any(Path(root, base).exists() for root in LAYOUT.old.values())


def test_spt01_four_customers_share_a_processor_as_125_125_250_500(example):
    _base, masters = example
    workers = {name: hosting.children(pid)[0] for name, pid in masters.items()}
    for pid in workers.values():
        os.sched_setaffinity(pid, {0})
    done = threading.Event()

    def load(port):
        while not done.is_set():
            get(port, "/work")

    clients = [threading.Thread(target=load, args=(port,)) for port in CUSTOMERS.values()]
    for client in clients:
        client.start()
    try:
        hosting.pause(1.0)  # every worker has work, and what it did before counts no more
        before = {name: time_of(pid) for name, pid in workers.items()}
        hosting.pause(SECONDS)
        used = {name: time_of(pid) - before[name] for name, pid in workers.items()}
    finally:
        done.set()
        for client in clients:
            client.join()
    shares = {name: 1000 * one / sum(used.values()) for name, one in used.items()}
    wanted = {"one": 125, "two": 125, "three": 250, "four": 500}
    assert shares == {name: pytest.approx(share, rel=0.1) for name, share in wanted.items()}


def test_cgr07_two_gibibytes_are_split_among_four(example):
    base, _masters = example
    limits = {
        name: int(
            Path(LAYOUT.old["memory"], base, f"{name}.ini", "memory.limit_in_bytes").read_text()
        )
        for name in CUSTOMERS
    }
    assert limits == {"one": 256 << 20, "two": 256 << 20, "three": 512 << 20, "four": 1 << 30}
    assert sum(limits.values()) == 2 << 30
