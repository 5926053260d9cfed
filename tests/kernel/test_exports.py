"""Every exported call is typed, re-exported, can be made to fail, and leaks no descriptor or memory."""

import ast
import contextlib
import ctypes
import errno
import gc
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon import syscalls as s
from donjon.fd import Fd
from donjon.syscalls import _linux

CALLS = {name for name, value in vars(_linux).items() if callable(value) and name[0] != "_"}
NUMBERS = {name for name, value in vars(_linux).items() if isinstance(value, int)}
SEAM = {"inject", "inject_clear", "fault", "last_cap"}  # nothing of these can fail
ROUNDS = 100
FLAGS = s.CLONE_NEWNS | s.CLONE_NEWUTS | s.CLONE_NEWIPC


def clone3() -> None:
    pid, pidfd = s.clone3(0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(pidfd)


def played() -> None:
    pid, pidfd = s.play(0, (), 2, b"/bin/true", (b"true",), (), b"x", share=True)
    os.waitpid(pid, 0)
    os.close(pidfd)


def with_pidfd(use: Callable[[int], object]) -> None:
    with Fd(s.pidfd_open(os.getpid())) as pidfd:
        use(pidfd.fileno())


def watched() -> None:
    with Fd(s.inotify_init1()) as watch:
        wd = s.inotify_add_watch(watch.fileno(), "/", s.IN_CREATE)
        s.inotify_rm_watch(watch.fileno(), wd)


def looped() -> None:
    """A file in memory as a device; nobody but us knows its number, until it is free again."""
    with (
        Fd(os.open("/dev/loop-control", os.O_RDWR)) as control,
        Fd(os.memfd_create("disk")) as backing,
    ):
        os.ftruncate(backing.fileno(), 1 << 20)
        for _ in range(20):  # another may take the device that was free
            number = s.loop_ctl_get_free(control.fileno())
            with Fd(os.open(f"/dev/loop{number}", os.O_RDONLY)) as loop:
                try:
                    s.loop_configure(
                        loop.fileno(),
                        backing.fileno(),
                        s.LO_FLAGS_READ_ONLY | s.LO_FLAGS_AUTOCLEAR,
                    )
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    continue
                s.loop_clr_fd(loop.fileno())
                return


def mounted() -> None:
    s.mount("none", "/tmp", "tmpfs", 0, "size=64k")
    try:
        s.umount2("/tmp", s.MNT_DETACH)
    except OSError:
        s.umount2("/tmp", s.MNT_DETACH)
        raise


def pivoted() -> None:
    """Make a new root; the next round makes one inside it."""
    os.makedirs("/tmp", exist_ok=True)
    s.mount("none", "/tmp", "tmpfs")
    os.chdir("/tmp")
    try:
        s.pivot_root(".", ".")
        s.umount2(".", s.MNT_DETACH)
    except OSError:
        os.chdir("/")
        s.umount2("/tmp", s.MNT_DETACH)
        raise
    os.chdir("/")


def detached_mount() -> None:
    with Fd(s.fsopen("tmpfs")) as context:
        s.fsconfig(context.fileno(), s.FSCONFIG_SET_STRING, "size", "64k")
        s.fsconfig(context.fileno(), s.FSCONFIG_CMD_CREATE)
        with Fd(s.fsmount(context.fileno())) as tree:
            number = tree.fileno()
            s.mount_setattr(number, "", s.AT_EMPTY_PATH, attr_set=s.MOUNT_ATTR_NOEXEC)
            s.move_mount(number, "", s.AT_FDCWD, "/tmp", s.MOVE_MOUNT_F_EMPTY_PATH)
    s.umount2("/tmp", s.MNT_DETACH)


def advised() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE) as memory:
        view = ctypes.c_char.from_buffer(memory)
        try:
            s.madvise(ctypes.addressof(view), mmap.PAGESIZE, s.MADV_MERGEABLE)
        finally:
            del view


def ambient(use: Callable[[int], None]) -> None:
    effective, permitted, inheritable = s.capget()
    s.capset(effective, permitted, inheritable | 1 << s.CAP_CHOWN)
    use(s.CAP_CHOWN)


ALLOW_ALL = struct.pack("HBBI", 6, 0, 0, s.SECCOMP_RET_ALLOW)
GETSID = {"x86_64": 124}.get(os.uname().machine, 156)
NOTIFY_GETSID = b"".join(
    (
        struct.pack("HBBI", 0x20, 0, 0, 0),  # load the number
        struct.pack("HBBI", 0x15, 0, 1, GETSID),
        struct.pack("HBBI", 6, 0, 0, s.SECCOMP_RET_USER_NOTIF),
        ALLOW_ALL,
    )
)


