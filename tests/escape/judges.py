"""What a probe found, judged: each judge returns what got through, in words; empty where it held."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import donjon

Judge = Callable[[Any, Any], list[str]]

DENIED = frozenset({"EPERM", "EACCES", "EROFS", "ENOENT"})
ABSENT = frozenset({"ENOENT", "EACCES", "EPERM", "ENOTDIR", ""})
DEVICES = frozenset({
    "null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin",
    "stdout", "stderr", "core", "mqueue", "console",
})  # fmt: skip
TOPS = frozenset({
    "app", "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt",
    "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", ".complete",
})  # fmt: skip
FOR_ALL: set[Judge] = set()
"""Judges that know nothing of donjon's own shape."""


def for_all(judge: Judge) -> Judge:
    """Say that a judge can be used for every program's jail."""
    FOR_ALL.add(judge)
    return judge


def _outside(found: dict[str, Any], allowed: frozenset[str]) -> list[str]:
    return [f"{name}: {said}" for name, said in found.items() if said not in allowed]


def only(*allowed: str) -> Judge:
    """Each answer is one of these."""
    return for_all(lambda found, cell: _outside(found, frozenset(allowed)))


def refused(*also: str) -> Judge:
    """Each answer is a refusal, or one of these."""
    return only(*DENIED, *also)


def equals(wanted: object) -> Judge:
    """The answer is this."""
    return for_all(lambda found, cell: [] if found == wanted else [f"{found}"])


@for_all
def nothing(found: Any, cell: Any) -> list[str]:
    """Nothing was found."""
    return [f"{name}: {said}" for name, said in found.items()]


def the_link_only(found: Any, cell: Any) -> list[str]:
    """Nothing is open but the vassal's own link to its Emperor, as the original hands it on."""
    return [f"{name}: {said}" for name, said in found.items() if (name, said) != ("3", "socket")]


@for_all
def refused_word(found: Any, cell: Any) -> list[str]:
    """The one answer is a refusal."""
    return [] if found in DENIED else [found]


@for_all
def no_secret(found: Any, cell: Any) -> list[str]:
    """None of the host's files can be read."""
    return [
        f"{name}: {said}" for name, said in found.items() if "/" in name and said not in ABSENT
    ]


@for_all
def not_there(found: Any, cell: Any) -> list[str]:
    """No file has content."""
    return _outside(found, ABSENT)


def own_directory(found: Any, cell: Any) -> list[str]:
    """The working directory is the vassal's."""
    return [] if found == cell.words["app"] else [found]


def _shown(cell: Any) -> set[str]:
    """First names of the way to what is shown of the host: the application and the interpreter."""
    paths = (cell.words["place"], sys.prefix, sys.base_prefix, donjon.__file__, os.__file__)
    return {Path(os.path.abspath(path)).parts[1] for path in paths}


def no_old_root(found: Any, cell: Any) -> list[str]:
    """No process of the jail has another root."""
    odd = sorted(set(found["root"]) - TOPS - _shown(cell))
    shadow = [] if found["shadow"] in ABSENT else ["/etc/shadow"]
    return odd + shadow + _outside(found["ways"], ABSENT)


def only_views(found: Any, cell: Any) -> list[str]:
    """What a mount shows of a file system of the host's is what was asked for.

    A mount of the whole root of a disk would be the host. Names that differ inside and outside tell
    a customer where things are on the host: only those of the root itself may.
    """
    virtual = {"proc", "tmpfs", "devpts", "devtmpfs", "mqueue", "sysfs", "overlay"}
    return [
        f"{root} on {point} ({kind})"
        for root, point, kind in found
        if kind not in virtual and point != "/" and (root == "/" or not root.endswith(point))
    ]


def walls_stay(found: Any, cell: Any) -> list[str]:
    """No read-only mount becomes writable, and none can be taken away."""
    lost = [] if found["targets"] else ["no mount is read-only"]
    allowed = DENIED | {"EINVAL"}
    return lost + [odd for each in found["all"] for odd in _outside(each, allowed)]


