"""Limits, order of killing, input and output, keyring, securebits, AppArmor: what a jail stands with."""

import ctypes
import errno
import os
import resource
import subprocess
from pathlib import Path

import pytest
from jailer import FIVE, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import apparmor, capabilities, plan, standing
from donjon.jail.seccomp_profile import Profile
from donjon.jail.spec import JailSpec, ResourceLimit
from donjon.origin import Origin

pytestmark = pytest.mark.root
LINE = Origin("/etc/v/a.ini", 5, "rlimit-x")
USER = {"uid": "20001", "jailed": True}


def limit(kind, soft, hard):
    return ResourceLimit(kind, soft, hard, LINE)


def test_limits_are_set_with_roots_rights_before_the_drop(jail):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (
        limit(resource.RLIMIT_NOFILE, 100, hard),
        limit(resource.RLIMIT_CPU, 3600, 7200),
        limit(resource.RLIMIT_STACK, None, None),
    )
    kinds = [one.kind for one in limits]
    seen = jail(JailSpec(rlimits=limits, **USER), lambda: [resource.getrlimit(k) for k in kinds])
    assert seen == [(100, hard), (3600, 7200), (resource.RLIM_INFINITY,) * 2]


def test_a_limit_that_root_cannot_have_ends_the_start(jail):
    told = jail.tell(JailSpec(rlimits=(limit(resource.RLIMIT_NOFILE, 1, 1 << 40),), **USER))
    assert told.error == (
        "/etc/v/a.ini:5: rlimit-x: cannot limit nofile to 1, and 1099511627776 if asked for: "
        "not allowed to raise maximum limit"
    )


def test_cores_are_dumped_where_the_operator_says_so(jail):
    look = lambda: resource.getrlimit(resource.RLIMIT_CORE)  # noqa: E731
    assert jail(JailSpec(**USER), look) == (1, 1)
    own = (limit(resource.RLIMIT_CORE, 0, 4096),)
    assert jail(JailSpec(rlimits=own, **USER), look) == (0, 4096)


@pytest.mark.parametrize("score", [-500, 0, 1000])
def test_the_order_of_killing_is_the_operators(jail, score):
    if score < 0 and not syscalls.capget()[0] >> syscalls.CAP_SYS_RESOURCE & 1:
        pytest.skip("needs CAP_SYS_RESOURCE")
    spec = JailSpec(oom_score_adj=score, rootfs="host", uid="20001")
    seen = jail(spec, lambda: int(Path("/proc/self/oom_score_adj").read_text()), born_in=FIVE)
    assert seen == score


def test_a_jailed_process_does_not_spare_itself(jail):
    """Case 40: neither the OOM score, nor the order of processor, disk and memory is its own."""

    def tried(attempt):
        try:
            attempt()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"

    def look():
        return [
            tried(lambda: Path("/proc/self/oom_score_adj").write_text("-1")),
            tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
            tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
            tried(lambda: syscalls.ioprio_set(1, 0, 1 << 13)),
        ]

    assert set(jail(JailSpec(oom_score_adj=100, **USER), look)) <= {"EACCES", "EPERM"}


@pytest.mark.parametrize(
    ("given", "seen"), [((1, 3), 1 << 13 | 3), ((2, 6), 2 << 13 | 6), ((3, 0), 3 << 13)]
)
def test_input_and_output_have_a_class(jail, given, seen):
    assert jail(JailSpec(io_priority=given, **USER), lambda: syscalls.ioprio_get(1, 0)) == seen


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of keyctl(2)")
def test_a_jail_has_a_session_keyring_of_its_own(jail):
    """Case 52; a filter refuses keyctl altogether, so it is off here to look."""

    def keyring():
        libc = ctypes.CDLL(None)
        return libc.syscall(250, 0, -3, 0)  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING

    syscalls.join_session_keyring()  # what a login gives whoever starts an Emperor
    ours = keyring()
    spec = JailSpec(seccomp=Profile("off"), **USER)
    assert jail(spec, keyring) not in (ours, -1)
    kept = JailSpec(seccomp=Profile("off"), keep_keyring=True, **USER)
    assert jail(kept, keyring) == ours


