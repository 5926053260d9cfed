"""User namespaces with a range of ids, and time and cgroup namespaces."""

import os
import time
from pathlib import Path

import pytest
from jailer import FIVE, Note, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import idmap, namespaces, plan, userns
from donjon.jail.idmap import IdRange
from donjon.jail.phase import Phase
from donjon.jail.spec import CgroupPath, JailSpec
from donjon.origin import Origin

pytestmark = [pytest.mark.root, pytest.mark.userns, pytest.mark.usefixtures("host_unchanged")]

BASE = 1 << 30
RANGE = idmap.of_range(BASE, 65536)
USER = frozenset({"user"})


def ranged(**more):
    """A jail with 65536 ids from BASE on."""
    more.setdefault("id_map", RANGE)
    return JailSpec(id_range=IdRange(name="test"), **more)


def me():
    return os.getresuid(), os.getresgid(), os.getgroups()


def test_uid_and_gid_mean_ids_inside_the_namespace(jail, tmp_path):
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)

    def look():
        Path(tmp_path / "made").write_text("")
        return me()

    spec = ranged(uid="33", gid="44", add_gids=("55",))
    for born_in in (FIVE | USER, FIVE):
        assert jail(spec, look, born_in=born_in) == ((33,) * 3, (44,) * 3, [55])
        made = os.stat(tmp_path / "made")
        assert (made.st_uid, made.st_gid) == (BASE + 33, BASE + 44)
        os.unlink(tmp_path / "made")


def test_nsp_07_the_whole_range_exists_inside_and_nothing_else(jail):
    def look():
        return [Path(f"/proc/self/{name}").read_text().split() for name in ("uid_map", "gid_map")]

    assert jail(ranged(), look, born_in=USER) == [["0", str(BASE), "65536"]] * 2


def test_the_owner_of_a_customers_files_owns_them_inside(jail, tmp_path):
    (tmp_path / "his").write_text("")
    os.chown(tmp_path / "his", 20001, 20001)
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    owned = idmap.of_range(BASE, 65536, owner=(20001, 20001))

    def look():
        info = os.stat(tmp_path / "his")
        return me()[0], (info.st_uid, info.st_gid), os.access(tmp_path / "his", os.W_OK)

    spec = ranged(uid="20001", id_map=owned)
    assert jail(spec, look, born_in=USER) == ((20001,) * 3, (20001, 20001), True)


def test_an_application_of_a_range_has_no_capability_and_cannot_go_back(jail):
    def look():
        try:
            os.setresuid(0, 0, 0)
        except OSError as error:
            return (
                error.strerror,
                status_of("CapEff"),
                status_of("CapBnd"),
                status_of("NoNewPrivs"),
            )
        return None

    found = jail(ranged(uid="33"), look, born_in=FIVE | USER)
    assert found == ("Operation not permitted", "0" * 16, "0" * 16, "1")


def test_capabilities_of_a_range_are_of_the_namespace_only(jail):
    def look():
        os.chown("/proc/self/cwd/file", 7, 7) if os.path.exists("file") else None
        return int(status_of("CapEff"), 16), int(status_of("CapAmb"), 16)

    chown = frozenset({syscalls.capability_names["chown"]})
    assert jail(ranged(uid="33", cap=chown), look, born_in=FIVE | USER) == (1, 1)


def test_a_host_root_in_a_range_is_the_users(jail):
    spec = ranged(uid="33", rootfs="host")

    def look():
        Path("/run/mine").write_text("x")
        return os.stat("/run/mine").st_uid, os.stat("/").st_uid

    assert jail(spec, look, born_in=FIVE | USER) == (33, 0)


def test_a_uid_outside_the_range_is_refused_before_anything_is_made():
    spec = ranged(
        uid="5000",
        id_map=idmap.of_range(BASE, 4096),
        origins={"uid": Origin("shop.ini", 3, "uid")},
    )
    with pytest.raises(JailError) as caught:
        plan.build(spec, born_in=USER, root=True)
    assert str(caught.value) == (
        "shop.ini:3: uid: uid 5000 does not exist in the user namespace: "
        "id-range does not have so many ids (id-range-size = 5001 or more)"
    )


def test_a_range_without_root_is_refused():
    with pytest.raises(JailError, match="id_range needs root"):
        plan.build(JailSpec(id_range=IdRange()), root=False)


