"""Every call of every step made to fail, one after the other: an error, or the whole jail; never half of one."""

import ast
import errno
import os
from pathlib import Path

import pytest
from jailer import FIVE, Note, status_of

import donjon
from donjon.jail import mounts, template, zygote
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, JailSpec, KeepMount, Tmpfs

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]

WHO = {"uid": "20001", "gid": "20001", "hostname": "bob"}
REASON = os.strerror(errno.EXFULL)  # an error that nothing else gives
ELSEWHERE = {
    "apparmor": "needs a kernel that has it",
    "capget": "tells, and changes nothing",
    "cgroup_write": "tests/jail/test_faults.py",
    "clone3": "tests/cli/test_faults.py: the birth itself",
    "close_range": "closes in a process that stands in, which ends where it cannot",
    "execve": "tests/jail/test_processes.py",
    "last_cap": "a number",
    "mkdir": "test_cgroups: a group that cannot be made",
    "pidfd_open": "of the helper that writes maps",
    "pidfd_send_signal": "of the helper that writes maps",
    "set_pdeathsig": "clears or asks again; never fails",
    "setns": "tests/jail/test_namespaces.py",
    "strerror": "words",
}


def specs(place):
    """Jails that have every kind of step among them."""
    for name in ("root", "new/old", "data", "old/proc", "old/usr"):
        (place / name).mkdir(parents=True)
    host = JailSpec(
        rootfs="host",
        cap=frozenset({10}),
        binds=(Bind("/usr/share", "/data", read_only=True),),
        tmpfs=(Tmpfs("/cache", size=1 << 20),),
        expose=("/etc/init.d",),
        limit_nproc=100,
        limit_as=1 << 40,
        max_fd=512,
        prio=1,
        **WHO,
    )
    directory = JailSpec(
        rootfs=str(place / "root"),
        binds=(Bind("/usr", "/usr", read_only=True), Bind(str(place / "data"), "/data")),
        **WHO,
    )
    user = JailSpec(rootfs="host", refork=True, refork_as_root=True, **WHO)
    unshared = JailSpec(
        unshare=frozenset({"fs", "uts", "ipc"}), unshare2=frozenset({"net"}), chroot="/usr", **WHO
    )
    new = place / "new"
    pivot = JailSpec(pivot_root=(str(new), f"{new}/old"), emperor_cap=frozenset({6, 7, 21}), **WHO)

    def bind(context):
        with mounts.clone_path(str(new)) as tree:
            mounts.attach_path(tree, str(new))

    keep = (KeepMount("/usr", f"{place}/old/usr"),)
    old = JailSpec(namespace=f"{place}/old:bob", namespace_keep_mounts=keep, uid="20001")
    return {
        "host": (host, FIVE, ()),
        "directory": (directory, FIVE, ()),
        "user": (user, FIVE | {"user"}, ()),
        "unshared": (unshared, frozenset(), ()),
        "pivot": (pivot, frozenset({"fs"}), (Note(Phase.POST_JAIL, bind),)),
        "old style": (old, frozenset(), ()),
    }


def used():
    """The calls that steps of jails make, as the source has them."""
    found = set()
    for path in (Path(donjon.__file__).parent / "jail").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "syscalls":
                name = node.func.attr
                first = node.args[0] if node.args else None
                if name != "fault":
                    found.add(name)
                elif isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def injected_elsewhere():
    """The calls that other tests make fail: each word of a file that injects."""
    found = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        text = path.read_text()
        if path.samefile(__file__) or "inject" not in text:
            continue
        nodes = ast.walk(ast.parse(text))
        found |= {node.value for node in nodes if isinstance(node, ast.Constant)}
    return found


def look():
    """The walls, as a program inside can see them."""
    root = sorted(os.listdir("/"))
    inner = ("/proc/sys", "/proc/keys", "/dev/null", "/dev/pts", "/dev/shm", "/etc/passwd")
    return {
        "name": os.uname().nodename,
        "root": root,
        "flags": {path: os.statvfs(path).f_flag for path in (*inner, *(f"/{n}" for n in root))},
        "sets": [
            status_of(name) for name in ("CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Uid", "Gid")
        ],
    }


def look_without_proc():
    return {"root": sorted(os.listdir("/")), "uid": os.getresuid(), "name": os.uname().nodename}


def sweep(jail, wish, call, whole, see):
    """Let the first, second ... call fail until the jail has no more of them; tell how many failed."""
    spec, born_in, hooks = wish
    failed, fine, after = 0, 0, 0
    while fine < 2:
        fault = (call, errno.EXFULL, after)
        told = jail.tell(spec, see, born_in=born_in, hooks=hooks, inject=fault)
        after += 1
        if told.status == 0:
            assert told.value == whole, f"{call} {after}: half a jail"
            fine += 1
            continue
        fine = 0
        failed += 1
        assert told.value is None
        assert told.error.startswith("default: "), told.error
        assert REASON in told.error
        assert "\n" not in told.error, "a traceback"
    return failed


@pytest.fixture(scope="module")
def reached():
    """Calls that failed in one of the sweeps."""
    return set()


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(
            (name, "view by view")
            for name in ("host", "directory", "user", "unshared", "pivot", "old style")
        ),
        *((name, "from a template") for name in ("host", "user")),
    ],
)
def test_no_call_that_fails_gives_half_a_jail(jail, tmp_path, reached, name, way):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    wish = specs(tmp_path)[name]
    spec, born_in, hooks = wish
    see = look if name in ("host", "user") else look_without_proc
    if way == "from a template":
        zygote.prepare()
    try:
        whole = jail(spec, see, born_in=born_in, hooks=hooks)
        for call in sorted(used() - ELSEWHERE.keys()):
            if sweep(jail, wish, call, whole, see):
                reached.add(call)
    finally:
        template.forget()


def test_every_call_of_a_step_was_reached(reached):
    if not reached:
        pytest.skip("alone, it has seen no sweep")
    missing = used() - ELSEWHERE.keys() - reached - injected_elsewhere()
    assert not missing, f"let these fail in a test, or say in ELSEWHERE why not: {missing}"
