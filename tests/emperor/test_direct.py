"""Births without Python: the same jail, to the last mount, as one that was forked and went step by step."""

import json
import os
import re
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from empire import wait_for

from donjon import syscalls
from donjon.config.entry import Entry
from donjon.config.spec import EmperorSpec
from donjon.emperor import direct
from donjon.emperor import spawner as spawners
from donjon.emperor.birth import Birth
from donjon.emperor.orders import Order
from donjon.emperor.prepare import Preparer, vassal_environment
from donjon.emperor.scanner import Found
from donjon.fd import Fd
from donjon.instance import vassal_main
from donjon.jail import cgroups, hostview
from donjon.origin import Origin

pytestmark = [pytest.mark.root, pytest.mark.slow]

FIVE = frozenset({"fs", "ipc", "pid", "uts", "net"})
PYTHON = "/usr/bin/python3"
LOOK = """
import ctypes, json, os, resource
prctl = ctypes.CDLL(None).prctl
death = ctypes.c_int(); prctl(2, ctypes.byref(death))
read = lambda path: open(path).read()
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
ours = ~(3 << 31)  # without 32 and 33, of the C library: ignored in what some shells start, and a fork keeps that
status["SigIgn"] = f"{int(status['SigIgn'], 16) & ours:016x}"
fields = ("Uid Gid Groups NSpid CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp SigBlk SigIgn SigCgt Umask "
          "Seccomp_filters").split()
def kind(number):
    try: return os.readlink(f"/proc/self/fd/{number}").split(":")[0]
    except OSError: return None
print(json.dumps({
    "mounts": read("/proc/self/mountinfo").splitlines(),
    "status": {name: status[name].split() for name in fields if name in status} | {"NSpid": status["NSpid"].split()[-1]},
    "limits": read("/proc/self/limits"),
    "cgroup": read("/proc/self/cgroup"),
    "environ": dict(os.environ),
    "cwd": os.getcwd(), "host": os.uname().nodename, "pid": os.getpid(), "ppid": os.getppid(),
    "session": os.getsid(0), "group": os.getpgid(0), "death": death.value, "dumpable": prctl(3),
    "priority": os.getpriority(0, 0), "root": sorted(os.listdir("/")), "dev": sorted(os.listdir("/dev")),
    "proc": {name: os.access(f"/proc/{name}", os.W_OK) for name in ("sys/kernel/hostname", "sysrq-trigger")},
    "descriptors": {n: kind(n) for n in range(10)},
    "blocking": os.get_blocking(3), "securebits": prctl(27),
    "etc": {name: open(f"/etc/{name}").read() for name in ("resolv.conf", "hosts") if os.path.exists(f"/etc/{name}")},
    "argv": read("/proc/self/cmdline").split("\\0")[-3:],
}))
"""