@pytest.mark.parametrize("call", ["gid_map", "uid_map"])
def test_maps_that_cannot_be_written_end_the_start(jail, call):
    told = jail.tell(ranged(), born_in=frozenset(), inject=(call, 1))
    assert "cannot map uid 1073741824 into the user namespace" in told.error


def test_hosts_root_is_in_no_map():
    with pytest.raises(JailError, match="cannot be the host's root"):
        userns.write_id_map(os.getpid(), idmap.of_range(0, 10))


def clocks():
    return [time.clock_gettime(one) for one in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]


@pytest.mark.parametrize(
    ("spec", "born_in"),
    [
        (JailSpec(time_offsets=(("monotonic", 86400), ("boottime", 7200))), frozenset()),
        (JailSpec(time_offsets=(("monotonic", 86400), ("boottime", 7200))), FIVE),
        (ranged(time_offsets=(("monotonic", 86400), ("boottime", 7200))), frozenset()),
        (ranged(time_offsets=(("monotonic", 86400), ("boottime", 7200)), uid="33"), FIVE | USER),
    ],
)
def test_clocks_of_a_jail_are_ahead_of_the_hosts(jail, spec, born_in):
    before = clocks()
    seen, uptime, same = jail(
        spec,
        lambda: (
            clocks(),
            float(Path("/proc/uptime").read_text().split()[0]),
            os.readlink("/proc/self/ns/time") == os.readlink("/proc/self/ns/time_for_children"),
        ),
        born_in=born_in,
    )
    assert before[0] + 86400 <= seen[0] < before[0] + 86460
    assert before[1] + 7200 <= seen[1] < before[1] + 7260
    assert before[1] + 7199 <= uptime < before[1] + 7260
    assert same
    assert clocks()[0] < before[0] + 60, "the host's is as it was"


def test_a_clock_before_its_zero_is_refused(jail):
    told = jail.tell(
        JailSpec(
            time_offsets=(("monotonic", -(1 << 30)),),
            origins={"time_offsets": Origin("a.ini", 2, "time-offset")},
        )
    )
    assert told.error.startswith("a.ini:2: time-offset: cannot leave the host's namespaces: time;")
    assert told.error.endswith("monotonic -1073741824 s: Numerical result out of range")


def test_unshare_time_puts_the_process_itself_into_it(jail):
    here = os.readlink("/proc/self/ns/time")
    look = lambda: os.readlink("/proc/self/ns/time")  # noqa: E731
    assert jail(JailSpec(unshare=frozenset({"time"})), look) != here
    assert jail(JailSpec(unshare2=frozenset({"time"})), look) != here
    assert jail(JailSpec(), look, born_in=frozenset({"time"})) != here


@pytest.mark.cgroup2
def test_a_cgroup_namespace_begins_in_the_jails_own_group(jail):
    root = "/sys/fs/cgroup"
    if os.path.exists(f"{root}/unified/cgroup.procs"):
        root += "/unified"
    path = f"{root}/donjon-jail-ns-{os.getpid()}"
    spec = JailSpec(
        clone_flags=frozenset({"cgroup", "uts"}), cgroups=(CgroupPath(path),), uid="33"
    )
    born = spec.clone_flags - namespaces.late_words(spec)
    assert born == {"uts"}
    try:
        seen = jail(spec, lambda: Path("/proc/self/cgroup").read_text(), born_in=born)
    finally:
        os.rmdir(path)
    v2 = [line for line in seen.splitlines() if line.startswith("0::")]
    assert v2 == ["0::/"]


def test_the_host_is_not_told_by_hooks_of_a_jail_in_a_time_namespace(jail):
    seen = []
    spec = JailSpec(time_offsets=(("boottime", 3600),))
    hook = Note(Phase.POST_JAIL, lambda context: seen.append(clocks()[1]))
    before = clocks()[1]
    assert jail(spec, lambda: seen, hooks=[hook])[0] >= before + 3600


def test_namespaces_that_are_entered_late_need_what_emperor_cap_took():
    spec = JailSpec(time_offsets=(("boottime", 3600),), emperor_cap=frozenset({7}))
    with pytest.raises(
        JailError, match="these namespaces need the capability sys_admin: time: emp"
    ):
        plan.build(spec, root=True)