def listened() -> None:
    """A child whose ``getsid`` is looked at and let through."""
    listener, child = _listener()
    try:
        number = s.seccomp_notif_recv(listener)[0]
        s.seccomp_notif_continue(listener, number)
    finally:
        os.close(listener)
        os.waitpid(child, 0)


def _listener() -> tuple[int, int]:
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            s.inject_clear()
            s.set_no_new_privs()
            listener = s.seccomp_filter(NOTIFY_GETSID, s.SECCOMP_FILTER_FLAG_NEW_LISTENER)
            socket.send_fds(far, [b"x"], [listener])
            os.close(listener)
            near.close()
            far.close()
            os.getsid(0)
        os._exit(0)
    far.close()
    with near:
        return socket.recv_fds(near, 1, 1)[1][0], child


def tunnelled() -> None:
    s.unshare(s.CLONE_NEWNET)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        s.tunsetiff(device, "leak%d", s.IFF_TUN | s.IFF_NO_PI | s.IFF_VNET_HDR)
        s.tunsetvnethdrsz(device, 12)
        s.tunsetoffload(device, s.TUN_F_CSUM)
        s.tungetiff(device)
    finally:
        os.close(device)


def ruled() -> None:
    with Fd(s.landlock_create_ruleset(1 << 2)) as rules, Fd(os.open("/", os.O_PATH)) as root:
        s.landlock_add_path(rules.fileno(), root.fileno(), 1 << 2)


def restricted() -> None:
    """In a child: 16 rulesets are the most that a process can have (landlock(7))."""
    with Fd(s.landlock_create_ruleset(1 << 6)) as rules:
        child = os.fork()
        if child == 0:
            os._exit(_restrict(rules.fileno()))
        if os.waitpid(child, 0)[1]:
            raise OSError(errno.EXFULL, "restricted")


def _restrict(rules: int) -> int:
    try:
        s.landlock_restrict_self(rules)
    except OSError:
        return 1
    return 0


USES: dict[str, Callable[[], object]] = {
    "inject": lambda: (s.inject("a-name", errno.EPERM), s.inject_clear()),
    "inject_clear": s.inject_clear,
    "fault": lambda: s.fault("a-name"),
    "clone3": clone3,
    "play": played,
    "unshare": lambda: s.unshare(s.CLONE_FS),
    "setns": lambda: with_pidfd(lambda pidfd: s.setns(pidfd, s.CLONE_NEWUTS)),
    "pidfd_open": lambda: os.close(s.pidfd_open(os.getpid())),
    "inotify_init1": lambda: os.close(s.inotify_init1()),
    "inotify_add_watch": watched,
    "inotify_rm_watch": watched,
    "pidfd_send_signal": lambda: with_pidfd(lambda pidfd: s.pidfd_send_signal(pidfd, 0)),
    "pidfd_getfd": lambda: with_pidfd(lambda pidfd: os.close(s.pidfd_getfd(pidfd, pidfd))),
    "mount": lambda: s.mount(None, "/", None, s.MS_REC | s.MS_PRIVATE, None),
    "umount2": mounted,
    "pivot_root": pivoted,
    "open_tree": lambda: os.close(s.open_tree(s.AT_FDCWD, "/", s.OPEN_TREE_CLONE)),
    "move_mount": detached_mount,
    "mount_setattr": detached_mount,
    "fsopen": detached_mount,
    "fsconfig": detached_mount,
    "fsmount": detached_mount,
    "openat2": lambda: os.close(s.openat2(s.AT_FDCWD, "/", os.O_PATH, 0, s.RESOLVE_BENEATH * 0)),
    "loop_ctl_get_free": looped,
    "loop_configure": looped,
    "loop_clr_fd": looped,
    "close_range": lambda: s.close_range(*[os.dup(0)] * 2),
    "madvise": advised,
    "set_memory_merge": lambda: s.set_memory_merge(False),
    "capget": s.capget,
    "capset": lambda: s.capset(*s.capget()),
    "prctl": lambda: s.prctl(s.PR_GET_DUMPABLE),
    "capbset_drop": lambda: s.capbset_drop(s.CAP_SYSLOG),
    "cap_ambient_raise": lambda: ambient(s.cap_ambient_raise),
    "cap_ambient_lower": lambda: ambient(s.cap_ambient_lower),
    "cap_ambient_clear_all": s.cap_ambient_clear_all,
    "set_no_new_privs": s.set_no_new_privs,
    "set_pdeathsig": lambda: s.set_pdeathsig(signal.SIGKILL),
    "get_pdeathsig": s.get_pdeathsig,
    "set_cmdline": lambda: s.set_cmdline([b"a", b"b"]),
    "set_child_subreaper": lambda: s.set_child_subreaper(True),
    "set_name": lambda: s.set_name(b"name"),
    "last_cap": s.last_cap,
    "landlock_abi": s.landlock_abi,
    "seccomp_action_avail": lambda: s.seccomp_action_avail(s.SECCOMP_RET_ALLOW),
    "seccomp_filter": lambda: s.seccomp_filter(ALLOW_ALL),
    "seccomp_notif_recv": listened,
    "seccomp_notif_continue": listened,
    "landlock_create_ruleset": lambda: os.close(s.landlock_create_ruleset(1)),
    "landlock_add_path": ruled,
    "landlock_restrict_self": restricted,
    "join_session_keyring": s.join_session_keyring,
    "ioprio_set": lambda: s.ioprio_set(1, 0, 2 << 13 | 4),
    "ioprio_get": lambda: s.ioprio_get(1, 0),
    "tunsetiff": tunnelled,
    "tungetiff": tunnelled,
    "tunsetoffload": tunnelled,
    "tunsetvnethdrsz": tunnelled,
    "sethostname": lambda: s.sethostname("a-name"),
    "setdomainname": lambda: s.setdomainname("a-name"),
}


