"""The table of what makes a jail tight: each check with its weight and what to do about it.

A weight says how much a jail is worth less without: 10 is a wall whose absence makes others moot,
1 a tidiness. The score is the part of all weights that stands, in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from donjon.jail import capabilities
from donjon.records import dataclass
from donjon.verbs.auditing.facts import Facts, Mount


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to. ``good`` is None where it could not be tried."""

    area: str
    name: str
    good: bool | None
    weight: int
    detail: str = ""
    advice: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as values for json.dumps()."""
        return asdict(self)


Judge = Callable[[Facts], str]
"""Returns what is wrong, "" if nothing is."""


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table."""

    area: str
    name: str
    weight: int
    judge: Judge
    advice: str


def judge(facts: Facts) -> list[Verdict]:
    """Return the verdict of each check."""
    found = []
    for check in CHECKS:
        wrong = check.judge(facts)
        advice = check.advice if wrong else ""
        found.append(Verdict(check.area, check.name, not wrong, check.weight, wrong, advice))
    return found


def score(verdicts: Iterable[Verdict]) -> int:
    """Return the part of the weights that stands, 0 to 100."""
    tried = [one for one in verdicts if one.good is not None]
    total = sum(one.weight for one in tried)
    return 100 * sum(one.weight for one in tried if one.good) // total if total else 0


def word(points: int) -> str:
    """Return a score in a word."""
    for least, said in ((90, "tight"), (75, "good"), (50, "open in places")):
        if points >= least:
            return said
    return "weak"


def _who(facts: Facts, bad: Callable[[int], bool], pick: str) -> str:
    pids = [one.pid for one in facts.processes if any(map(bad, getattr(one, pick)))]
    return f"pid {' '.join(map(str, pids))}" if pids else ""


def _root(facts: Facts) -> str:
    return _who(facts, lambda uid: uid == 0, "uids")


def _root_group(facts: Facts) -> str:
    return _who(facts, lambda gid: gid == 0, "gids") or _who(facts, lambda gid: gid == 0, "groups")


def _caps(*sets: str) -> Judge:
    def found(facts: Facts) -> str:
        bits = 0
        for one in facts.processes:
            for name in sets:
                bits |= one.caps[name]
        return capabilities.names(n for n in range(64) if bits >> n & 1) if bits else ""

    return found


def _everywhere(pick: str) -> Judge:
    def found(facts: Facts) -> str:
        pids = [one.pid for one in facts.processes if not getattr(one, pick)]
        return f"not in pid {' '.join(map(str, pids))}" if pids else ""

    return found


def _own(name: str) -> Judge:
    def found(facts: Facts) -> str:
        shared = any(name not in one.own for one in facts.processes)
        return "shared with the host" if shared else ""

    return found


def _mounted(facts: Facts, point: str) -> Mount | None:
    return next((mount for mount in reversed(facts.mounts) if mount.point == point), None)


def _own_root(facts: Facts) -> str:
    return "" if facts.own_root else "the host's files are in sight"


def _root_is_fixed(facts: Facts) -> str:
    root = _mounted(facts, "/")
    return "" if root is not None and "ro" in root.options else "it can be written"


def _lacking(option: str, *, but: Callable[[Mount], bool]) -> Judge:
    def found(facts: Facts) -> str:
        points = [one.point for one in facts.mounts if option not in one.options and not but(one)]
        more = f" and {len(points) - 3} more" if len(points) > 3 else ""
        return " ".join(points[:3]) + more

    return found


def _is_pseudo(mount: Mount) -> bool:
    """Whether nobody can put a file there; a single device of devtmpfs is no directory."""
    single = mount.kind == "devtmpfs" and mount.point != "/dev"
    return single or mount.kind in ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")


def _is_device(mount: Mount) -> bool:
    return mount.point == "/dev" or mount.point.startswith("/dev/") or _is_pseudo(mount)


def _proc_sys(facts: Facts) -> str:
    proc, inner = _mounted(facts, "/proc"), _mounted(facts, "/proc/sys")
    fixed = proc is None or any(one is not None and "ro" in one.options for one in (proc, inner))
    return "" if fixed else "/proc/sys can be written"


