"""One jail, from request to the end of /bin/true: donjon beside bubblewrap, runc and nspawn.

    sudo .venv/bin/python benchmarks/jail.py [--runs 100] [--json] [--check]

All make the same jail: five namespaces (fs, ipc, pid, uts, net); a root with /usr read-only, a
/proc and a minimal /dev of its own, private /tmp and /run; no capability, no_new_privs; then
/bin/true. donjon's has besides its default filter of system calls, and what else each jail gets.
donjon is asked as an Emperor asks: a spawner (the zygote) gets an order over its socket with a
plan that was made before, and the jail is a vassal that becomes a foreign program. Time counts
from the first descriptor made for the order (and from making its control groups), or from the
peer's posix_spawn, until the pidfd tells the end. Contenders take turns, so that what the machine
does beside falls on all. ``cpu`` is processor time of all processes involved, which other load
disturbs less; with other load on all processors the clock shows who is woken more often.

Then the steps that a jail can have besides, each added alone; what this build has not is named.
``--check`` fails unless donjon takes at most 0.8 of bubblewrap's time and 0.25 of runc's.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from donjon import syscalls
from donjon.config.entry import Entry
from donjon.config.options import find
from donjon.config.spec import EmperorSpec
from donjon.emperor.birth import Birth
from donjon.emperor.orders import Answer, Order
from donjon.emperor.prepare import Preparer, Reading, vassal_environment
from donjon.emperor.scanner import Found
from donjon.emperor.spawner import Spawner
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.instance import vassal_main
from donjon.jail import cgroups, userns
from donjon.origin import Origin
from donjon.records import replace

WORDS = frozenset({"fs", "ipc", "pid", "uts", "net"})
UID = 20001
PROGRAM = "/bin/true"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
NAME = "bench.ini"
LINKS = ("bin", "sbin", "lib", "lib64")  # into /usr
BARS = {"bubblewrap": 0.8, "runc": 0.25}


@dataclass(frozen=True, slots=True)
class Took:
    """One jail: milliseconds on the clock, and of processors."""

    wall: float
    cpu: float


@dataclass(slots=True)
class Contender:
    """Who makes jails, and what they took."""

    name: str
    make: Callable[[], Took]
    took: list[Took] = field(default_factory=list)

    def wall(self) -> list[float]:
        """Return the times, the shortest first."""
        return sorted(one.wall for one in self.took)

    def summary(self) -> dict[str, float]:
        """Return what a row of the table shows."""
        wall = self.wall()
        return {
            "median": statistics.median(wall),
            "p10": wall[len(wall) // 10],
            "p90": wall[len(wall) * 9 // 10],
            "cpu": statistics.median(one.cpu for one in self.took),
        }


class Donjon:
    """The Emperor's side of births: one spawner, and an order for each jail."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.spawner = Spawner.start(vassal_main)
        self.environment = vassal_environment(ENVIRONMENT)
        self.orders = 0

    def understand(self, options: Sequence[tuple[str, str]], words: frozenset[str]) -> Reading:
        """Return Launch and plan of a vassal, as an Emperor makes them of its file."""
        wanted = (*options, ("unprivileged-binary-patch", PROGRAM))
        entries = [
            Entry(key, value, Origin(NAME, line, key)) for line, (key, value) in enumerate(wanted)
        ]
        spec = EmperorSpec(sources=(), use_clone=words)
        found = Found(NAME, str(self.place / NAME), 0, (0, 0), 0, 0, 0)
        return Preparer(spec, ["donjon"]).understand(NAME, found, entries)

    def make(self, reading: Reading) -> Took:
        """Have one jail made, and wait until its program ended."""
        cpu = time.process_time() + self._spawner_cpu()
        begun = time.perf_counter()
        with ExitStack() as ours:
            prepared = None
            if reading.launch.jail.cgroups:
                prepared = cgroups.prepare(reading.launch.jail)
                ours.callback(lambda: cgroups.remove(prepared.created))
                ours.callback(prepared.close)
            answer = self._order(reading, prepared, ours)
            wall = wait_for_end(answer.pidfd, begun)
            _, status, usage = os.wait4(answer.pid, 0)
            if answer.error or status:
                raise SystemExit(f"the jail failed: {answer.error or status}")
        own = time.process_time() + self._spawner_cpu() - cpu
        return Took(wall, (own + usage.ru_utime + usage.ru_stime) * 1000)

    def _order(
        self, reading: Reading, prepared: cgroups.Prepared | None, ours: ExitStack
    ) -> Answer:
        """Send an order with the descriptors of ``nursery``; the child's ends are closed here."""
        with ExitStack() as lent:
            roles, fds = [], []
            for role in ("control", "launch"):
                near, far = socket.socketpair()
                ours.enter_context(near)
                fds.append(lent.enter_context(Fd(far.detach())).fileno())
                roles.append(role)
            for role in ("error", "log"):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ours.enter_context(Fd(reader))
                fds.append(lent.enter_context(Fd(writer)).fileno())
                roles.append(role)
            if prepared is not None:
                roles += ["tasks"] * len(prepared.tasks_fds)
                fds += prepared.tasks_fds
            if prepared is not None and prepared.v2_fd >= 0:
                roles.append("cgroup")
                fds.append(prepared.v2_fd)
            go = -1
            if reading.clone_flags & syscalls.CLONE_NEWUSER:
                reader, go = os.pipe2(os.O_CLOEXEC)
                ours.enter_context(Fd(go))
                fds.append(lent.enter_context(Fd(reader)).fileno())
                roles.append("go")
            self.spawner.send(self._of(reading, roles), tuple(fds))
        answer = self.spawner.receive()
        if answer is None:
            raise SystemExit("the spawner died")
        ours.enter_context(Fd(answer.pidfd))
        if go >= 0:
            if reading.ids is not None:
                userns.write_id_map(answer.pid, reading.ids)
            os.write(go, b"g")
        return answer

    def _of(self, reading: Reading, roles: list[str]) -> Order:
        self.orders += 1
        birth = Birth(
            name=NAME,
            launch=replace(reading.launch, entries=()),
            born_in=reading.clone_words,
            environment=self.environment,
            argv=reading.argv,
            in_cgroups=bool(reading.launch.jail.cgroups),
            outline=reading.outline.in_cgroups(),
        )
        return Order(
            number=self.orders,
            emperor_pid=os.getpid(),
            roles=tuple(roles),
            clone_flags=reading.clone_flags,
            cwd=str(self.place),
            birth=birth,
        )

    def _spawner_cpu(self) -> float:
        return int(Path(f"/proc/{self.spawner.pid}/schedstat").read_text().split()[0]) / 1e9


