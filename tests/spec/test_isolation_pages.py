"""Configurations of the pages on namespaces, pivot_root, cgroups and capabilities, run as written.

Paths and user names are this machine's; the ids in the names are those of the specification's inventory.
"""

import os
import subprocess
import sys
from pathlib import Path

import hosting
import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_TIME = 6, 7, 8, 10, 25


def mask(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def caps(pid: int, which: str) -> int:
    return int(hosting.status(pid)[which], 16)


def mount_points(pid: int) -> set[str]:
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}


def test_b087_pivot_root_with_the_old_tree_unmounted(host):
    ns = host.place / "ns"
    ns.mkdir()
    host.vassal(
        "shop",
        "unshare = fs\n"
        f"hook-post-jail = mount:none / {ns} bind\n"
        f"pivot_root = {ns} {ns}/mnt\n"
        "hook-as-root = mount:proc none /proc nodev hidepid=2\n"
        "hook-as-root = mount:none /mnt/dev /dev bind\n"
        "hook-as-root = mount:none /mnt/dev/pts /dev/pts bind\n"
        "hook-as-root = umount:/mnt rec,detach\n"
        "uid = 33\ngid = 33\n",
    )
    host.start()
    host.answer("shop")
    worker = hosting.children(host.master("shop"))[0]
    assert mount_points(worker) == {"/", "/proc", "/dev", "/dev/pts"}
    assert hosting.own_namespaces(worker) == ["mnt"]
    assert not [point for point in mount_points(os.getpid()) if str(ns) in point]


def test_b088_the_old_namespace_jail(host):
    host.vassal("shop", "namespace = /:beautiful\nuid = 33\ngid = 33\n")
    host.start()
    facts = host.answer("shop")
    assert facts["hostname"] == "beautiful"
    assert max(facts["processes"]) < 20, "a process list of its own"


def test_b078_capabilities_by_name_and_number(host):
    host.vassal(
        "shop", "uid = 5000\ngid = 5000\ncap = net_bind_service,sys_time,22\nsocket = :1000\n"
    )
    host.start()
    host.answer("shop")
    wanted = mask(CAP_NET_BIND_SERVICE, CAP_SYS_TIME, 22)
    for pid in [host.master("shop"), *hosting.children(host.master("shop"))]:
        seen = {which: caps(pid, which) for which in ("CapEff", "CapPrm", "CapInh")}
        assert seen == {"CapEff": wanted, "CapPrm": wanted, "CapInh": wanted}


@pytest.mark.cgroup1
def test_b082_four_customers_with_cpu_shares_and_memory(host):
    plans = {
        "app1": (125, 268435456),
        "app2": (125, 268435456),
        "app3": (250, 536870912),
        "app4": (500, 1067458560),
    }
    cpu, memory = (
        Path(f"/sys/fs/cgroup/{c}/donjon-spec-{os.getpid()}") for c in ("cpu", "memory")
    )
    for number, (name, (shares, limit)) in enumerate(plans.items(), 1001):
        host.vassal(
            name,
            f"uid = {number}\ngid = {number}\ncgroup = {cpu}-{name}\ncgroup = {memory}-{name}\n"
            f"cgroup-opt = cpu.shares={shares}\ncgroup-opt = memory.limit_in_bytes={limit}\n",
        )
    host.start()
    for name, (shares, limit) in plans.items():
        host.answer(name)
        group = Path(f"{cpu}-{name}")
        assert group.joinpath("cpu.shares").read_text().strip() == str(shares)
        assert Path(f"{memory}-{name}/memory.limit_in_bytes").read_text().strip() == str(limit)
        processes = {int(pid) for pid in group.joinpath("cgroup.procs").read_text().split()}
        assert {host.master(name), *hosting.children(host.master(name))} <= processes
    host.close()
    left = [*cpu.parent.glob(f"{cpu.name}-*"), *memory.parent.glob(f"{memory.name}-*")]
    assert left == []


@pytest.mark.cgroup2
def test_cgr_a_vassal_is_born_in_its_v2_group(host):
    root = (
        "/sys/fs/cgroup/unified"
        if os.path.exists("/sys/fs/cgroup/unified/cgroup.procs")
        else "/sys/fs/cgroup"
    )
    group = Path(f"{root}/donjon-spec-{os.getpid()}")
    host.vassal("shop", f"uid = 33\ngid = 33\ncgroup = {group}\n")
    host.start()
    host.answer("shop")
    assert str(host.master("shop")) in group.joinpath("cgroup.procs").read_text().split()
    host.close()
    assert not group.exists()


