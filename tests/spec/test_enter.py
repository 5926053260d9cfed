"""``donjon enter``: the newcomer is what the vassal is, from its first instruction."""

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import hosting
import pytest

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import confined, join, libseccomp
from donjon.jail.phase import Phase
from donjon.jail.step import Builtin
from donjon.records import dataclass, replace

pytestmark = [pytest.mark.root, pytest.mark.slow]

KINDS = ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time")
FACTS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
    "Seccomp",
)  # fmt: skip
FIVE = "fs,ipc,pid,uts,net"


def facts(pid: int) -> dict[str, object]:
    """What the host sees of a process."""
    status = hosting.status(pid)
    limits = [line.split("  ")[:1] + line.split()[-3:] for line in
              Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]]  # fmt: skip
    root = os.stat(f"/proc/{pid}/root")
    return {
        **{name: status.get(name) for name in FACTS},
        **{kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS},
        "cgroup": Path(f"/proc/{pid}/cgroup").read_text(),
        "root": (root.st_dev, root.st_ino, os.readlink(f"/proc/{pid}/root")),
        "limits": limits,
        "io": syscalls.ioprio_get(1, pid),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "oom": Path(f"/proc/{pid}/oom_score_adj").read_text(),
        "cwd": os.readlink(f"/proc/{pid}/cwd"),
    }


class Entering:
    """A host with an Emperor that has a control socket of its own."""

    def __init__(self, host):
        self.host = host
        self.control = str(host.place / "control")

    def start(self, lines=""):
        self.host.start(f"emperor-control = {self.control}\n{lines}")

    def command(self, *words):
        return [*hosting.DONJON, "enter", "--control", self.control, *words]

    def run(self, *words, **more):
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, check=False, **more
        )

    def open(self, *words, **more):
        return subprocess.Popen(self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **more)  # fmt: skip


@pytest.fixture
def entering(host):
    return Entering(host)


def below(caller: int) -> list[int]:
    """Envoy and newcomer, once the newcomer runs the command."""
    found = hosting.descendants(caller)
    return found if len(found) == 2 else []


JAILS = {
    "five namespaces, a host root": (
        "{root}uid = 33\ngid = 33\nhostname = cell\nmax-fd = 500\nprio = 3\n",
        f"emperor-use-clone = {FIVE}\n",
    ),
    "all namespaces, a range, a group": (
        "{root}uid = 33\ngid = 33\nadd-gid = 44\nid-range = auto\n"
        "time-offset = boottime=1000\n{group}",
        f"emperor-use-clone = {FIVE},user,cgroup\nid-range-ledger = {{place}}/ids\n",
    ),
    "only root inside": ("uid = 20001\ngid = 20001\n", f"emperor-use-clone = {FIVE},user\n"),
    "a capability": (
        "{root}uid = 33\ngid = 33\ncap = net_bind_service\n",
        "emperor-use-clone = fs,pid\n",
    ),
    "reforked": ("unshare = pid,fs,uts\nrefork-as-root = true\nuid = 33\ngid = 33\n", ""),
    "reforked twice": (
        "unshare = pid,fs,uts\nrefork-post-jail = true\nrefork = true\nuid = 33\ngid = 33\n",
        "",
    ),
    "the old jail": ("namespace = /:beautiful\nuid = 33\ngid = 33\n", ""),
    "idle at its disk": (
        "{root}uid = 33\ngid = 33\nio-priority = idle\n",
        "emperor-use-clone = fs,pid\n",
    ),
    "no jail": ("uid = 33\ngid = 33\n", ""),
}


def serving_master(host, name: str) -> int:
    """The parent of the worker that answers."""
    worker = host.answer(name)["pid"]
    for pid in hosting.descendants(host.master(name)):
        if hosting.status(pid).get("NSpid", "").split()[-1] == str(worker):
            return int(hosting.status(pid)["PPid"])
    raise AssertionError("no worker")


@pytest.mark.parametrize("which", list(JAILS))
def test_the_newcomer_is_what_the_vassal_is(entering, which):
    host = entering.host
    lines, emperor = JAILS[which]
    unified = "/sys/fs/cgroup/unified"
    base = unified if os.path.exists(f"{unified}/cgroup.procs") else "/sys/fs/cgroup"
    group = f"cgroup = {base}/donjon-enter-{os.getpid()}\n"
    root = f"rootfs = host\nbind = {host.place}/sockets\n"
    host.vassal("shop", lines.format(place=host.place, group=group, root=root))
    entering.start(emperor.format(place=host.place))
    vassal = serving_master(host, "shop")
    before = {pid: facts(pid) for pid in [vassal]}
    caller = entering.open("shop", "/bin/cat")
    try:
        caller.stdin.write(b"alive\n")
        caller.stdin.flush()
        assert caller.stdout.readline() == b"alive\n", caller.stderr.read()
        envoy, newcomer = below(caller.pid)
        found = facts(newcomer)
        found["cgroup"] = str(found["cgroup"]).replace("/shell\n", "\n")  # a group of its own
        assert found == before[vassal]
        assert sorted(os.listdir(f"/proc/{newcomer}/fd")) == ["0", "1", "2"]
        assert os.readlink(f"/proc/{newcomer}/exe").endswith(("/cat", "/coreutils", "/busybox"))
        for name in ("CapEff", "CapBnd", "Uid"):
            assert hosting.status(envoy)[name] == before[vassal][name]
    finally:
        out, err = caller.communicate(timeout=30)
    assert (caller.returncode, out, err) == (0, b"", b"")
    assert not hosting.alive(newcomer)
    assert not hosting.alive(envoy)
    assert facts(vassal) == before[vassal]


