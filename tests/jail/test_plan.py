"""Plans: their order, what they refuse, what they say. No jail is made here."""

import json
import os
import pickle
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import JailError
from donjon.jail import capabilities, plan
from donjon.jail.phase import ORDER, Phase
from donjon.jail.spec import Bind, CgroupOption, CgroupPath, Exec, JailSpec, Tmpfs, WaitFor
from donjon.jail.step import Builtin
from donjon.origin import Origin

LINE = Origin("/etc/vassals/a.ini", 7, "uid")


class Named(Builtin):
    def describe(self):
        return "a hook"

    def execute(self, context):
        raise AssertionError


def names(made):
    return [type(step).__name__ for step in made.steps]


def test_an_empty_spec_needs_no_step():
    assert plan.build(JailSpec(), root=True).steps == ()


def test_the_privilege_phase_has_the_order_of_the_original():
    spec = JailSpec(
        unshare=frozenset({"pid", "fs"}),
        unshare2=frozenset({"net"}),
        refork=True,
        refork_as_root=True,
        refork_post_jail=True,
        pivot_root=("/ns", "/ns/old"),
        wait_for=(WaitFor("file", "/x"), WaitFor("interface", "lo"), WaitFor("socket", "/s")),
        uid="65534",
        limit_as=1 << 30,
        unprivileged_exec=Exec("/bin/true"),
    )
    hooks = [Named(phase=phase) for phase in (Phase.AS_USER, Phase.POST_JAIL, Phase.AS_ROOT)]
    assert names(plan.build(spec, hooks, root=True)) == [
        "Unshare",
        "MakePrivate",
        "Named",
        "Refork",
        "PivotRoot",
        "Unshare",
        "Refork",
        "Gate",
        "Gate",
        "Named",
        "NoCoreDumps",
        "NewKeyring",
        "BeforeDrop",
        "Become",
        "Hold",
        "NoNewPrivileges",
        "FilterCalls",
        "Refork",
        "Named",
        "Execute",
        "Gate",
        "Limit",
    ]


def test_hooks_of_one_phase_keep_their_order():
    hooks = [Named(phase=Phase.PRE_JAIL, origin=Origin("a", line)) for line in (3, 1, 2)]
    made = plan.build(JailSpec(), hooks, root=True)
    assert [step.origin.line for step in made.steps] == [3, 1, 2]


def test_post_jail_hooks_run_only_in_a_jail():
    hook = Named(phase=Phase.POST_JAIL)
    assert plan.build(JailSpec(), [hook], root=True).steps == ()
    assert hook in plan.build(JailSpec(jailed=True), [hook], root=True).steps
    assert hook in plan.build(JailSpec(unshare=frozenset({"uts"})), [hook], root=True).steps


def test_without_root_the_privileged_hooks_are_left_out():
    hooks = [Named(phase=phase) for phase in (Phase.AS_ROOT, Phase.PRE_JAIL, Phase.AS_USER)]
    made = plan.build(JailSpec(), hooks, root=False)
    assert [step.phase for step in made.steps] == [Phase.PRE_JAIL]


def test_a_reload_runs_only_the_phases_that_run_again():
    hooks = [Named(phase=phase) for phase in (Phase.IN_JAIL, Phase.AS_USER, Phase.ASAP)]
    made = plan.build(JailSpec(uid="nobody", chroot="/x"), hooks, root=False, reload=True)
    assert [step.phase for step in made.steps] == [Phase.ASAP, Phase.IN_JAIL]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (JailSpec(rootfs="host"), {"fs"}),
        (JailSpec(binds=(Bind("/usr", "/mnt"),)), {"fs"}),
        (JailSpec(tmpfs=(Tmpfs("/mnt"),)), {"fs"}),
        (JailSpec(pivot_root=("/a", "/a/b")), {"fs"}),
        (JailSpec(hostname="x"), {"uts"}),
        (JailSpec(chroot="/x", uid="1"), set()),
    ],
)
def test_what_would_change_the_host_implies_a_namespace(spec, words):
    assert plan.implied_words(spec) == words


def test_an_implied_namespace_is_entered_unless_the_process_was_born_in_it():
    spec = JailSpec(hostname="x")
    assert names(plan.build(spec, root=True))[0] == "Unshare"
    assert "Unshare" not in names(plan.build(spec, born_in=frozenset({"uts"}), root=True))


def test_spellings_of_the_mount_namespace_are_one():
    assert plan.clone_flags(["ns", "fs", "mount", "mnt"]) == plan.clone_flags(["fs"])


BAD = [
    (JailSpec(uid="nobody-here"), "unknown user 'nobody-here'"),
    (JailSpec(gid="nogroup-here"), "unknown group 'nogroup-here'"),
    (JailSpec(uid="4294967295"), "unknown user '4294967295'"),
    (JailSpec(unshare=frozenset({"moon"})), "unknown namespace 'moon'"),
    (JailSpec(unshare2=frozenset({"moon"})), "unknown namespace 'moon'"),
    (JailSpec(rootfs="/no/such"), "rootfs /no/such is not a directory"),
    (JailSpec(rootfs="srv"), "neither host, overlay:LOWER"),
    (JailSpec(rootfs="/"), "rootfs cannot be the host's root"),
    (JailSpec(rootfs="host", chroot="/x"), "rootfs and chroot cannot both be the root"),
    (JailSpec(binds=(Bind("/no/such", "/mnt"),)), "bind source /no/such does not exist"),
    (JailSpec(binds=(Bind("usr", "/mnt"),)), "needs absolute paths"),
    (JailSpec(tmpfs=(Tmpfs("mnt"),)), "needs an absolute path"),
    (JailSpec(pivot_root=("/ns", "/old")), "must be the absolute path of a directory under"),
    (JailSpec(hostname="x" * 65), "is not a host name"),
    (JailSpec(cap=frozenset({63})), "capability 63 cannot be kept"),
    (JailSpec(cgroup_options=(CgroupOption("../x", "1"),)), "is not KEY=VALUE"),
    (JailSpec(cgroup_options=(CgroupOption("cpu.shares", "much"),)), "needs a number"),
    (JailSpec(cgroups=(CgroupPath("/tmp"),)), "/tmp is in no cgroup hierarchy"),
    (JailSpec(cgroups=(CgroupPath("/sys/fs/cgroup/../x"),)), "without .."),
    (
        JailSpec(rootfs="host", emperor_cap=frozenset({1})),
        "emperor-cap does not grant it to vassals",
    ),
    (JailSpec(uid="0", unshare=frozenset({"user"})), "cannot be the host's root"),
]