class Births:
    """A spawner, and what its vassals print; ``how`` tells which way each went."""

    def __init__(self, place: Path, ways: int) -> None:
        self.place = place
        self.ways = ways
        self.spawner = spawners.Spawner.start(vassal_main)
        self.orders = 0

    def bear(self, options, *, words=FIVE, program=PYTHON, argv=None, tyrant=False, groups=False):
        """Return the status, the lines printed, the line of error, and the way it was born."""
        options = [*options, ("unprivileged-binary-patch", program)]
        where = ("command line", 0) if tyrant else ("a.ini", 1)  # the operator's own, or a file's
        entries = [
            Entry(key, value, Origin(where[0], where[1] * number, key))
            for number, (key, value) in enumerate(options, 1)
        ]
        found = Found("a.ini", str(self.place / "a.ini"), 0, (0, 0), 33, 33, 0)
        spec = EmperorSpec(sources=(), use_clone=words, tyrant=tyrant)
        reading = Preparer(spec, ["donjon"]).understand("a.ini", found, entries)
        argv = argv or ("donjon", "-I", "-c", LOOK)
        with ExitStack() as ours:
            prepared = cgroups.prepare(reading.launch.jail) if groups else None
            answer, log, error = self._order(reading, argv, prepared, ours)
            assert not answer.error
            with os.fdopen(os.dup(log)) as pipe:
                out = pipe.read()
            with os.fdopen(os.dup(error)) as pipe:
                said = pipe.read()
            status = os.waitstatus_to_exitcode(os.waitpid(answer.pid, 0)[1])
            if prepared:
                prepared.close()
                assert cgroups.remove(prepared.created) == []
        return status, out, said, os.read(self.ways, 100).decode()

    def _order(self, reading, argv, prepared, ours):
        with ExitStack() as lent:
            roles, fds = ["control", "launch"], []
            for _ in roles:
                near, far = socket.socketpair()
                ours.enter_context(near)
                fds.append(lent.enter_context(Fd(far.detach())).fileno())
            ends = []
            for role in ("error", "log"):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ends.append(ours.enter_context(Fd(reader)).fileno())
                fds.append(lent.enter_context(Fd(writer)).fileno())
                roles.append(role)
            for fd in prepared.tasks_fds if prepared else ():
                roles.append("tasks")
                fds.append(fd)
            if prepared and prepared.v2_fd >= 0:
                roles.append("cgroup")
                fds.append(prepared.v2_fd)
            self.orders += 1
            in_groups = bool(reading.launch.jail.cgroups)
            outline = reading.outline.in_cgroups() if in_groups else reading.outline
            birth = Birth(
                name="a.ini", launch=reading.launch, born_in=reading.clone_words, in_cgroups=in_groups,
                environment=vassal_environment({"PATH": "/usr/bin:/bin", "A": "é"}), argv=argv, outline=outline,
            )  # fmt: skip
            order = Order(
                number=self.orders, emperor_pid=os.getpid(), roles=tuple(roles), cwd=str(self.place),
                clone_flags=reading.clone_flags, birth=birth, uid=reading.uid, gid=reading.gid,
            )  # fmt: skip
            self.spawner.send(order, tuple(fds))
        answer = self.spawner.receive()
        ours.enter_context(Fd(answer.pidfd))
        return answer, ends[1], ends[0]


@pytest.fixture
def births(tmp_path, monkeypatch):
    """Two spawners: one as it is, one that always forks."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    kept = os.dup2(writer, 50)  # below the numbers that a newborn closes, above those it fills
    os.close(writer)
    original, play = direct.bear, syscalls.play

    def told(order, fds, entry):
        made = original(order, fds, entry)
        if made is None:
            os.write(way, b"forked")
        return made

    def played(*args, share, **more):
        os.write(way, b"shared" if share else b"copied")
        return play(*args, share=share, **more)

    def refused(order, fds, entry):
        os.write(way, b"forked")

    made = []
    way = kept
    try:
        for bear in (told, refused):
            monkeypatch.setattr(spawners.direct, "bear", bear)
            monkeypatch.setattr(syscalls, "close_range", _sparing(kept))
            monkeypatch.setattr(syscalls, "play", played)
            made.append(Births(tmp_path, reader))
            monkeypatch.undo()
        yield made
    finally:
        for one in made:
            one.spawner.close()
        os.close(kept)
        os.close(reader)


def _sparing(number):
    """Keep the way's descriptor where the zygote closes all it inherited."""
    close_range = syscalls.close_range

    def close(first, last, flags):
        if first <= number <= last:
            close_range(first, number - 1, flags)
            first = number + 1
        close_range(first, last, flags)

    return close


def normal(facts):
    """Leave out what differs between any two jails: numbers of mounts and of file systems in memory."""
    mounts = []
    for line in facts.pop("mounts"):
        words = line.split()
        number = words[2] if not words[2].startswith("0:") else "0"
        text = " ".join([number, *words[3:]])
        mounts.append(re.sub(r"(master|shared|propagate_from):\d+", r"\1", text))
    screen = {"LINES", "COLUMNS"}  # which readline puts into a test's own environment
    environ = {key: value for key, value in facts["environ"].items() if key not in screen}
    return {**facts, "mounts": mounts, "environ": environ}


def both(births, options, *, way="shared", **more):
    """Return what a jail sees that was made directly; it must be what the forked one sees.

    A host root is forked where this checkout or the interpreter lies in /tmp: it is shown late.
    """
    if ("rootfs", "host") in options and hostview.late_trees():
        way = "forked"
    found = []
    for one, expected in zip(births, (way, "forked"), strict=True):
        status, out, said, how = one.bear(options, **more)
        assert (status, said, how) == (0, "", expected), out
        found.append(normal(json.loads(out)))
    assert found[0] == found[1]
    return found[0]


