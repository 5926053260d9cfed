"""The default jail with ``rootfs = host``, attacked by its own application: one test per case."""

import os
import shutil
import sys
from pathlib import Path

import hosting
import pytest

import donjon

pytestmark = pytest.mark.root

OWNER = 1003
DENIED = {"EPERM", "EACCES", "EROFS", "ENOENT"}
UNMOVED = {*DENIED, "EINVAL"}
ABSENT = {"ENOENT", "EACCES", "EPERM", ""}
ROOT = {"app", "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin",
        "tmp", "usr", "var", "sys", "srv", "mnt"}  # fmt: skip


@pytest.fixture(scope="module", params=["fs,ipc,pid,uts", "fs,ipc,pid,uts,net,user"])
def jail(request):
    """Two jailed vassals, ``cell`` and ``neighbour``, whose application is the probe."""
    host = hosting.Host(Path(f"/tmp/donjon-jail-cases-{os.getpid()}"))
    shutil.copy(Path(__file__).with_name("probe.py"), host.place / "app.py")
    (host.place / "secret").write_text("secret")
    for name in ("cell", "neighbour"):
        host.vassal(name, f"uid = {OWNER}\ngid = {OWNER}\nenv = PASSWORD=x\n")
    (host.place / "base.ini").write_text(
        f"[uwsgi]\nrootfs = host\nhostname = cell\nbind = {host.place}/sockets:{host.place}/sockets\n"
    )
    host.start(f"emperor-use-clone = {request.param}\nvassals-include = {host.place}/base.ini\n")
    for name in ("cell", "neighbour"):
        hosting.wait_for(lambda name=name: hosting.ask(host.sock(name), "/A4"), "answer")
    yield host
    host.close()


def run(jail, case, *arguments):
    """Run a probe in ``cell`` and return what it found."""
    answer = hosting.ask(jail.sock("cell"), f"/{case}?{'&'.join(map(str, arguments))}")
    assert "raised" not in answer, answer
    return answer["found"]


def all_in(found, allowed):
    """Whether each value is one of ``allowed``; what is not is shown."""
    other = {key: value for key, value in found.items() if value not in allowed}
    assert not other, other
    return True


def worker_of(jail):
    """The host's pid of the process that runs the application."""
    return max(hosting.descendants(jail.master("cell")))


def descriptors(jail):
    """What the worker holds beyond standard input and output, seen from the host."""
    links = {
        int(name): os.readlink(f"/proc/{worker_of(jail)}/fd/{name}")
        for name in os.listdir(f"/proc/{worker_of(jail)}/fd")
    }
    kinds = {link.partition(":")[0] for number, link in links.items() if number > 2}
    files = [link for link in links.values() if link.startswith("/") and link[-5:] != "/null"]
    assert kinds <= {"socket", "pipe", "anon_inode"}, links
    assert files == [], links
    return len(links) < 20


def separate_namespaces(jail):
    """Whether the two vassals share none of the namespaces that the operator asked for."""
    pids = [jail.master(name) for name in ("cell", "neighbour")]
    for kind in ("ipc", "mnt", "pid", "uts"):
        seen = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in (*pids, "self")}
        if len(seen) != 3:
            return False
    return True


def mount_flags(jail):
    """Whether no mount lets set-user-id programs or, but for /dev, devices work."""
    found = run(jail, "B22")
    single = ("/dev/", "/proc/")  # a device of the host, also over a file of /proc
    assert "nosuid" in found.pop("/dev")
    loose = {p: o for p, o in found.items() if not {"nosuid", "nodev"} <= set(o)}
    odd = {
        p: o for p, o in loose.items() if not (p.startswith(single) and len(Path(p).parts) == 3)
    }
    assert not odd, odd
    return True


def neighbours_files(jail):
    """Whether neither the other's nor the operator's files are there."""
    host = ("/etc/shadow", "/etc/gshadow", f"/proc/{jail.pid}/environ", "/var/log/dpkg.log")
    return all_in(run(jail, "B29", *host), ABSENT)


def settings_hold(jail):
    """Whether no setting of the kernel can be opened for writing, nested root or not."""
    plain, nested = run(jail, "B19")
    return all_in(plain, DENIED) and all_in(nested, DENIED)


def nothing_is_told(jail):
    """Whether what the kernel tells is covered."""
    found, sys_is_there, log = run(jail, "B20")
    return all_in(found, ABSENT) and not sys_is_there and log == "EPERM"