def wait_for_end(pidfd: int, begun: float) -> float:
    """Wait until a process ended; return the milliseconds since ``begun``."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll()
    return (time.perf_counter() - begun) * 1000


def run_program(argv: Sequence[str]) -> Took:
    """Run a program to its end."""
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (1, 2)]
    begun = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=quiet)
    with Fd(os.pidfd_open(pid)) as pidfd:
        wall = wait_for_end(pidfd.fileno(), begun)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(argv)} failed: {os.waitstatus_to_exitcode(status)}")
    return Took(wall, (usage.ru_utime + usage.ru_stime) * 1000)


def make_root(place: Path) -> Path:
    """Make the directory that all but bubblewrap take as the root: mount points and links."""
    root = place / "root"
    for name in ("usr", "etc", "tmp", "proc", "dev", "run", "sys"):
        (root / name).mkdir(parents=True)
    for name in ("resolv.conf", "hosts"):
        (root / "etc" / name).touch()
    for name in LINKS:
        (root / name).symlink_to(f"usr/{name}")
    return root


def bubblewrap(*more: str) -> list[str]:
    """Return the command line of bubblewrap for this jail."""
    links = [word for name in LINKS for word in ("--symlink", f"usr/{name}", f"/{name}")]
    return [
        *("/usr/bin/bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"),
        *("--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev"),
        *("--tmpfs", "/tmp", "--tmpfs", "/run", "--cap-drop", "ALL", *more, PROGRAM),
    ]


def bundle(place: Path, root: Path) -> Path:
    """Write what runc runs: the same jail in its own words."""

    def mount(kind: str, target: str, *options: str, source: str = "") -> dict[str, object]:
        source = source or kind
        return {"destination": target, "type": kind, "source": source, "options": list(options)}

    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    process = {
        "user": {"uid": UID, "gid": UID},
        "args": [PROGRAM],
        "env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
        "cwd": "/",
        "capabilities": {name: [] for name in sets},
        "noNewPrivileges": True,
    }
    config = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            mount("proc", "/proc"),
            mount("tmpfs", "/dev", "nosuid", "mode=755", "size=1m"),
            mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
            mount("tmpfs", "/tmp", "nosuid", "nodev"),
            mount("tmpfs", "/run", "nosuid", "nodev"),
            mount("bind", "/usr", "rbind", "ro", source="/usr"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
        },
    }
    where = place / "bundle"
    where.mkdir()
    (where / "config.json").write_text(json.dumps(config))
    return where


def peers(place: Path, root: Path) -> list[Contender]:
    """Return those peers that are installed and can make this jail here."""
    runc = [shutil.which("runc") or "runc", "run", "--bundle", str(bundle(place, root))]
    nspawn = [
        *(shutil.which("systemd-nspawn") or "systemd-nspawn", "-q", "--register=no"),
        *("--keep-unit", "--private-network", "--read-only", "--as-pid2", "--pipe"),
        *("--resolv-conf=off", "--timezone=off", "-D", str(root), "--bind-ro=/usr", PROGRAM),
    ]
    container = f"donjon-bench-{os.getpid()}"
    candidates = {
        "bubblewrap": bubblewrap(),
        "runc": [*runc, container],
        "systemd-nspawn": nspawn,
    }
    found = []
    for name, argv in candidates.items():
        done = (
            subprocess.run(argv, capture_output=True, text=True, check=False)
            if shutil.which(argv[0])
            else None
        )
        if done is None or done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] if done else "not installed"
            print(f"{name} does not run here: {reason}", file=sys.stderr)
            continue
        found.append(Contender(name, lambda argv=argv: run_program(argv)))
    return found


def additions(place: Path, root: Path) -> dict[str, tuple[list[tuple[str, str]], frozenset[str]]]:
    """Return what a jail can have besides, as options and namespaces, by name."""
    minimal = minimal_jail(root)
    (place / "data").mkdir()
    overlay = [("rootfs", f"overlay:{root}"), *minimal[1:]]
    groups = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    group = next(path for path in groups if os.path.isdir(path))
    return {
        "a control group": ([*minimal, ("cgroup", f"{group}/{place.name}")], WORDS),
        "a user namespace": (minimal, WORDS | {"user"}),
        "files of /etc of its own": ([*minimal, ("rootfs-etc", "true")], WORDS),
        "no filter of system calls": ([*minimal, ("seccomp", "off")], WORDS),
        "a bind": ([*minimal, ("bind", f"{place}/data:/srv:ro")], WORDS),
        "a bind with mapped ids": ([*minimal, ("bind", f"{place}/data:/srv:ro:idmap")], WORDS),
        "an overlay as the root": (overlay, WORDS),
        "a host name": ([*minimal, ("hostname", "bench")], WORDS),
        "no network namespace": (minimal, WORDS - {"net"}),
        "rootfs = host": ([("rootfs", "host"), *identity()], WORDS),
    }


def minimal_jail(root: Path) -> list[tuple[str, str]]:
    """Return the options of the jail that all make; the peers make no files of /etc."""
    return [
        ("rootfs", str(root)),
        ("rootfs-etc", "false"),
        ("bind", "/usr:/usr:ro"),
        *identity(),
    ]


def identity() -> list[tuple[str, str]]:
    """Return the options that say whose jail it is."""
    return [("uid", str(UID)), ("gid", str(UID))]


def take_turns(contenders: Sequence[Contender], runs: int) -> None:
    """Let each make ``runs`` jails, one after the other, after one that does not count."""
    for contender in contenders:
        contender.make()
    for _ in range(runs):
        for contender in contenders:
            contender.took.append(contender.make())


def table(title: str, contenders: Sequence[Contender], base: Contender) -> None:
    """Print one row a contender; ratios are those of ``base``'s median to its own."""
    print(f"\n{title:32}{'median':>9}{'p10':>9}{'p90':>9}{'cpu':>9}{base.name[:10]:>11}")
    ours = base.summary()
    for one in contenders:
        row = one.summary()
        ratio = f"{ours['median'] / row['median']:10.2f}x"
        numbers = "".join(f"{row[key]:9.2f}" for key in ("median", "p10", "p90", "cpu"))
        print(f"{one.name:32}{numbers}{ratio}")