def directory_root(place):
    root = place / "root"
    for name in ("usr", "tmp", "proc", "dev", "run", "etc", "var", "srv/data"):
        (root / name).mkdir(parents=True)
    for name in ("resolv.conf", "hosts", "hostname"):
        (root / "etc" / name).touch()
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return str(root)


BOB = [("uid", "20001"), ("gid", "20002")]


def test_a_directory_as_the_root(births, tmp_path):
    facts = both(births, [("rootfs", directory_root(tmp_path)), ("bind", "/usr:/usr:ro"), *BOB])
    assert facts["pid"] == 1
    assert facts["status"]["Uid"] == ["20001"] * 4
    assert facts["status"]["CapBnd"] == ["0" * 16]
    assert facts["status"]["NoNewPrivs"] == ["1"]
    assert facts["death"] == 9
    open_ones = {number: what for number, what in facts["descriptors"].items() if what}
    assert open_ones == {"0": "/null", "1": "pipe", "2": "pipe", "3": "socket"}


def test_the_host_as_the_root(births):
    facts = both(births, [("rootfs", "host"), *BOB])
    assert "usr" in facts["root"]
    assert len(facts["mounts"]) > 15


def test_everything_that_can_be_written_down(births, tmp_path):
    (tmp_path / "data").mkdir()
    options = [
        ("rootfs", directory_root(tmp_path)), ("bind", "/usr:/usr:ro"), ("bind", f"{tmp_path}/data:/srv/data"),
        ("tmpfs", "/tmp:1M"), ("tmpfs", "/var"), ("hostname", "bob"), ("cap", "net_bind_service,sys_nice"),
        ("add-gid", "33"), ("add-gid", "34"), ("chdir", str(tmp_path)), *BOB,
    ]  # fmt: skip
    facts = both(births, options)
    assert facts["host"] == "bob"
    assert facts["status"]["CapAmb"] == ["0000000000800400"]
    assert facts["status"]["Groups"] == ["33", "34"]


def test_views_of_an_application_in_a_host_root(births, tmp_path):
    place = Path(f"/srv/donjon-direct-{os.getpid()}/app")
    place.mkdir(parents=True)
    try:
        options = [
            ("rootfs", "host"),
            ("chdir", str(place)),
            ("bind", f"{place}:/opt/a/b:ro"),
            *BOB,
        ]
        facts = both(births, options)
        assert {"opt", "srv"} <= set(facts["root"])
    finally:
        place.rmdir()
        place.parent.rmdir()


def test_root_without_a_root_of_its_own_keeps_the_hosts(births):
    facts = both(births, [("hostname", "bob")])
    assert facts["host"] == "bob"
    assert facts["status"]["CapEff"] == ["0" * 16]


def test_without_a_network_namespace(births):
    both(births, [("rootfs", "host"), *BOB], words=FIVE - {"net", "ipc"})


def test_control_groups_are_joined(births):
    base = "/sys/fs/cgroup"
    found = [
        f"{base}/{name}" for name in ("pids", "unified") if os.path.exists(f"{base}/{name}")
    ] or [base]
    options = [("rootfs", "host"), *BOB]
    options += [("cgroup", f"{path}/donjon-direct-{os.getpid()}") for path in found]
    facts = both(births, options, groups=True, way="copied")
    assert facts["cgroup"].count(f"/donjon-direct-{os.getpid()}") == len(found)


def test_a_customers_program_does_not_share_the_spawners_memory(births):
    facts = both(births, [("rootfs", "host")], tyrant=True, way="copied")
    assert facts["status"]["Uid"] == ["33"] * 4