def walls_stay(jail):
    """Whether no read-only mount becomes writable, and none can be taken away."""
    found = run(jail, "B13")
    assert {"/", "/usr"} <= set(found["targets"])
    return all(all_in(each, UNMOVED) for each in found["all"])


def no_old_root(jail):
    """Whether no process of the jail has another root."""
    found = run(jail, "B12")
    shown = {Path(path).parts[1] for path in (jail.place, sys.prefix, donjon.__file__)}
    assert set(found["root"]) <= ROOT | shown, found["root"]
    return found["shadow"] == "ENOENT" and all_in(found["ways"], {"ENOENT", "EACCES"})


def few_devices(jail):
    """Whether devices are those of the list and none can be made."""
    made, there, blocks = run(jail, "B21")
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd",
               "stdin", "stdout", "stderr", "core", "mqueue"}  # fmt: skip
    assert set(there) <= allowed, there
    return not blocks and all_in(made, {"EPERM"})


def cgroups_hold(jail):
    """Whether none is there, and what a nested root can mount, it cannot write."""
    found = run(jail, "C30")
    visible = found.pop("/sys/fs/cgroup")
    files = {name: said for name, said in found.items() if "/" in name}
    return not visible and all_in(files, DENIED)


def strangers_are_safe(jail):
    """Whether no process of the host can be signalled."""
    pids = (jail.pid, jail.master("neighbour"), jail.master("cell"), os.getpid())
    found = run(jail, "D50", *pids)
    return all_in(found, {"ESRCH"})


def init_is_safe(jail):
    """Whether the first process survives the signals that cannot be caught."""
    pid = jail.master("cell")
    run(jail, "D50-init")
    return jail.master("cell") == pid and hosting.status(pid)["State"][0] == "S"


def no_capability(jail):
    """Whether all five sets are empty and stay so."""
    found = run(jail, "D45")
    is_root_inside = "user" in hosting.own_namespaces(jail.master("cell"))
    root = "done" if is_root_inside else "EPERM"
    return set(found["sets"].values()) == {0} and [found["root"], found["ambient"]] == [
        root,
        "EPERM",
    ]


def no_groups(jail):
    """Whether there is the group that was asked for, and no other can be had."""
    is_root_inside = "user" in hosting.own_namespaces(jail.master("cell"))
    gid, become = (0, "done") if is_root_inside else (OWNER, "EPERM")
    return run(jail, "D46") == [[], gid, "EPERM", become]


def calls_denied(jail):
    """Whether calls that change the machine are not for us (ENOSYS: not in this kernel)."""
    return all_in(run(jail, "D49"), {"EPERM", "ENOSYS"})


CASES = {
    "A1": lambda jail: all_in(run(jail, "A1"), {"EACCES", "ETXTBSY", "EROFS"}),
    "A2": descriptors,
    "A3": lambda jail: run(jail, "A3") == [[], []],
    "A4": lambda jail: run(jail, "A4") == str(jail.place),
    "B11": lambda jail: run(jail, "B11") == "EPERM",
    "B12": no_old_root,
    "B13": walls_stay,
    "B19": settings_hold,
    "B20": nothing_is_told,
    "B21": few_devices,
    "B22": mount_flags,
    "B24": lambda jail: run(jail, "B24") == "EPERM",
    "B25": lambda jail: all_in(run(jail, "B25"), {"EPERM"}),
    "B29": neighbours_files,
    "C30": cgroups_hold,
    "C40": lambda jail: all_in(run(jail, "C40"), {"EPERM", "EACCES", "EINVAL"}),
    "D44": lambda jail: all_in(run(jail, "D44"), {"EPERM", "EACCES"}),
    "D45": no_capability,
    "D46": no_groups,
    "D48": lambda jail: run(jail, "D48") == "1",
    "D49": calls_denied,
    "D49-ptrace": lambda jail: all_in(run(jail, "D49-ptrace"), {"EPERM", "EACCES"}),
    "D50": strangers_are_safe,
    "D50-init": init_is_safe,
    "D50-seen": lambda jail: max(run(jail, "D50-seen")) < 100,
    "D51": separate_namespaces,
    "D53": lambda jail: run(jail, "D53") == "EPERM",
    "D54": lambda jail: run(jail, "D54") == [1, 1],
}


@pytest.mark.parametrize("case", CASES)
def test_the_jail_holds_in_case(jail, case):
    assert CASES[case](jail)
