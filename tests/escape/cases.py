"""The table of attacks: what is tried, what must happen, and who tries it.

Ids are those of the design's list (A entry and descriptors, B files, C resources, D credentials and
system calls, E terminals, F network, G control plane). A word after the number is a variant. A
case is tried from inside by the C program (``c``) or by Python (``py``), looked at from outside
(``outside``), or has a test of its own (``test``); what cannot exist yet says for what it waits.
``needs`` names a feature: the case is tried as soon as the option table has it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import judges
import outside
from judges import equals, nothing, refused

from donjon import syscalls
from donjon.config import options


class Cell(Protocol):
    """A jail that is attacked."""

    root_inside: bool
    words: Mapping[str, str]

    def c(self, verb: str, *words: str) -> dict[str, str]:
        """What the C program found."""

    def py(self, name: str, *words: str) -> Any:
        """What the Python probe found."""


Judge = Callable[[Any, Any], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row."""

    id: str
    tries: str
    must: str
    by: str = ""  # "c", "py", or "" where ``judge`` looks from outside
    verb: str = ""
    words: tuple[str, ...] = ()
    judge: Judge = field(default=nothing)
    test: str = ""  # has a test of its own, PATH::NAME
    waits: str = ""  # cannot be tried: for what it waits
    needs: str = ""
    only: tuple[str, ...] = ()  # profiles, by name; all where empty
    but: tuple[str, ...] = ()  # profiles for which it is no case
    peers: bool = True  # also asked of other programs' jails, whose first process is the probe
    lane: str = "L"

    @property
    def is_tried(self) -> bool:
        """Whether it is tried in each profile."""
        return not self.test and not self.waits

    @property
    def for_peers(self) -> bool:
        """Whether another program's jail can be asked the same."""
        return self.peers and bool(self.by) and self.judge in judges.FOR_ALL and not self.only

    def is_for(self, profile: str) -> bool:
        """Whether it is a case for a profile."""
        return profile not in self.but and (not self.only or profile in self.only)

    def attack(self, cell: Cell) -> list[str]:
        """Return what got through; empty where the jail held."""
        words = [word.format(**cell.words) for word in self.words]
        if self.by == "c":
            return self.judge(cell.c(self.verb, *words), cell)
        if self.by == "py":
            return self.judge(cell.py(self.verb or self.id, *words), cell)
        return self.judge(None, cell)


def lacks(need: str) -> str:
    """Return why a feature cannot be tried yet; empty when it can."""
    if not need:
        return ""
    name, _, value = need.partition("=")
    if name == "verb":
        found = importlib.util.find_spec(f"donjon.verbs.{value}")
        return "" if found else f"no verb {value} yet"
    row = options.find(name)
    if row is None or not row.built:
        return f"no option {name} yet"
    if value:
        try:
            row.parse(value)
        except ValueError:
            return f"no {need} yet"
    return "this kernel has no Landlock" if name == "landlock" and not has_landlock() else ""


def has_landlock() -> bool:
    """Whether this kernel has it."""
    try:
        return syscalls.landlock_abi() > 0
    except OSError:
        return False


def c(
    number: str, tries: str, must: str, verb: str, *words: str, judge: Judge, **more: Any
) -> Case:
    """Return a case that the C program tries."""
    return Case(
        id=number, tries=tries, must=must, by="c", verb=verb, words=words, judge=judge, **more
    )


def py(number: str, tries: str, must: str, *words: str, judge: Judge, **more: Any) -> Case:
    """Return a case that the Python probe tries under the same name."""
    return Case(id=number, tries=tries, must=must, by="py", words=words, judge=judge, **more)


def look(number: str, tries: str, must: str, judge: Judge, **more: Any) -> Case:
    """Return a case that is seen from outside."""
    return Case(id=number, tries=tries, must=must, judge=judge, **more)


def test(number: str, tries: str, must: str, where: str) -> Case:
    """Return a case that has a test of its own."""
    return Case(id=number, tries=tries, must=must, test=where)


def later(number: str, tries: str, waits: str, lane: str = "L") -> Case:
    """Return a case that cannot be tried yet."""
    return Case(id=number, tries=tries, must="", waits=waits, lane=lane)


ROOTFS = "tests/jail/test_rootfs.py::"
EMPEROR = "tests/emperor/test_emperor.py::"
HERE = "tests/escape/"
SECRETS = ("/etc/shadow", "/etc/gshadow", "{secret}", "/proc/{emperor}/environ")