@for_all
def locked(found: Any, cell: Any) -> list[str]:
    """No mount loses an attribute; the counts show that it was tried."""
    counts = {name: said for name, said in found.items() if name in ("plain", "nested")}
    if not int(counts.get("plain", "0")):
        raise ValueError("no mount is read-only")
    tried = {name: said for name, said in found.items() if name not in counts}
    return _outside(tried, DENIED | {"EINVAL", "ENOSYS"})


@for_all
def all_refused_lists(found: Any, cell: Any) -> list[str]:
    """Each answer of each list is a refusal."""
    return [odd for each in found for odd in _outside(each, DENIED)]


@for_all
def nothing_is_told(found: Any, cell: Any) -> list[str]:
    """Files are covered, the log is closed."""
    files, log = found
    told = _outside(files, ABSENT | {"EIO"})
    return told + ([] if log in DENIED else [f"dmesg: {log}"])


@for_all
def few_devices(found: Any, cell: Any) -> list[str]:
    """Devices are those of the list, and none can be made."""
    made, there, blocks = found
    return [*_outside(made, DENIED), *sorted(set(there) - DEVICES), *blocks]


@for_all
def mount_flags(found: Any, cell: Any) -> list[str]:
    """No mount lets set-user-id programs or, but for devices of /dev, devices work."""
    return [
        f"{point}: {','.join(options)}"
        for point, options in found.items()
        if not ("nosuid" in options and ("nodev" in options or _is_device(point)))
        and not _is_device(point)
    ]


def _is_device(point: str) -> bool:
    """Whether it is /dev, what belongs there, or a file of /proc covered by a device."""
    parts = Path(point).parts
    return (
        point == "/dev" or parts[1:2] == ("dev",) or (parts[1:2] == ("proc",) and len(parts) > 2)
    )


@for_all
def no_gain(found: Any, cell: Any) -> list[str]:
    """A set-user-id program ran as who started it, or did not run."""
    before = "0" if cell.root_inside else cell.words["uid"]
    return [] if found["euid"] == before else [f"euid {found['euid']}"]


@for_all
def full(found: Any, cell: Any) -> list[str]:
    """Neither files nor bytes are without end."""
    return _outside(found, frozenset({"ENOSPC", "EDQUOT", "ENOMEM", *DENIED, "EBADF"}))


@for_all
def cgroups_hold(found: Any, cell: Any) -> list[str]:
    """What a nested root can mount, it cannot write."""
    return _outside({name: said for name, said in found.items() if name.count("/") == 1}, DENIED)


@for_all
def bomb_ends(found: Any, cell: Any) -> list[str]:
    """The kernel said no before thousands were made."""
    return [] if found["fork"] == "EAGAIN" else [f"{found['processes']} processes"]


@for_all
def hog_dies(found: Any, cell: Any) -> list[str]:
    """Who takes too much is killed or told."""
    return [] if found["memory"] in ("SIGKILL", "ENOMEM") else [found["memory"]]


def no_zombies(found: Any, cell: Any) -> list[str]:
    """All orphans were reaped."""
    return cell.zombies()


def no_capability(found: Any, cell: Any) -> list[str]:
    """All five sets are empty and stay so."""
    sets = [f"{name}: {bits:x}" for name, bits in found["sets"].items() if bits]
    root = [] if found["root"] == ("done" if cell.root_inside else "EPERM") else ["setuid(0)"]
    return sets + root + ([] if found["ambient"] == "EPERM" else ["ambient"])


@for_all
def no_capability_text(found: Any, cell: Any) -> list[str]:
    """An executed program has no capability, and can gain none."""
    names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
    sets = [f"{name}: {found[name]}" for name in names if int(found[name], 16)]
    return sets + ([] if found["no-new-privs"] == "1" else ["no_new_privs is off"])


def no_groups(found: Any, cell: Any) -> list[str]:
    """There is the group that was asked for, and no other can be had.

    A user whom the host knows by name has his own group twice: initgroups(3).
    """
    gid, become = (0, "done") if cell.root_inside else (int(cell.words["uid"]), "EPERM")
    groups, *rest = found
    return [] if set(groups) <= {gid} and rest == [gid, "EPERM", become] else [f"{found}"]


@for_all
def few_processes(found: Any, cell: Any) -> list[str]:
    """A process list of the jail's own has small numbers."""
    return [] if len(found) < 20 else [f"{len(found)} processes"]