def test_every_exported_call_has_a_use_here():
    assert set(USES) == CALLS


def test_the_package_exports_everything_the_extension_has():
    assert set(s.__all__) == CALLS | NUMBERS | {"capability_names"}


def test_the_types_name_everything_the_extension_has():
    tree = ast.parse(Path(_linux.__file__).with_name("_linux.pyi").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    numbers = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert functions == CALLS
    assert numbers == NUMBERS | {"capability_names"}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_call_says_what_it_is(name):
    assert getattr(s, name).__doc__


def _left_by(use: Callable[[], object]) -> tuple[int, int]:
    """Return how many descriptors and blocks of memory ROUNDS of ``use`` leave."""
    listing = os.open("/proc/self/fd", os.O_DIRECTORY)  # a round may take /proc away
    for _ in range(5):
        use()
    gc.collect()
    descriptors, blocks = len(os.listdir(listing)), sys.getallocatedblocks()
    for _ in range(ROUNDS):
        use()
    gc.collect()
    blocks = sys.getallocatedblocks() - blocks
    return len(os.listdir(listing)) - descriptors, blocks


def _succeeding(name: str) -> tuple[int, int]:
    s.mount(None, "/", None, s.MS_REC | s.MS_PRIVATE)
    return _left_by(USES[name])


def _failing(name: str) -> tuple[int, int]:
    s.mount(None, "/", None, s.MS_REC | s.MS_PRIVATE)
    return _left_by(lambda: _fail_once(name))


def _fail_once(name: str) -> None:
    s.inject_clear()
    s.inject(name, errno.EXFULL)
    kept = os.dup(0) if name == "close_range" else -1
    with contextlib.suppress(OSError):  # the fault, told apart below
        USES[name]()
        raise AssertionError(f"{name} cannot be made to fail")
    if kept >= 0:
        os.closerange(kept, kept + 2)


@pytest.mark.root
@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_that_succeeds_leaks_nothing(in_child, name):
    descriptors, blocks = in_child(_succeeding, name, flags=FLAGS)
    assert descriptors == 0
    assert blocks < ROUNDS // 4


@pytest.mark.root
@pytest.mark.parametrize("name", sorted(CALLS - SEAM))
def test_a_call_that_fails_leaks_nothing(in_child, name):
    descriptors, blocks = in_child(_failing, name, flags=FLAGS)
    assert descriptors == 0
    assert blocks < ROUNDS // 4


@pytest.mark.parametrize("name", sorted(CALLS - {"inject_clear", "last_cap", "landlock_abi"}))
def test_a_call_with_wrong_arguments_is_a_type_error(name):
    call = getattr(s, name)
    with pytest.raises(TypeError):
        call(object(), object(), object(), object(), object(), object())


def test_each_interpreter_has_its_own_module(in_child):
    assert in_child(_in_interpreter) == 0


def _in_interpreter() -> int:
    interpreters = pytest.importorskip("_xxsubinterpreters")
    one = interpreters.create()
    interpreters.run_string(
        one,
        "import sys; sys.path[:] = " + repr(sys.path) + "\n"
        "from donjon import syscalls\n"
        "syscalls.inject('capget', 1)\n"
        "try: syscalls.clone3(0)\n"
        "except RuntimeError: pass\n"
        "else: raise AssertionError\n",
    )
    interpreters.destroy(one)
    s.capget()
    return 0