ENTRY = (
    py("A1", "overwrite the programs that run, through /proc/PID/exe", "refused", judge=refused("ETXTBSY")),
    look("A2", "descriptors of the application, seen from the host", "sockets, pipes and no file", outside.descriptors),
    c("A2-exec", "descriptors of a program that the application executes with all it has", "the link to the Emperor", "descriptors", judge=judges.the_link_only),
    test("A2-foreign", "descriptors of a foreign program", "the documented ones", EMPEROR + "test_only_standard_and_documented_descriptors_reach_a_vassal"),
    py("A3", "directories among the descriptors, and ways through them", "none", judge=equals([[], []])),
    py("A4", "the working directory leads outside", "it is the vassal's", judge=judges.own_directory),
    look("A2-enter", "descriptors of a command that enters the jail", "none", outside.enters_with_nothing, needs="verb=enter"),
    look("A5", "open memory, descriptors and environment of who enters, before he is a program of the jail's", "refused", outside.spy_on_newcomers, needs="verb=enter"),
    test("A6", "hostile modules and libraries in the root", "nothing of it is loaded", "tests/instance/test_guard.py::test_a_hostile_module_in_a_jail_is_never_run"),
    test("A7", "be signalled in a dead vassal's place", "its pid stays taken until it is reaped", HERE + "test_control_plane.py::test_a_dead_vassals_pid_is_nobody_elses_until_the_emperor_knows"),
    test("A8", "253 descriptors sent to the control socket", "closed", "tests/emperor/test_control.py::test_descriptors_sent_to_the_control_socket_are_closed"),
    test("A9", "200 lives of a vassal", "no descriptor, mount, group, namespace or process is left", HERE + "test_leaks.py::test_two_hundred_lives_of_a_vassal_leave_nothing"),
    test("A10", "each call of the set-up fails in turn", "one line, nothing left, never half a jail", "tests/jail/test_faults.py::test_a_call_that_fails_is_one_line_and_leaves_nothing"),
)  # fmt: skip

FILES = (
    py("B11", "chroot, descriptors, and up", "refused", judge=judges.refused_word),
    c("B11-up", "the same, looking for the host's files", "nothing of the host's", "chroot-break", *SECRETS, judge=judges.no_secret),
    c("B11-nested", "the same as root of a user namespace below", "nothing of the host's", "chroot-break-nested", *SECRETS, judge=judges.no_secret),
    py("B12", "another root through /proc/PID/root and cwd", "none", judge=judges.no_old_root),
    py("B12-mounts", "what the table of mounts tells about the host", "views that were asked for", judge=judges.only_views),
    py("B13", "make read-only mounts writable, or take them away, nested too", "refused", judge=judges.walls_stay),
    c("B13-api", "the same with mount_setattr and copies of mounts", "refused", "unlock", judge=judges.locked),
    test("B14", "links at the mount points of a customer's root", "refused, host untouched", ROOTFS + "test_a_link_at_a_mount_point_is_refused"),
    test("B15", "a mount point swapped all the time", "never outside", ROOTFS + "test_a_mount_point_that_is_swapped_all_the_time_never_leads_outside"),
    test("B16", "something else at /dev/null", "refused", ROOTFS + "test_a_fake_null_device_is_detected"),
    test("B17", "a root with a /proc of its own", "refused", ROOTFS + "test_a_file_where_proc_should_be_is_refused"),
    look("B18", "a mount of the host appears inside, or the other way", "never", outside.mounts_do_not_travel),
    py("B19", "open the settings of the kernel for writing, nested too", "refused", judge=judges.all_refused_lists),
    c("B19-walk", "the same for every file of /proc and /sys", "none opens", "writable", "/proc", "/sys", judge=nothing),
    py("B20", "read what the kernel tells root only, and its log", "nothing", judge=judges.nothing_is_told),
    c("B20-sys", "look at the host's devices and groups in /sys", "not there", "names", "/sys", "/sys/fs/cgroup", judge=nothing),
    py("B21", "make devices; devices that are there", "refused; the six of /dev", judge=judges.few_devices),
    c("B21-open", "make and open memory, disks, kvm, tun and fuse", "refused", "devices", judge=refused("ENXIO")),
    c("B21-nested", "the same as root of a user namespace below", "refused", "devices", "nested", judge=refused("ENXIO")),
    py("B22", "mounts without nosuid and nodev", "none but single devices", judge=judges.mount_flags),
    py("B22-run", "run a set-user-id program of root's in a shared directory", "no gain", "{sockets}/setuid", judge=judges.no_gain, only=()),
    look("B23", "a directory handed over by another jail through a shared socket", "it cannot be read through", outside.directory_exchange, only=("landlock",)),
    py("B24", "open the host's root by a file handle", "refused", judge=judges.refused_word),
    c("B24-nested", "the same, also as root of a user namespace below", "refused", "handles", judge=refused("EOPNOTSUPP", "ESTALE", "EINVAL", "EOVERFLOW")),
    py("B25", "old and new calls that mount", "refused", judge=refused()),
    c("B25-all", "all of them, as the user that we are", "refused", "mounts", judge=refused("ENOSYS")),
    c("B25-nested", "all of them as root of a user namespace below", "refused", "mounts-nested", judge=refused("ENOSYS", "ENOSPC", "SIGSYS"), needs="seccomp"),
    c("B26-tmp", "fill /tmp with files, then with bytes", "an end to both", "fill", "/tmp", judge=judges.full),
    c("B26-shm", "fill /dev/shm", "an end to both", "fill", "/dev/shm", judge=judges.full),
    later("B27", "quotas of bytes and inodes on disk", "disk quotas"),
    c("B28", "attributes that overlays and file capabilities trust", "refused", "attributes", "/tmp", judge=refused("EOPNOTSUPP")),
    py("B29", "read files of the host and of neighbours", "not there", *SECRETS, judge=judges.not_there),
)  # fmt: skip

