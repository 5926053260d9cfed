"""The same vassal files under the original's Emperor and under ours: what /proc and sockets show is the same.

What differs on purpose is named in DELIBERATE and in docs/migrating.md.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.uwsgi, pytest.mark.slow]

APP = """
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    facts = {"hostname": os.uname().nodename, "cwd": os.getcwd(), "groups": sorted(os.getgroups()),
             "pid1": os.readlink("/proc/self") if os.path.islink("/proc/self") else ""}
    return [json.dumps(facts).encode()]
"""

CASES: dict[str, tuple[str, str]] = {
    # name: (the Emperor's lines, the vassal's lines)
    "a user and a group": ("", "uid = 33\ngid = 33\n"),
    "names and an additional group": ("", "uid = www-data\ngid = www-data\nadd-gid = 4\n"),
    "a capability": ("", "uid = 33\ngid = 33\ncap = net_bind_service,sys_time\n"),
    "a host name of its own": (
        "",
        "uid = 33\ngid = 33\nunshare = uts,ipc\nhook-post-jail = hostname:cell\n",
    ),
    "born in namespaces": (
        "emperor-use-clone = fs,ipc,pid,uts\n",
        "exec-as-root = hostname foobar\nexec-as-root = umount /proc\n"
        "exec-as-root = mount -t proc none /proc\nuid = 33\ngid = 33\n",
    ),
    "a network of its own": ("emperor-use-clone = net\n", "uid = 33\ngid = 33\n"),
    "a bounding set": ("emperor-cap = setuid,setgid,net_bind_service\n", "uid = 33\ngid = 33\n"),
    "two workers": ("", "uid = 33\ngid = 33\nprocesses = 2\n"),
    "a changed directory": ("", "uid = 33\ngid = 33\nchdir2 = /usr\n"),
}

# Ours is stricter here: a jailed vassal has no_new_privs and an emptied bounding set (architecture §5).
DELIBERATE = {"NoNewPrivs", "CapBnd", "CapAmb"}


def _status(pid: int) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, value in pairs}


def _own_namespaces(pid: int) -> list[str]:
    names = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return [
        name
        for name in names
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    ]


def _wait(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = condition()
        except (OSError, ValueError, IndexError, KeyError):
            value = None
        if value:
            return value
        signal.sigtimedwait([], 0.02)
    raise AssertionError(f"no {what} within {seconds} s")


def _ask(path: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(65536), b""))
    facts: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return facts


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


class Host:
    """One Emperor, one vassal, and what can be seen of them."""

    def __init__(self, program: list[str], extra: str, place: Path, case: tuple[str, str]) -> None:
        self.place = place
        (place / "vassals").mkdir(parents=True)
        (place / "sockets").mkdir()
        (place / "sockets").chmod(0o777)
        (place / "app.py").write_text(APP)
        self.socket = place / "sockets" / "http.sock"
        (place / "vassals" / "shop.ini").write_text(
            f"[uwsgi]\n{extra}chdir = {place}\nhttp-socket = {self.socket}\nchmod-socket = 664\n"
            f"wsgi-file = app.py\nmaster = true\n{case[1]}"
        )
        stats = place / "stats.sock"
        (place / "emperor.ini").write_text(
            f"[uwsgi]\nemperor = {place}/vassals\nemperor-stats = {stats}\n{case[0]}"
        )
        self.log = (place / "log").open("wb")
        self.emperor = subprocess.Popen(
            [*program, "--ini", str(place / "emperor.ini")], stdout=self.log, stderr=self.log
        )
        self.stats_path = stats

    def stats(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.stats_path))
            document: dict[str, Any] = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        return document

    def observe(self) -> dict[str, Any]:
        facts = _wait(lambda: _ask(self.socket), f"answer; log: {self.text()[-2000:]}")
        master = int(self.stats()["vassals"][0]["pid"])
        workers = _wait(lambda: _children(master), "workers")
        status = _status(workers[0])
        seen = {key: status[key] for key in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh")}
        seen["namespaces"] = _own_namespaces(workers[0])
        seen["workers"] = len(workers)
        seen["master"] = {key: _status(master)[key] for key in ("Uid", "CapEff")}
        seen["socket"] = oct(self.socket.stat().st_mode)
        seen["socket owner"] = self.socket.stat().st_uid
        return seen | facts | {"cwd": facts["cwd"].replace(str(self.place), "")}

    def text(self) -> str:
        return (self.place / "log").read_text(errors="replace")

    def close(self) -> int:
        self.emperor.send_signal(signal.SIGINT)
        try:
            return self.emperor.wait(40)
        finally:
            self.log.close()
            if self.emperor.poll() is None:
                self.emperor.kill()
                self.emperor.wait()


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(program: list[str], extra: str, case: tuple[str, str]) -> Host:
        place = Path("/tmp") / f"donjon-diff-{os.getpid()}-{len(made)}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        made.append(Host(program, extra, place, case))
        return made[-1]

    yield make
    for one in made:
        try:
            assert one.close() == 0, one.text()[-2000:]
        finally:
            shutil.rmtree(one.place, ignore_errors=True)


@pytest.mark.parametrize("name", CASES)
def test_the_same_file_gives_the_same_process(name: str, host: Callable[..., Host]) -> None:
    case = CASES[name]
    theirs = host(["uwsgi"], "plugins = python3\n", case).observe()
    ours = host([sys.executable, "-m", "donjon"], "", case).observe()
    assert ours == theirs


@pytest.mark.parametrize("key", ["emperor", "vassals", "blacklist", "emperor_tyrant", "throttle_level"])
def test_the_statistics_have_the_keys_of_the_original(key: str, host: Callable[..., Host]) -> None:
    case = CASES["a user and a group"]
    theirs = host(["uwsgi"], "plugins = python3\n", case)
    ours = host([sys.executable, "-m", "donjon"], "", case)
    for one in (theirs, ours):
        one.observe()
    assert type(ours.stats()[key]) is type(theirs.stats()[key])
    missing = set(theirs.stats()["vassals"][0]) - set(ours.stats()["vassals"][0])
    assert missing == set()