# -- securebits -------------------------------------------------------------------------------------


def bits():
    return syscalls.prctl(syscalls.PR_GET_SECUREBITS)


def test_a_jail_locks_what_uid_0_and_programs_could_gain(jail):
    assert jail(JailSpec(**USER), bits) == capabilities.JAIL_LOCKS
    assert jail(JailSpec(jailed=True), bits) == capabilities.JAIL_LOCKS
    assert jail(JailSpec(uid="20001"), bits) == 0


def test_locks_leave_the_capabilities_that_were_asked_for(jail):
    cap = frozenset({10})

    def look():
        text = subprocess.run(
            ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
        )
        return bits(), status_of("CapEff"), text.stdout.partition("CapEff:\t")[2][:16]

    mask = f"{1 << 10:016x}"
    assert jail(JailSpec(cap=cap, **USER), look) == (capabilities.JAIL_LOCKS, mask, mask)


def test_nothing_more_can_be_raised_after_the_locks(jail):
    def look():
        try:
            syscalls.cap_ambient_raise(10)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "raised"

    spec = JailSpec(cap=frozenset({10}), **USER)
    assert jail(spec, lambda: (syscalls.cap_ambient_lower(10), look())[1]) == "EPERM"


def test_locks_are_chosen_or_left_out(jail):
    assert jail(JailSpec(securebits=0, **USER), bits) == 0
    chosen = capabilities.parse_locks("noroot no-setuid-fixup")
    assert jail(JailSpec(securebits=chosen, **USER), bits) == chosen


def test_an_emperor_and_root_with_emperor_cap_have_no_locks(jail):
    assert jail(JailSpec(jailed=True, keep_root=True), bits) == 0
    assert jail(JailSpec(jailed=True, emperor_cap=frozenset({10})), bits) == 0


def test_locks_in_a_user_namespace(jail):
    spec = JailSpec(uid="20001", rootfs="host")
    assert jail(spec, bits, born_in=FIVE | {"user"}) == capabilities.JAIL_LOCKS


# -- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", (10, 10)),
        ("10:20", (10, 20)),
        ("1k:1G", (1024, 1 << 30)),
        ("unlimited", (None, None)),
        ("5:infinity", (5, None)),
    ],
)
def test_a_limit_is_soft_and_hard(text, value):
    assert standing.parse_limit(text) == value


@pytest.mark.parametrize("text", ["", "x", "20:10", "unlimited:5", "-1", "1:2:3", "1e3", "9" * 30])
def test_a_limit_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"no limit|above the hard|too large"):
        standing.parse_limit(text)


@pytest.mark.parametrize(
    ("text", "value"), [("idle", (3, 0)), ("best-effort", (2, 4)), ("realtime:0", (1, 0))]
)
def test_a_class_of_input_and_output_has_a_level(text, value):
    assert standing.parse_io(text) == value


@pytest.mark.parametrize("text", ["", "fast", "idle:3", "best-effort:8", "best-effort:x"])
def test_a_class_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"none of|level"):
        standing.parse_io(text)


@pytest.mark.parametrize("text", ["root", "noroot,fly", "off noroot"])
def test_a_securebit_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="is none of noroot"):
        capabilities.parse_locks(text)


def test_every_limit_of_setrlimit_has_an_option():
    assert set(standing.LIMITS.values()) == {
        getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
    }


# -- AppArmor ---------------------------------------------------------------------------------------


@pytest.mark.skipif(apparmor.is_enabled(), reason="this kernel has AppArmor")
def test_aar_01_without_apparmor_a_profile_is_refused_in_one_line():
    spec = JailSpec(apparmor_profile="vassal", origins={"apparmor_profile": LINE}, **USER)
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True)
    assert str(caught.value) == (
        "/etc/v/a.ini:5: rlimit-x: apparmor-profile vassal cannot be taken on: this kernel has no "
        "AppArmor, or it is switched off (remove the line; seccomp and landlock need no such thing)"
    )