@pytest.mark.parametrize(("spec", "words"), BAD, ids=[words for _, words in BAD])
def test_what_cannot_work_is_refused_before_anything_is_made(spec, words):
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_says_which_line_asked():
    with pytest.raises(JailError) as caught:
        plan.build(JailSpec(uid="who", origins={"uid": LINE}), root=True)
    assert str(caught.value).startswith("/etc/vassals/a.ini:7: uid: unknown user 'who'")


@pytest.mark.parametrize("field", ["chroot", "rootfs", "namespace", "hostname"])
def test_only_root_may_ask_for_walls(field):
    with pytest.raises(JailError, match=f"{field} needs root"):
        plan.build(JailSpec(**{field: "/srv"}), root=False)


def test_another_uid_without_root_is_refused_and_the_own_one_accepted():
    with pytest.raises(JailError, match="only root may"):
        plan.build(JailSpec(uid=str(os.geteuid() + 1)), root=False)
    assert plan.build(JailSpec(uid=str(os.geteuid())), root=False).steps == ()


def test_a_missing_bind_source_may_appear_when_a_hook_runs_before():
    hook = Named(phase=Phase.PRE_JAIL)
    spec = JailSpec(binds=(Bind("/no/such", "/mnt"),))
    assert hook in plan.build(spec, [hook], root=True).steps


def test_a_jail_is_safe_by_default():
    made = plan.build(JailSpec(uid="65534", rootfs="host"), root=True)
    assert {"NoNewPrivileges", "Hold", "BeforeDrop"} <= set(names(made))


def test_no_new_privs_can_be_switched_off_and_on():
    off = JailSpec(uid="65534", rootfs="host", no_new_privs=False)
    assert "NoNewPrivileges" not in names(plan.build(off, root=True))
    assert names(plan.build(JailSpec(no_new_privs=True), root=False)) == ["NoNewPrivileges"]


def test_an_emperor_inside_a_jail_keeps_what_its_vassals_need():
    spec = JailSpec(jailed=True, keep_root=True)
    made = plan.build(spec, root=True)
    assert names(made) == ["NewKeyring", "FilterCalls"]
    assert made.steps[-1].describe() == "filter system calls: emperor"


def test_a_plan_tells_the_phase_the_deed_and_who_asked():
    made = plan.build(JailSpec(uid="65534", origins={"uid": LINE}), root=True)
    line, caps = made.describe()
    assert caps.startswith("drop: keep no capability")
    assert line.startswith("drop: become groups ")
    assert line.endswith("gid 65534, uid 65534 [/etc/vassals/a.ini:7: uid]")
    value = json.loads(json.dumps(made.to_json()))[0]
    assert value["phase"] == "drop"
    assert value["origin"] == {"source": "/etc/vassals/a.ini", "line": 7, "option": "uid"}


WORDS = st.frozensets(st.sampled_from(["fs", "ipc", "pid", "uts", "net"]))
SPECS = st.builds(
    JailSpec,
    unshare=WORDS,
    unshare2=WORDS,
    uid=st.sampled_from([None, "nobody", "12345"]),
    gid=st.sampled_from([None, "nogroup", "12345"]),
    rootfs=st.sampled_from([None, "host"]),
    hostname=st.none() | st.text(string.ascii_letters, min_size=1, max_size=20),
    tmpfs=st.lists(st.just(Tmpfs("/mnt")), max_size=2).map(tuple),
    binds=st.lists(st.just(Bind("/usr", "/mnt")), max_size=2).map(tuple),
    cap=st.none() | st.frozensets(st.sampled_from([0, 10, 13]), min_size=1),
    refork=st.booleans(),
    refork_as_root=st.booleans(),
    refork_post_jail=st.booleans(),
    no_new_privs=st.sampled_from([None, True, False]),
    wait_for=st.lists(
        st.builds(WaitFor, st.sampled_from(["fs", "interface", "socket"]), st.just("lo")),
        max_size=3,
    ).map(tuple),
)
HOOKS = st.lists(st.sampled_from(list(Phase)).map(lambda phase: Named(phase=phase)), max_size=6)


@settings(deadline=None, max_examples=150)
@given(spec=SPECS, hooks=HOOKS, born_in=WORDS)
def test_every_plan_is_ordered_picklable_and_drops_after_it_mounts(spec, hooks, born_in):
    if capabilities.lacking(spec.cap or ()):
        return
    made = plan.build(spec, hooks, born_in=born_in, root=True)
    places = [ORDER[step.phase] for step in made.steps]
    assert places == sorted(places)
    assert all(step.describe() for step in made.steps)
    assert pickle.loads(pickle.dumps(made)).steps == made.steps
    order = names(made)
    if "Become" in order:
        after = order[order.index("Become") :]
        assert not {"Unshare", "BindMount", "EnterRoot", "BeforeDrop"} & set(after)


def test_a_zygote_can_look_at_the_host_beforehand():
    plan.warm()
    plan.warm()