def missed(contenders: Sequence[Contender]) -> list[str]:
    """Name the bars that do not hold."""
    medians = {one.name: one.summary()["median"] for one in contenders}
    return [
        f"{medians['donjon'] / medians[name]:.2f} of {name}'s time, not {bar}"
        for name, bar in BARS.items()
        if name in medians and medians["donjon"] > bar * medians[name]
    ]


def main() -> int:
    """Measure, print, and with --check judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="donjon-bench.") as name:
        place = Path(name)
        place.chmod(0o755)
        return measure(place, arguments)


def measure(place: Path, arguments: argparse.Namespace) -> int:
    """Run all contenders in ``place``."""
    root = make_root(place)
    donjon = Donjon(place)
    minimal = minimal_jail(root)
    donjon.understand(minimal, WORDS)  # the first one imports
    begun = time.perf_counter()
    reading = donjon.understand(minimal, WORDS)
    planning = (time.perf_counter() - begun) * 1000
    base = Contender("donjon", lambda: donjon.make(reading))
    noise = Contender("no jail: /bin/true alone", lambda: run_program([PROGRAM]))
    (place / NAME).write_text(cold_file(minimal))
    command = [str(Path(sys.executable).parent / "donjon"), "run", str(place / NAME)]
    cold = Contender("donjon run FILE, from nothing", lambda: run_program(command))
    contenders = [noise, base, *peers(place, root)]
    take_turns(contenders, arguments.runs)
    take_turns([cold], max(3, arguments.runs // 10))
    added, unbuilt = more_steps(donjon, place, root)
    take_turns([base, *added], arguments.runs)
    donjon.spawner.close()
    if arguments.json:
        print(json.dumps({one.name: one.summary() for one in (*contenders, cold, *added)}))
    else:
        print(f"{arguments.runs} jails each, milliseconds; load {os.getloadavg()[0]:.1f}")
        table("from the request to the end", [*contenders, cold], base)
        table("with, in place of the minimal", [base, *added], base)
        print("".join(f"\nnot in this build: {line}" for line in unbuilt))
        print(f"the plan, made once before the order: {planning:.2f}")
    failures = missed(contenders) if arguments.check else []
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return int(bool(failures))


def cold_file(options: Sequence[tuple[str, str]]) -> str:
    """Return a file for ``donjon run`` that makes the same jail without an Emperor."""
    namespaces = ("unshare", ",".join(sorted(WORDS)))
    program = ("unprivileged-binary-patch", PROGRAM)
    rows = (namespaces, ("refork-as-root", "true"), *options, program)
    return "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in rows)


def more_steps(donjon: Donjon, place: Path, root: Path) -> tuple[list[Contender], list[str]]:
    """Return jails with one step more, and the names of steps that this build has not."""
    found, unbuilt = [], []
    for name, (options, words) in additions(place, root).items():
        idle = [key for key, _ in options if not (row := find(key)) or not row.built]
        if idle:
            unbuilt.append(f"{name} ({', '.join(idle)})")
            continue
        try:
            reading = donjon.understand(options, words)
        except DonjonError as error:
            unbuilt.append(f"{name} ({error})")
        else:
            found.append(Contender(name, lambda reading=reading: donjon.make(reading)))
    return found, unbuilt


if __name__ == "__main__":
    sys.exit(main())