def _own_dev(facts: Facts) -> str:
    dev = _mounted(facts, "/dev")
    if not facts.own_root or dev is None:
        return "the host's devices"
    return "the host's devices" if dev.kind == "devtmpfs" else ""


def _no_sys(facts: Facts) -> str:
    sys = _mounted(facts, "/sys")
    if facts.own_root and sys is None:
        return ""
    return "" if sys is not None and "ro" in sys.options else "/sys can be written"


def _descriptors(facts: Facts) -> str:
    return "; ".join(item for one in facts.processes for item in one.foreign)


def _own_cgroup(facts: Facts) -> str:
    shared = facts.cgroups == facts.parents_cgroups
    return "that of who started it" if shared else ""


def _limited(controller: str) -> Judge:
    return lambda facts: "" if controller in facts.limits else "no limit"


def _core(facts: Facts) -> str:
    dumps = [one.pid for one in facts.processes if one.core not in ("0", "1")]
    return "a dump goes to the host's core_pattern" if dumps else ""


def _oom(facts: Facts) -> str:
    spared = [one.pid for one in facts.processes if one.oom_score_adj < 0]
    return f"killed after others: pid {' '.join(map(str, spared))}" if spared else ""


def _planned(words: str) -> Judge:
    return lambda facts: "" if facts.planned(words) else "not in its plan"


def _rows() -> Iterator[Check]:
    who, may = "who it is", "what it may"
    yield Check(who, "no process is root on the host", 10, _root, "set uid")
    yield Check(who, "no process has root's group", 5, _root_group, "set gid")
    yield Check(may, "no capability is held", 8, _caps("CapEff", "CapPrm"), "leave cap out")
    yield Check(
        may, "no capability can be had", 5, _caps("CapBnd", "CapInh", "CapAmb"),
        "leave cap and emperor-cap out, and give the jail a namespace or a root",
    )  # fmt: skip
    yield Check(
        may, "programs give no privileges", 6, _everywhere("no_new_privs"),
        "leave no-new-privs out",
    )  # fmt: skip
    yield Check(may, "system calls are filtered", 9, _everywhere("filtered"), "leave seccomp out")
    yield Check(
        may, "files have a second wall", 2, _planned("restrict files to the rules"),
        "landlock = auto",
    )  # fmt: skip
    yield Check(may, "keys are its own", 1, _planned("session keyring"), "leave keep-keyring out")
    yield Check(may, "no core is dumped", 2, _core, "leave rlimit-core out, or set it to 0")
    for name, weight, words in (
        ("mnt", 7, "fs"), ("pid", 6, "pid"), ("net", 5, "net"), ("user", 4, "user"),
        ("ipc", 3, "ipc"), ("uts", 1, "uts"), ("cgroup", 1, "cgroup"),
    ):  # fmt: skip
        advice = f"emperor-use-clone = {words}"
        yield Check("namespaces", f"a {name} namespace of its own", weight, _own(name), advice)
    yield from _files()
    cgroup = "cgroup = DIR, and cgroup-opt"
    yield Check("resources", "a control group of its own", 3, _own_cgroup, cgroup)
    yield Check("resources", "memory is limited", 3, _limited("memory"), cgroup)
    yield Check("resources", "processes are limited", 3, _limited("pids"), cgroup)
    yield Check("resources", "not spared when memory runs out", 1, _oom, "raise oom-score-adj")


def _files() -> Iterator[Check]:
    area = "files"
    yield Check(area, "a root of its own", 8, _own_root, "rootfs = host")
    yield Check(area, "the root is read-only", 2, _root_is_fixed, "rootfs = host")
    nosuid = _lacking("nosuid", but=_is_pseudo)
    yield Check(area, "no set-user-id program counts", 3, nosuid, "rootfs = host")
    yield Check(area, "no device file counts", 3, _lacking("nodev", but=_is_device),
                "rootfs = host")  # fmt: skip
    yield Check(area, "kernel settings are out of reach", 3, _proc_sys, "rootfs = host")
    yield Check(area, "devices are its own", 3, _own_dev, "rootfs = host")
    yield Check(area, "/sys is out of reach", 2, _no_sys, "rootfs = host")
    yield Check(area, "nothing outside is held open", 6, _descriptors,
                "what the operator hands in, or a leak")  # fmt: skip


CHECKS: tuple[Check, ...] = tuple(_rows())