def test_b132_the_bounding_set_of_vassals(host):
    host.vassal("shop", "uid = 33\ngid = 33\n")
    host.start("emperor-cap = setuid,setgid,net_bind_service\n")
    host.answer("shop")
    allowed = mask(CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE)
    assert caps(host.master("shop"), "CapBnd") & ~allowed == 0


@pytest.mark.userns
def test_b133_vassals_in_a_user_namespace(host):
    host.vassal("shop", "")
    host.start("emperor-use-clone = user\nemperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    assert "user" in hosting.own_namespaces(host.master("shop"))


def test_b064_tyrant_mode_for_paranoid_administrators(host):
    path = host.vassal("shop", "")
    os.chown(path, 1000, 1000)
    (host.place / "stats").touch()
    host.place.chmod(0o777)
    host.start("uid = 10000\ngid = 10000\nemperor-tyrant = true\ncap = setgid,setuid\n")
    host.answer("shop")
    assert caps(host.pid, "CapEff") == mask(CAP_SETGID, CAP_SETUID)
    assert hosting.status(host.pid)["Uid"].split()[0] == "10000"
    worker = hosting.children(host.master("shop"))[0]
    assert (hosting.status(worker)["Uid"].split()[0], caps(worker, "CapEff")) == ("1000", 0)


def test_b068_another_binary_in_a_network_namespace(host):
    out = host.place / "sockets" / "out"
    script = host.place / "funny"
    script.write_text(
        f"#!/bin/sh\nid -u > {out}.tmp; readlink /proc/self/ns/net >> {out}.tmp\n"
        f"mv {out}.tmp {out}; exec sleep 600\n"
    )
    script.chmod(0o755)
    path = host.place / "vassals" / "special.ini"
    path.write_text(
        f"[uwsgi]\nuid = 1000\ngid = 1000\nunshare = net\nunprivileged-binary-patch = {script}\n"
    )
    host.start()
    uid, net = hosting.wait_for(lambda: out.exists() and out.read_text().split(), "the binary")
    assert uid == "1000"
    assert net != os.readlink("/proc/self/ns/net")


def test_b146_a_veth_pair_given_by_the_emperor(host):
    one, two = f"dv{os.getpid() % 9999}a", f"dv{os.getpid() % 9999}b"
    host.vassal(
        "shop",
        f"wait-for-interface = {two}\nexec-as-root = hostname vassal001\nexec-as-root = ip link set lo up\n"
        f"exec-as-root = ip addr add 192.168.0.2/24 dev {two}\nuid = 33\ngid = 33\n",
    )
    host.start(
        "emperor-use-clone = pid,net,fs,ipc,uts\n"
        f"exec-as-emperor = ip link add {one} type veth peer name {two}\n"
        f"exec-as-emperor = ip link set {two} netns $UWSGI_VASSAL_PID\n"
    )
    try:
        assert host.answer("shop")["hostname"] == "vassal001"
        shown = subprocess.run(
            ["nsenter", f"--net=/proc/{host.master('shop')}/ns/net", "ip", "-4", "-o", "addr"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "192.168.0.2/24" in shown
    finally:
        subprocess.run(["ip", "link", "del", one], capture_output=True, check=False)


def test_rootfs_host_shows_the_application_and_little_else(host):
    host.vassal(
        "shop",
        f"uid = 33\ngid = 33\nrootfs = host\nhostname = cell\nbind = {host.place}/sockets:{host.place}/sockets\n",
    )
    host.start("emperor-use-clone = fs,ipc,pid,uts\n")
    facts = host.answer("shop")
    assert facts["hostname"] == "cell"
    own = {sys.prefix.split("/")[1]}  # the way to the interpreter is there, whatever it is called
    assert not ({"home", "root", "boot", "mnt"} - own) & set(facts["root"])
    assert len(facts["processes"]) <= 3
    assert hosting.status(hosting.children(host.master("shop"))[0])["NoNewPrivs"] == "1"


def test_python_of_the_suite_is_readable_by_everybody():
    assert os.stat(os.path.realpath(sys.executable)).st_mode & 0o005 == 0o005