RESOURCES = (
    py("C30", "mount control groups and write release_agent, nested too", "no writable file", judge=judges.cgroups_hold),
    look("C31", "raise the own limits, leave the own group", "limits and group are as configured", outside.limits_hold, lane="V"),
    test("C32", "name a control group outside in a customer's file", "refused by name", HERE + "test_control_plane.py::test_an_operators_key_in_a_customers_file_is_refused_by_name"),
    later("C33", "a bomb of control groups below one's own", "delegated groups"),
    c("C34", "a fork bomb", "an end, and everybody else goes on", "fork-bomb", judge=judges.bomb_ends),
    c("C35", "take all memory", "this process is killed, nobody else", "hog", "1024", judge=judges.hog_dies),
    test("C36", "a processor hog among weighted neighbours", "the shares hold", "tests/spec/test_quality_of_service.py::test_spt01_four_customers_share_a_processor_as_125_125_250_500"),
    test("C37", "a disk hog", "no faster than its plan says", "tests/emperor/test_limits_v2.py::test_a_disk_is_read_as_fast_as_the_plan_says"),
    test("C38", "daemons, twins, ignored and stopped processes that outlive the stop", "none does", HERE + "test_endings.py::test_what_clings_to_life_ends_with_its_vassal"),
    test("C39", "stop while frozen, during the start, during an OOM", "it ends", HERE + "test_endings.py::test_a_vassal_ends_whatever_it_is_doing"),
    py("C40", "more priority, files and mercy of the OOM killer", "refused", judge=refused("EINVAL")),
    c("C40-all", "deadlines, disk priority and every limit", "refused", "priorities", judge=refused("EINVAL", "unlimited")),
    look("C41", "a process of the jail in another control group", "none", outside.all_in_the_group),
    c("C42", "a storm of orphans", "reaped", "zombies", "2000", judge=judges.no_zombies),
)  # fmt: skip