@pytest.mark.parametrize("where", ["in the root", "in a bind"])
def test_a_program_that_root_does_not_own_does_not_share_the_spawners_memory(
    births, tmp_path, where
):
    """Its owner could hold up the exec by a lease, and with it the spawner."""
    root = directory_root(tmp_path)
    (tmp_path / "own").mkdir()
    options = [("rootfs", root), ("bind", "/usr:/usr:ro"), *BOB]
    if where == "in a bind":
        options += [("bind", f"{tmp_path}/own:/srv/data")]
    place = Path(root) / "srv" / "data" if where == "in the root" else tmp_path / "own"
    shutil.copy("/bin/true", place / "true")
    for owner, way in ((0, "shared"), (33, "copied")):
        os.chown(place / "true", owner, owner)
        status, _, said, how = births[0].bear(options, program="/srv/data/true", argv=("x",))
        assert (status, said, how) == (0, "", way)


@pytest.mark.parametrize(
    "options",
    [
        [("hook-as-root", "print:x")],
        [("exec-pre-jail", "true")],
        [("max-fd", "100")],
        [("http-socket", "/tmp/x.sock")],
        [("env", "A=b")],
        [("refork", "true")],
        [("unshare", "cgroup")],
        [("drop-after-init", "true")],
    ],
)
def test_what_is_more_than_a_jail_and_a_program_is_forked(births, options):
    *_, how = births[0].bear(
        [("rootfs", "host"), *options, *BOB], program="/bin/true", argv=("x",)
    )
    assert how == "forked"


@pytest.mark.parametrize(
    "missing", ["mount point", "link to the source", "link to the root", "file"]
)
def test_what_is_not_plain_on_the_host_is_forked_and_right(births, tmp_path, missing):
    root = directory_root(tmp_path)
    options = [("rootfs", root), ("bind", "/usr:/usr:ro"), *BOB]
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "root-link").symlink_to("root")
    if missing == "mount point":
        options += [("bind", f"{tmp_path}/data:/srv/new")]
    elif missing == "link to the source":
        options += [("bind", f"{tmp_path}/link:/srv/data")]
    elif missing == "link to the root":
        options[0] = ("rootfs", f"{tmp_path}/root-link")
    else:
        options += [("bind", "/etc/hostname:/srv/hostname")]
    status, _, said, how = births[0].bear(options, program="/bin/true", argv=("x",))
    assert (status, said, how) == (0, "", "forked")


def test_what_fails_is_one_line_for_the_emperor(births, tmp_path):
    options = [("rootfs", directory_root(tmp_path)), ("bind", "/usr:/usr:ro"), *BOB]
    lines = []
    for one in births:
        status, _, said, _ = one.bear(options, program="/no/such", argv=("x",))
        assert status == 1
        lines.append(said.splitlines())
    line = "a.ini:5: unprivileged-binary-patch: cannot become the program /no/such"
    assert lines[0] == [f"{line}: No such file or directory"]
    assert lines[1][0].startswith(line)


def test_a_root_that_is_gone_fails_alike(births, tmp_path):
    root = directory_root(tmp_path)
    os.rename(f"{root}/usr", f"{root}/gone")
    options = [("rootfs", root), ("bind", "/usr:/usr:ro"), *BOB]
    os.symlink("gone", f"{root}/usr")
    for one in births:
        status, _, said, _ = one.bear(options, program="/bin/true", argv=("x",))
        assert status == 1
        assert "a.ini:2: bind: cannot mount on /usr" in said


def test_many_births_leave_nothing(births, tmp_path):
    options = [("rootfs", directory_root(tmp_path)), ("bind", "/usr:/usr:ro"), *BOB]
    place = f"/proc/{births[0].spawner.pid}/fd"
    births[0].bear(options, program="/usr/bin/true", argv=("x",))
    idle = {"0", "1", "2", "3", "4", "50", "60"}  # its own; a pidfd goes when its end was seen
    wait_for(lambda: set(os.listdir(place)) <= idle, "an idle spawner")
    mounts = Path("/proc/self/mountinfo").read_text()
    ways = set()
    for _ in range(30):
        status, _, said, how = births[0].bear(options, program="/usr/bin/true", argv=("x",))
        assert (status, said) == (0, "")
        ways.add(how)
    # one may be forked: a look-up that the kernel has not cached just then
    assert "shared" in ways
    wait_for(lambda: set(os.listdir(place)) <= idle, "an idle spawner")
    assert Path("/proc/self/mountinfo").read_text() == mounts
