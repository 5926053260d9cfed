"""Who a jail's processes are and what they may: ids, groups, capability sets, no_new_privs."""

import os
import signal
import subprocess

import pytest
from jailer import FIVE, Note, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import capabilities, plan, users
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec
from donjon.origin import Origin

pytestmark = pytest.mark.root
NET_BIND = frozenset({10, 25})
BITS = f"{(1 << 10) | (1 << 25):016x}"
NONE = "0" * 16
SETS = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")


def sets():
    return [status_of(name) for name in SETS]


def sets_of_a_program():
    text = subprocess.run(
        ["/bin/cat", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return [fields[name] for name in SETS]


def test_ids_and_groups_are_all_changed(jail):
    spec = JailSpec(uid="20001", gid="20002", add_gids=("20003",))
    seen = jail(spec, lambda: (os.getresuid(), os.getresgid(), os.getgroups()))
    assert seen == ((20001,) * 3, (20002,) * 3, [20003])


def test_a_uid_without_gid_never_keeps_roots_groups(jail):
    assert jail(JailSpec(uid="20001"), lambda: (os.getgid(), os.getgroups())) == (20001, [])
    name, group, groups = "nobody", 65534, [65534]
    assert jail(JailSpec(uid=name), lambda: (os.getgid(), os.getgroups())) == (group, groups)


def test_names_win_over_numbers(monkeypatch):
    entry = users.pwd.getpwnam("nobody")
    monkeypatch.setattr(users.pwd, "getpwnam", lambda text: entry)
    assert users.find_user("7")[0] == 65534


def test_the_parent_death_signal_outlives_the_change_of_uid(jail):
    spec = JailSpec(uid="20001")
    hook = Note(Phase.ASAP, lambda context: syscalls.set_pdeathsig(signal.SIGKILL))
    seen = jail(spec, lambda: syscalls.prctl(syscalls.PR_GET_PDEATHSIG), hooks=[hook])
    assert seen == signal.SIGKILL


def test_without_cap_a_jailed_user_has_nothing_now_and_ever(jail):
    spec = JailSpec(uid="20001", jailed=True)
    assert jail(spec, sets) == [NONE] * 5
    assert jail(JailSpec(jailed=True), sets) == [NONE] * 5  # also who stays uid 0
    assert jail(JailSpec(jailed=True), sets_of_a_program) == [NONE] * 5


def test_capabilities_are_kept_in_the_process_and_in_its_programs(jail):
    cap = frozenset({10, 13})
    bits = f"{capabilities.mask(cap):016x}"
    spec = JailSpec(uid="20001", cap=cap, jailed=True)
    assert jail(spec, sets) == [bits] * 5
    assert jail(spec, sets_of_a_program) == [bits] * 5


def test_where_programs_may_gain_privileges_the_bounding_set_stays_but_for_root(jail):
    bounding = status_of("CapBnd")
    user = JailSpec(rootfs="host", uid="20001", no_new_privs=False)
    root = JailSpec(rootfs="host", no_new_privs=False)
    assert jail(user, sets, born_in=FIVE) == [NONE, NONE, NONE, bounding, NONE]
    assert jail(root, sets, born_in=FIVE) == [NONE] * 5


def test_cap_without_a_jail_leaves_the_bounding_set_alone(jail):
    bounding = status_of("CapBnd")
    cap = frozenset({10})
    seen = jail(JailSpec(uid="20001", cap=cap), sets)
    assert seen == [f"{1 << 10:016x}"] * 3 + [bounding, f"{1 << 10:016x}"]


def test_a_uid_alone_loses_capabilities_as_the_kernel_has_it(jail):
    seen = jail(JailSpec(uid="20001"), sets)
    assert seen[:3] == [NONE] * 3


def test_emperor_cap_bounds_a_vassal_that_stays_root(jail):
    spec = JailSpec(emperor_cap=frozenset({7, 10}))
    setpcap = frozenset({7, 8, 10})
    bits = f"{capabilities.mask(setpcap):016x}"
    assert jail(spec, sets, born_in=frozenset({"uts"}))[0] == f"{capabilities.mask({7, 10}):016x}"
    seen = jail(spec, sets)
    assert seen[0] == seen[1] == seen[3] == bits


def test_a_jailed_process_never_gains_privileges(jail):
    assert jail(JailSpec(uid="20001", jailed=True), lambda: status_of("NoNewPrivs")) == "1"
    assert jail(JailSpec(uid="20001"), lambda: status_of("NoNewPrivs")) == "0"


def test_hooks_as_user_run_without_privileges(jail):
    seen = []
    hook = Note(Phase.AS_USER, lambda context: seen.append((os.getuid(), status_of("NoNewPrivs"))))
    spec = JailSpec(uid="20001", rootfs="host")
    assert jail(spec, lambda: seen, hooks=[hook], born_in=FIVE) == [(20001, "1")]


def test_hooks_as_root_are_the_last_with_privileges(jail):
    seen = []
    hook = Note(Phase.AS_ROOT, lambda context: seen.append((os.getuid(), status_of("CapEff"))))
    [(uid, effective)] = jail(JailSpec(uid="20001", jailed=True), lambda: seen, hooks=[hook])
    assert uid == 0
    assert int(effective, 16) >> 21 & 1


def test_cap_beyond_emperor_cap_is_refused_before_the_start():
    line = Origin("/etc/v/a.ini", 3, "cap")
    spec = JailSpec(uid="20001", cap=NET_BIND, emperor_cap=frozenset({10}), origins={"cap": line})
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True)
    assert str(caught.value) == (
        "/etc/v/a.ini:3: cap: capability sys_time cannot be kept: "
        "emperor-cap does not grant it to vassals"
    )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("net_bind_service", {10}),
        ("CAP_NET_BIND_SERVICE, 13", {10, 13}),
        ("cap_chown", {0}),
        ("42", {42}),
    ],
)
def test_capabilities_are_named_or_counted(text, numbers):
    assert capabilities.parse(text) == numbers


@pytest.mark.parametrize("text", ["fly", "64", "", ",", "-1"])
def test_an_unknown_capability_is_refused(text):
    with pytest.raises(JailError):
        capabilities.parse(text)


def test_names_of_capabilities_are_for_people():
    assert capabilities.names({10, 0, 63}) == "chown net_bind_service 63"
    assert capabilities.names(()) == "none"
