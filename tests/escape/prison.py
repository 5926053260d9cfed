"""An Emperor with two jailed customers whose application is the probe, on a host that is watched."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import hosting
from hosting import DONJON, Host
from patience import patient
from profiles import Profile, copied_root

from donjon.jail import cgroup_layout

HERE = Path(__file__).parent
OWNER = 1003
CELL, NEIGHBOUR = "cell", "neighbour"
FLAGS = ["-static", "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-Wshadow", "-Wconversion"]  # fmt: skip
SHARED = ["unshare", "--mount", "--propagation", "private", "unshare", "--mount", "--propagation", "shared"]  # fmt: skip
"""The Emperor has mounts of its own, shared as systemd makes them: what travels is seen, and the
mounts of others on this machine are not."""

LIMITS = {"pids": ("pids.max", "100"), "memory": ("memory.limit_in_bytes", str(448 << 20))}
LIMITS_V2 = {"pids.max": "100", "memory.max": str(448 << 20)}
VOLATILE = re.compile(
    r"^(fs/(dentry-state|file-nr|inode-(nr|state)|aio-nr|quota|mqueue|nfs)"
    r"|kernel/(random|ns_last_pid|pty/nr|perf_|sched_domain|tainted|threads-max)"
    r"|net/.*(conntrack_count|flush)|dev/cdrom|debug|vm/stat_refresh)"
)


def build_probe(place: Path) -> Path:
    """Compile the C program without a library to be found."""
    program = place / "probe"
    sources = sorted(map(str, (HERE / "probe").glob("*.c")))
    subprocess.run(["gcc", *FLAGS, "-o", str(program), *sources], check=True)
    return program


def settings() -> dict[str, str]:
    """Return every setting of the kernel that does not change by itself."""
    found = {}
    for path in Path("/proc/sys").rglob("*"):
        name = str(path.relative_to("/proc/sys"))
        if VOLATILE.match(name) or path.is_dir():
            continue
        try:
            found[name] = path.read_bytes().decode("latin-1")
        except OSError:
            continue  # not to be read by anybody
    return found


class WatchedHost(Host):
    """A host whose Emperor has shared mounts of its own and inherits a directory by mistake."""

    def vassal(self, name: str, text: str) -> Path:
        """Write a vassal whose application is the probe."""
        return super().vassal(name, f"chdir = {self.place}/app\n{text}")

    def start(self, lines: str = "", program: list[str] | None = None) -> None:
        (self.place / "emperor.ini").write_text(
            f"[uwsgi]\nemperor = {self.place}/vassals\nemperor-stats = {self.place}/stats\n"
            f"emperor-control = {self.place}/control\n{lines}"
        )
        command = [*SHARED, *(program or DONJON), "--ini", str(self.place / "emperor.ini")]
        leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with (self.place / "log").open("wb") as log:
                self.emperor = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(leaked,)
                )
        finally:
            os.close(leaked)


def install(host: Host, probe: Path) -> Path:
    """Make the probe the application of all vassals of a host, and return where it is."""
    app = host.place / "app"
    app.mkdir()
    shutil.copy(HERE / "probe.py", app / "app.py")
    shutil.copy(probe, app / "probe")
    return app


class Prison:
    """One profile with its two vassals; it is the ``cell`` of the cases too."""

    def __init__(self, profile: Profile, probe: Path) -> None:
        self.profile = profile
        self.root_inside = profile.root_inside
        self.host = WatchedHost(Path(f"/tmp/donjon-escape-{os.getpid()}-{profile.name}"))
        self.place = self.host.place
        self.root = ""
        if profile.root != "host":
            self.root = copied_root(profile.root, profile.name)
        self.groups: list[str] = []
        self.limits: dict[str, str] = {}
        self._furnish(probe)
        self.host.start(self._operator())
        for name in (CELL, NEIGHBOUR):
            self.wait_for_answer(name)
        self.words = {
            "place": str(self.place),
            "app": str(self.place / "app"),
            "sockets": str(self.place / "sockets"),
            "secret": str(self.place / "secret"),
            "stats": str(self.place / "stats"),
            "control": str(self.place / "control"),
            "uid": str(OWNER),
            "emperor": str(self.host.pid),
            "master": str(self.master(CELL)),
            "neighbour": str(self.master(NEIGHBOUR)),
        }
        self.before = self.seen()
        self.settings = settings()

    def _furnish(self, probe: Path) -> None:
        install(self.host, probe)
        (self.place / "secret").write_text("secret")
        setuid = self.place / "sockets" / "setuid"
        shutil.copy(probe, setuid)
        setuid.chmod(0o4755)
        mine = "" if self.profile.tyrant else f"uid = {OWNER}\ngid = {OWNER}\n"
        for name in (CELL, NEIGHBOUR):
            path = self.host.vassal(name, mine)
            if self.profile.tyrant:
                os.chown(path, OWNER, OWNER)
                path.chmod(0o600)

    def _operator(self) -> str:
        sockets = self.place / "sockets"
        base = f"[uwsgi]\n{self.profile.rootfs(self.root)}hostname = cell\nbind = {sockets}:{sockets}\n"
        if self.profile.root != "host":
            base += f"bind = {self.place}/app:{self.place}/app:ro\n"
        base += self.profile.lines + self._plan()
        (self.place / "base.ini").write_text(base)
        tyrant = "emperor-tyrant = true\n" if self.profile.tyrant else ""
        return (
            f"emperor-use-clone = {self.profile.namespaces}\n{tyrant}"
            f"vassals-include = {self.place}/base.ini\n"
        )

    def _plan(self) -> str:
        """Limit processes and memory in groups of version 1 where there are such, else of version 2."""
        layout = cgroup_layout.look()
        if {"memory", "pids"} <= layout.controllers:
            return self._plan_v2(str(layout.unified))
        lines = ""
        for controller, (key, value) in LIMITS.items():
            top = f"/sys/fs/cgroup/{controller}"
            if not os.access(f"{top}/tasks", os.W_OK):
                continue
            group = f"donjon-escape-{os.getpid()}-{self.profile.name}"
            lines += f"cgroup = {top}/{group}/%N\ncgroup-opt = {key}={value}\n"
            self.groups.append(f"{controller}/{group}/{CELL}")
            self.limits[f"{top}/{group}/{CELL}/{key}"] = value
        return lines

    def _plan_v2(self, top: str) -> str:
        group = f"donjon-escape-{os.getpid()}-{self.profile.name}"
        lines = f"cgroup = {top}/{group}/%N\n"
        self.groups.append(f"unified/{group}/{CELL}")
        for key, value in LIMITS_V2.items():
            lines += f"cgroup-opt = {key}={value}\n"
            self.limits[f"{top}/{group}/{CELL}/{key}"] = value
        return lines

    def wait_for_answer(self, name: str) -> None:
        """Wait until a vassal serves."""
        try:
            hosting.wait_for(lambda: hosting.ask(self.host.sock(name), "/A4"), "answer", 20)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.host.log()[-3000:]}") from None

    def hit(self, target: str) -> None:
        """Ask for something that gives no answer."""
        try:
            hosting.receive(self.host.sock(CELL), f"GET /{target} HTTP/1.0\r\n\r\n".encode())
        except ConnectionError:
            return  # the worker died in the middle

    def ask(self, target: str, of: str = CELL) -> Any:
        """Ask the application of a vassal."""
        answer = hosting.ask(self.host.sock(of), f"/{target}")
        assert "raised" not in answer, answer
        return answer

    def c(self, verb: str, *words: str, of: str = CELL) -> dict[str, str]:
        """What the C program found in a vassal."""
        facts: dict[str, str] = self.ask(f"c/{verb}?{'&'.join(words)}", of)["facts"]
        return facts

    def py(self, name: str, *words: str, of: str = CELL) -> Any:
        """What the Python probe found in a vassal."""
        return self.ask(f"{name}?{'&'.join(words)}", of)["found"]

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the cell, as an operator does."""
        words = [
            *DONJON,
            "enter",
            "--control",
            str(self.place / "control"),
            f"{CELL}.ini",
            *command,
        ]
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(30),
            stdin=subprocess.DEVNULL,
        )

    def master(self, name: str) -> int:
        """The host's pid of the first process of a vassal."""
        return self.host.master(name)

    def processes(self, name: str) -> list[int]:
        """The host's pids of a vassal's processes that live."""
        master = self.master(name)
        return [pid for pid in (master, *hosting.descendants(master)) if hosting.alive(pid)]

    def worker(self) -> int:
        """The host's pid of the process that runs the application."""
        return max(hosting.descendants(self.master(CELL)))

    def zombies(self) -> list[str]:
        """Dead processes of the cell that nobody reaps."""

        def count() -> int:
            return sum(not hosting.alive(pid) for pid in hosting.descendants(self.master(CELL)))

        try:
            hosting.wait_for(lambda: count() == 0, "reaping", 5)
        except AssertionError:
            return [f"{count()} zombies"]
        return []

    def seen(self) -> dict[str, object]:
        """What must be the same after each attack."""
        return {
            "mounts": Path(f"/proc/{self.host.pid}/mountinfo").read_text(),
            "name": Path("/proc/sys/kernel/hostname").read_text(),
            "domain": Path("/proc/sys/kernel/domainname").read_text(),
            "emperor": len(os.listdir(f"/proc/{self.host.pid}/fd")),
            "neighbour": self.master(NEIGHBOUR),
            "cell": self.master(CELL),
            "programs": _hashes((sys.executable, "/bin/sh")),
        }

    def changed(self) -> list[str]:
        """Return what is not as it was; what settles within two seconds is."""

        def same() -> bool:
            return self.seen() == self.before

        try:
            hosting.wait_for(same, "the host as it was", 2)
        except AssertionError:
            return [key for key, now in self.seen().items() if now != self.before[key]]
        return []

    def close(self) -> None:
        """End everything; nothing may be left."""
        try:
            self.host.close()
        finally:
            if self.root:
                shutil.rmtree(self.root)
        tops = [Path(path).parents[1] for path in self.limits]
        left = [str(top) for top in tops if top.exists()]
        assert not left, left


def _hashes(paths: tuple[str, ...]) -> list[str]:
    return [hashlib.sha1(Path(path).read_bytes()).hexdigest() for path in paths]