CALLS = (
    c("D43", "new namespaces by unshare and clone3", "refused", "namespaces", judge=refused("ENOSYS", "ENOSPC", "EUSERS", "SIGSYS"), needs="seccomp"),
    c("D43-user", "the same in a jail with a user namespace, without a filter", "refused", "namespaces", judge=refused("ENOSYS", "ENOSPC", "EUSERS", "SIGSYS"), only=("user",)),
    py("D44", "join the namespaces of the first process", "refused", judge=refused("EINVAL")),
    c("D44-pidfd", "the same by pidfd, and steal its descriptors", "refused", "join", judge=refused("ESRCH", "EINVAL"), peers=False),
    py("D45", "capabilities that are there, and gaining some", "none", judge=judges.no_capability),
    c("D45-exec", "capabilities of an executed program", "none", "ids", judge=judges.no_capability_text),
    c("D45-gain", "capset, ambient sets, securebits, groups, no_new_privs off", "refused", "gain", judge=refused("EINVAL")),
    py("D46", "groups that are there, and gaining some", "the one asked for", judge=judges.no_groups),
    test("D47", "overlapping ranges of ids of two jails", "there are none", "tests/jail/test_idledger.py::test_processes_that_ask_at_once_get_different_ranges"),
    look("D48", "a process of the jail without no_new_privs", "none", outside.all_without_privileges),
    look("D48-enter", "who enters has more than the vassal", "the same", outside.enters_as_the_vassal, needs="verb=enter"),
    look("D48-filter", "a process of the jail without a system call filter", "none", outside.all_filtered, needs="seccomp"),
    py("D49", "calls that change the machine", "refused", judge=refused("ENOSYS")),
    c("D49-root", "twenty calls for root: clock, modules, raw sockets, quotas ...", "refused", "privileged", judge=refused("ENOSYS", "SIGSYS", "EOPNOTSUPP", "EAFNOSUPPORT")),
    c("D49-filter", "keys, io_uring, bpf, perf, userfaultfd, ptrace, unshare, mount", "refused", "filtered", judge=refused("ENOSYS", "SIGSYS"), needs="seccomp"),
    c("D49-foreign", "calls of x32 and i386 that a filter could miss", "refused", "foreign-calls", judge=refused("ENOSYS", "SIGSYS", "SIGSEGV", "EBADF"), needs="seccomp"),  # User-Mode Linux takes int 0x80 for a call of x86-64, and filters that
    py("D49-ptrace", "reach into the master, which has the same uid", "refused", judge=refused(), peers=False),
    py("D50", "signal processes of the host", "not there", "{emperor}", "{neighbour}", "{master}", judge=judges.only("ESRCH")),
    c("D50-pidfd", "the same by pidfd", "not there", "signals", "{emperor}", "{neighbour}", "{master}", judge=judges.only("ESRCH", "EINVAL")),
    look("D50-init", "SIGSTOP and SIGKILL to the first process of the jail", "nothing happens", outside.init_is_safe),
    look("D50-all", "kill(-1, SIGKILL)", "only the jail's own; it serves again", outside.kill_everybody),
    py("D50-seen", "processes that can be named", "the jail's own", judge=judges.few_processes),
    look("D51", "namespaces shared with host or neighbour", "none of those asked for", outside.separate_namespaces),
    look("D51-ipc", "shared memory, queues and /dev/shm of a neighbour", "not there", outside.ipc_is_private),
    look("D52", "a key of a neighbour with the same uid", "not there", outside.keys_are_private, needs="seccomp"),
    py("D53", "the host's name", "refused", judge=judges.refused_word),
    py("D54", "dump core through the host's core_pattern", "no core at all", judge=equals([1, 1])),
)  # fmt: skip

OTHERS = (
    c("E55", "type into a terminal by TIOCSTI and TIOCLINUX, with high bits too", "refused", "terminal", judge=refused("ENOTTY", "SIGSYS", "ENOSYS"), needs="seccomp"),
    look("F70-abstract", "connect to an abstract socket of the host's", "refused", outside.abstract_sockets, but=("shared-net",)),
    test("G78", "lies and floods on the Emperor protocol", "hurt the liar only", "tests/attack/test_floods.py::test_a_vassal_that_shouts_at_the_emperor_hurts_itself_only"),
    later("G79", "forged messages to a notification socket", "a notification socket for vassals"),
    test("G80", "vassal files that are links, fifos, devices, huge", "refused with the reason", "tests/emperor/test_reading.py::test_fifos_devices_and_huge_files_are_refused_at_once"),
    test("G81", "files of root's, or that others can write, under a tyrant", "refused", "tests/emperor/test_births.py::test_a_tyrant_refuses_files_that_others_can_write"),
    test("G82", "an operator's key in a customer's file, each of them", "refused by name", HERE + "test_control_plane.py::test_an_operators_key_in_a_customers_file_is_refused_by_name"),
    test("G83", "a crash loop", "others do not wait", EMPEROR + "test_a_bad_vassal_is_throttled_and_delays_nobody"),
    test("G84", "floods and forgeries of log lines", "bounded, cleaned", "tests/attack/test_floods.py::test_a_flood_of_output_costs_little_and_stays_within_bounds"),
    test("G85", "the Emperor is killed", "no orphan", EMPEROR + "test_a_killed_emperor_takes_everything_with_it"),
    test("G86", "the spawner's socket in a vassal's hands", "it never is", EMPEROR + "test_only_standard_and_documented_descriptors_reach_a_vassal"),
    test("G87", "pages merged across customers", "only of whom the operator named", "tests/spec/test_ksm_pages.py::test_an_emperor_lets_only_those_share_whom_the_operator_named"),
    c("G88", "statistics, control and neighbours' private sockets", "not there", "connect", "{stats}", "{control}", judge=refused()),
    later("G89", "hostile OCI bundles", "the OCI front end"),
    later("G90", "two hosts claim one vassal", "the fleet"),
)  # fmt: skip

CASES = (*ENTRY, *FILES, *RESOURCES, *CALLS, *OTHERS)