def test_status_output_and_errors_are_passed_on(entering):
    sockets = f"{entering.host.place}/sockets"
    entering.host.vassal("shop", f"uid = 33\ngid = 33\nrootfs = host\nbind = {sockets}\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    entering.host.answer("shop")
    done = entering.run("shop", "sh", "-c", "id -u; echo oops >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "33\n", "oops\n")
    assert entering.run("shop", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert entering.run("shop", input="echo $DONJON_VASSAL $HOME $0; exit 3\n").stdout == (
        "shop / /bin/sh\n"
    )
    missing = entering.run("shop", "no-such-program")
    assert (missing.returncode, missing.stderr) == (
        127,
        "donjon: cannot run no-such-program in the jail: there is no such program\n",
    )
    refused = entering.run("shop", "/etc/hostname")
    assert (refused.returncode, refused.stderr.count("\n")) == (126, 1) or (
        refused.returncode == 127
    )


def test_the_environment_of_root_stays_outside(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    done = entering.run("shop", "env", env={**os.environ, "SECRET": "x", "TERM": "vt100"})
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert {"SECRET", "SSH_AUTH_SOCK", "PYTHONPATH"} & names == set()
    assert {"TERM", "PATH", "HOME", "DONJON_VASSAL"} <= names


HOLD_A_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.syscall({keyctl}, 1, None) > 0  # KEYCTL_JOIN_SESSION_KEYRING
assert libc.syscall({add_key}, b"user", b"donjon-operator", b"secret", 6, -3) > 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
ASK_FOR_IT = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall({request_key}, b"user", b"donjon-operator", None, 0) > 0, ctypes.get_errno())
"""


def test_the_keys_of_whoever_enters_stay_outside(entering):
    numbers = {name: libseccomp.number_of(name) for name in ("keyctl", "add_key", "request_key")}
    entering.host.vassal("shop", "uid = 33\ngid = 33\nseccomp = off\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    ask = ["/usr/bin/python3", "-c", ASK_FOR_IT.format(**numbers)]
    hold = [sys.executable, "-c", HOLD_A_KEY.format(**numbers)]

    def found(command):
        return subprocess.run([*hold, *command], capture_output=True, text=True, check=True).stdout

    assert found(ask).startswith("True")
    assert found(entering.command("shop", *ask)) == f"False {errno.ENOKEY}\n"


def test_signals_reach_the_command_and_a_killed_caller_leaves_nothing(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    caller = entering.open("shop", "sh", "-c", script)
    assert caller.stdout.readline() == b"ready\n"
    caller.send_signal(signal.SIGTERM)
    out, _ = caller.communicate(timeout=30)
    assert (caller.returncode, out) == (5, b"caught\n")
    caller = entering.open("shop", "sh", "-c", "echo ready; exec sleep 600")
    assert caller.stdout.readline() == b"ready\n"
    there = hosting.wait_for(lambda: below(caller.pid), "envoy and newcomer")
    caller.kill()
    caller.communicate()
    hosting.wait_for(lambda: not any(map(hosting.alive, there)), "their end")


def test_a_newcomer_dies_with_the_jail(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    caller = entering.open("shop", "sh", "-c", "echo ready; exec sleep 600")
    assert caller.stdout.readline() == b"ready\n"
    os.kill(entering.host.master("shop"), signal.SIGKILL)
    caller.communicate(timeout=30)
    assert caller.returncode == 128 + 9


def test_the_newcomer_has_no_terminal_to_push_into(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    main, far = pty.openpty()
    code = (
        "import fcntl, os, termios\n"
        "try:\n fcntl.ioctl(0, termios.TIOCSTI, b'x'); print('pushed')\n"
        "except OSError as error: print('refused')\n"
        "print(os.getsid(0) == os.getsid(os.getppid()) if os.getppid() else 'alone')\n"
    )
    try:
        done = subprocess.run(
            entering.command("shop", sys.executable, "-c", code),
            stdin=far, capture_output=True, text=True, check=False, timeout=60,
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(main)
        os.close(far)
    assert done.stdout.split() == ["refused", "alone"], done.stderr


def test_a_directory_as_standard_input_is_refused(tmp_path):
    """The interpreter does not start with one either; another caller of ``join`` might."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(tmp_path, os.O_RDONLY), 0)
        try:
            join.run(join.Door(pid=os.getpid(), start=0), ["true"], {})
        except JailError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == (
            "descriptor 0 is a directory of the host: the command could leave the jail through it"
        )
    os.waitpid(pid, 0)


def test_a_process_that_took_the_number_of_the_jails_is_not_joined():
    with pytest.raises(JailError, match="cannot join the jail: it has just ended"):
        join.run(join.Door(pid=os.getpid(), start=1), ["true"], {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall(Builtin):
    """A wall that cannot be read off a process: a mask, or a failure."""

    at_join: ClassVar[bool] = True
    breaks: bool = False

    def describe(self):
        return "mask"

    def execute(self, context):
        if self.breaks:
            raise JailError("the wall does not stand")
        assert os.getuid() == 33
        os.umask(0o027)


def joined(door, command):
    """Output and end of a command that joins, in a process that is not the suite's."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        try:
            os._exit(join.run(door, command, {"PATH": "/usr/bin:/bin"}))
        except JailError as error:
            os.write(1, str(error).encode())
            os._exit(99)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def test_walls_of_the_plan_stand_before_the_first_foreign_instruction(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\nseccomp = off\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    pid = entering.host.master("shop")
    door = join.Door(pid=pid, start=confined.started(pid), walls=(Wall(phase=Phase.DROP),))
    assert joined(door, ["sh", "-c", "umask"]) == (0, "0027\n")
    broken = replace(door, walls=(Wall(phase=Phase.DROP, breaks=True),))
    assert joined(broken, ["echo", "in"]) == (99, "the wall does not stand")
    assert "the operator enters" not in entering.host.log(), "that is the command's"
    assert entering.run("shop", "true").returncode == 0
    assert "[emperor] the operator enters the jail of shop.ini" in entering.host.log()


def test_a_control_group_that_cannot_be_joined_lets_nobody_in(entering):
    unified = "/sys/fs/cgroup/unified"
    base = unified if os.path.exists(f"{unified}/cgroup.procs") else "/sys/fs/cgroup"
    group = f"cgroup = {base}/donjon-shut-{os.getpid()}\n"
    entering.host.vassal("shop", f"uid = 33\ngid = 33\nseccomp = off\n{group}")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    pid = entering.host.master("shop")
    door = join.Door(pid=pid, start=confined.started(pid))
    syscalls.inject("join_cgroup", errno.EXFULL)
    try:
        status, text = joined(door, ["echo", "in"])
    finally:
        syscalls.inject_clear()
    assert (status, "Exchange full" in text) == (99, True)


def test_a_customer_can_neither_enter_nor_ask(entering):
    host = entering.host
    path = host.vassal("shop", "")
    os.chown(path, 20001, 20001)
    (host.place / "stats").touch()
    entering.start(f"emperor-tyrant = true\nemperor-use-clone = {FIVE}\n")
    host.answer("shop")
    done = entering.run("shop", "id", user=20001, group=20001, extra_groups=[])
    assert (done.returncode, done.stderr) == (1, "donjon: only root can enter a jail\n")
    ask = (
        "from donjon.emperor import client\n"
        f"client.ask('enter', name='shop', socket={entering.control!r})\n"
    )
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, user=20001,
                           group=20001, extra_groups=[], check=False)  # fmt: skip
    assert "only root may ask" in asked.stderr


def test_an_emperor_that_is_not_root_is_not_believed(tmp_path):
    path = tmp_path / "control"
    tmp_path.chmod(0o777)
    serve = (
        "import socket, sys\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); s.listen(); print('up', flush=True)\n"
        "c, _ = s.accept(); c.recv(4096)\n"
    )
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    liar = subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE, user=20001, group=20001,
                            extra_groups=[])  # fmt: skip
    try:
        assert liar.stdout.readline() == b"up\n"
        done = subprocess.run([*hosting.DONJON, "enter", "--control", str(path), "x"],
                              capture_output=True, text=True, check=False)  # fmt: skip
    finally:
        liar.kill()
        liar.communicate()
    assert done.stderr == f"donjon: the Emperor on {path} is uid 20001, not root\n"


def test_a_master_that_stays_root_and_one_that_is_no_vassal(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\nmaster-as-root = true\n")
    entering.start()
    entering.host.answer("shop")
    assert entering.run("shop", "id").stderr == (
        "donjon: shop.ini cannot be entered: its master keeps root's rights (master-as-root), "
        "and so would the command\n"
    )
    assert "no vassal nobody (known are: shop.ini)" in entering.run("nobody").stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("setns", "enter its namespaces"),
        ("chroot", "enter its root"),
        ("setresuid", "take its identity"),
        ("capset", "take its identity"),
        ("set_no_new_privs", "raise its walls"),
    ],
)
def test_a_step_that_fails_is_one_line_and_leaves_nothing(entering, call, words):
    sockets = f"{entering.host.place}/sockets"
    entering.host.vassal("shop", f"uid = 33\ngid = 33\nrootfs = host\nbind = {sockets}\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    inside = entering.run("shop", "true")
    assert inside.returncode == 0, inside.stderr
    done = entering.run("shop", "true", env={**os.environ, "DONJON_INJECT": f"{call}:EPERM"})
    assert (done.returncode, done.stderr) == (
        1,
        f"donjon: cannot join the jail: cannot {words}: Operation not permitted\n",
    )


def test_entries_leave_no_process_mount_or_group(entering):
    entering.host.vassal("shop", "uid = 33\ngid = 33\n")
    entering.start(f"emperor-use-clone = {FIVE}\n")
    entering.host.answer("shop")
    before = json.dumps(sorted(hosting.descendants(entering.host.pid)))
    mounts = Path("/proc/self/mountinfo").read_text()
    for _ in range(20):
        assert entering.run("shop", "true").returncode == 0
    assert json.dumps(sorted(hosting.descendants(entering.host.pid))) == before
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_filter_of_system_calls_that_no_wall_brings_is_a_refusal():
    """Who cannot be as confined as the jail does not enter it."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        syscalls.prctl(syscalls.PR_SET_SECCOMP, 1)  # SECCOMP_MODE_STRICT: read and write only
        os.write(tell, b"x")
        while True:
            os.write(tell, b"x")  # until the pipe is full
    try:
        os.read(ready, 1)
        door = join.Door(pid=pid, start=confined.started(pid))
        assert joined(door, ["echo", "in"]) == (
            99,
            "cannot join the jail: no wall of its plan filters system calls, as it does",
        )
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)


SPY = """
import os, sys, time
known = set(filter(str.isdigit, os.listdir("/proc")))
out = open(sys.argv[1], "w", buffering=1)
seen = looks = 0
while not os.path.exists(sys.argv[1] + ".end"):
    for pid in set(filter(str.isdigit, os.listdir("/proc"))) - known:
        seen += 1
        for name in ("exe", "cwd", "root"):
            try:
                where = os.readlink(f"/proc/{pid}/{name}")
            except OSError:
                continue
            if "python" in where:
                out.write(f"leak {name} {where}\\n")
        for name in ("maps", "environ", "mem", "fd"):
            try:
                if name == "fd":
                    high = [n for n in os.listdir(f"/proc/{pid}/fd") if int(n) > 2]
                    ends = [os.readlink(f"/proc/{pid}/fd/{n}") for n in high]
                    alien = [end for end in ends if not end.startswith(("/usr/", "/etc/"))]
                    what = f"python {alien}" if alien else ""
                elif name == "mem":
                    os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
                    what = os.readlink(f"/proc/{pid}/exe")
                else:
                    what = open(f"/proc/{pid}/{name}").read()
            except OSError:
                continue
            looks += 1
            if "python" in what or "SECRET" in what:
                out.write(f"leak {name} {what[:80]!r}\\n")
out.write(f"seen {seen}\\n")
os.rename(sys.argv[1], sys.argv[1] + ".done")
"""


@pytest.mark.parametrize("clone", [f"{FIVE},user", FIVE])
def test_nothing_of_the_jail_can_look_into_who_comes_before_he_runs_the_command(
    entering, clone, monkeypatch
):
    """Security case 5, CVE-2016-9962: root of the jail spins on /proc while root enters."""
    host = entering.host
    monkeypatch.setenv("SECRET", "SECRET")
    (host.place / "spy.py").write_text(SPY)
    out = host.place / "sockets" / "spy"
    host.vassal(
        "shop",
        f"rootfs = host\nbind = {host.place}/sockets\n"
        f"exec-as-user = {sys.executable} {host.place}/spy.py {out} &\n",
    )
    entering.start(f"emperor-use-clone = {clone}\n")
    host.answer("shop")
    hosting.wait_for(out.exists, "the spy")
    for _ in range(25):
        assert entering.run("shop", "true").returncode == 0
    (host.place / "sockets" / "spy.end").write_text("")
    done = host.place / "sockets" / "spy.done"
    lines = hosting.wait_for(lambda: done.exists() and done.read_text().splitlines(), "its end")
    leaks, seen = lines[:-1], int(lines[-1].split()[1])
    assert leaks == []
    assert seen > 0, "it saw who came"
