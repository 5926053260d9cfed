"""The inventory's behaviours of CAP, ECA, PRV, TYR and AAR, by their ids."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import hosting
import pytest

from donjon.config.options import values

pytestmark = [pytest.mark.root]

NET_BIND, SYS_TIME, SETGID, SETUID, SETPCAP = 10, 25, 6, 7, 8
NONE = "0" * 16
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def bits(*numbers):
    return f"{sum(1 << number for number in numbers):016x}"


def sets_of(pid):
    facts = hosting.status(pid)
    return {facts[name] for name in SETS}


class Instance:
    """A plain instance, from a command line as the specification writes them."""

    def __init__(self, place, *words):
        place.chmod(0o755)
        place.parent.chmod(0o755)
        place.parent.parent.chmod(0o755)
        (place / "app.py").write_text(hosting.APP)
        self.log = place / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*hosting.DONJON, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=place,
            )  # fmt: skip

    def logged(self, text):
        """Wait until the log has a text, and return the log."""
        return hosting.wait_for(
            lambda: text in self.log.read_text() and self.log.read_text(), text
        )

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def instance(tmp_path):
    made = []

    def start(*words):
        made.append(Instance(tmp_path, *words))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.end()


APP = ("--wsgi-file", "app.py", "--master")


def in_new_network(*words):
    """Run in a network of its own, so that its low ports are free."""
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *words]


def test_cap_01_a_port_below_1024_and_two_capabilities(tmp_path, monkeypatch):
    monkeypatch.setattr(hosting, "DONJON", in_new_network(sys.executable, "-m", "donjon"))
    one = Instance(
        tmp_path, "--http-socket", ":1000", "--uid", "5000", "--gid", "5000",
        "--cap", "net_bind_service,sys_time", "--attach-daemon", "sleep 500", *APP,
    )  # fmt: skip
    try:
        hosting.wait_for(lambda: len(hosting.children(one.process.pid)) == 2, "worker and daemon")
        hosting.wait_for(
            lambda: "sleep" in {Path(f"/proc/{pid}/comm").read_text().strip()
                                for pid in hosting.children(one.process.pid)}, "the daemon",
        )  # fmt: skip
        family = [one.process.pid, *hosting.children(one.process.pid)]
        assert [hosting.status(pid)["Uid"].split() for pid in family] == [["5000"] * 4] * 3
        assert [sets_of(pid) for pid in family] == [{bits(NET_BIND, SYS_TIME)}] * 3
        listening = Path(f"/proc/{one.process.pid}/net/tcp").read_text()
        assert ":03E8 " in listening
    finally:
        one.end()


def test_cap_02_numbers_are_capabilities(instance):
    one = instance("--http-socket", "127.0.0.1:0", "--uid", "5000", "--cap", "10,25", *APP)
    hosting.wait_for(lambda: sets_of(one.process.pid) == {bits(NET_BIND, SYS_TIME)}, "the drop")


def test_cap_02_a_number_that_the_kernel_does_not_have_is_named(instance):
    one = instance("--http-socket", "127.0.0.1:0", "--uid", "5000", "--cap", "10,42", *APP)
    assert one.process.wait(20) == 1
    assert (
        "command line: --cap: capability 42 cannot be kept: this process does not have it"
        in one.log.read_text()
    )


NAMES = [
    "audit_control", "audit_write", "chown", "dac_override", "dac_read_search", "fowner",
    "fsetid", "ipc_lock", "ipc_owner", "kill", "lease", "linux_immutable", "mac_admin",
    "mac_override", "mknod", "net_admin", "net_bind_service", "net_broadcast", "net_raw",
    "setfcap", "setgid", "setpcap", "setuid", "sys_admin", "sys_boot", "sys_chroot", "sys_module",
    "sys_nice", "sys_pacct", "sys_ptrace", "sys_rawio", "sys_resource", "sys_time",
    "sys_tty_config", "syslog", "wake_alarm",
]  # fmt: skip
NEWER = {"block_suspend": 36, "audit_read": 37, "perfmon": 38, "bpf": 39, "checkpoint_restore": 40}


def test_cap_03_each_name_of_the_specification_is_known():
    assert len(NAMES) == 36
    assert sorted(values.capabilities(",".join(NAMES))) == list(range(36))


def test_cap_03_names_of_newer_kernels_are_known():
    assert {name: min(values.capabilities(name)) for name in NEWER} == NEWER


def test_cap_04_without_cap_nothing_is_left(instance):
    one = instance("--http-socket", "127.0.0.1:0", "--uid", "5000", *APP)
    hosting.wait_for(lambda: hosting.children(one.process.pid), "the worker")
    family = [one.process.pid, *hosting.children(one.process.pid)]
    assert [sets_of(pid) for pid in family] == [{NONE}] * 2


def test_eca_01_a_root_vassal_has_no_more_than_the_operator_grants(host):
    host.vassal("shop", "")
    host.start("emperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    facts = hosting.status(host.master("shop"))
    granted = bits(SETUID, NET_BIND, SETPCAP)  # setpcap stays, as in the original
    assert [facts[name] for name in ("CapEff", "CapPrm", "CapBnd")] == [granted] * 3
    assert (facts["CapInh"], facts["CapAmb"]) == (NONE, NONE)


@pytest.mark.userns
def test_eca_02_a_new_root_with_these_capabilities_only(host):
    host.vassal("shop", "")
    host.start("emperor-use-clone = user\nemperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    pid = host.master("shop")
    facts = hosting.status(pid)
    assert "user" in hosting.own_namespaces(pid)
    assert Path(f"/proc/{pid}/uid_map").read_text().split()[0] == "0"
    assert facts["Uid"].split()[0] != "0"
    assert facts["CapEff"] == facts["CapBnd"] == bits(SETUID, NET_BIND)


def test_eca_01_executed_programs_of_a_root_vassal_are_bounded_too(host):
    out = host.place / "sockets" / "status"
    host.vassal("shop", f"exec-asap = cat /proc/self/status > {out}.t && mv {out}.t {out}\n")
    host.start("emperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    fields = dict(line.split(":\t", 1) for line in out.read_text().splitlines() if ":\t" in line)
    granted = bits(SETUID, NET_BIND, SETPCAP)
    assert [fields[name] for name in ("CapEff", "CapPrm", "CapBnd")] == [granted] * 3


def test_prv_01_who_serves_as_root_is_warned(instance):
    one = instance("--http-socket", "127.0.0.1:0", *APP)
    one.logged("*** WARNING: you are running donjon as root !!! (use the --uid flag) ***")


def test_prv_01_who_drops_is_not(instance):
    one = instance("--http-socket", "127.0.0.1:0", "--uid", "5000", *APP)
    hosting.wait_for(lambda: hosting.children(one.process.pid), "the worker")
    assert "WARNING" not in one.log.read_text()


def test_prv_03_the_masters_ports_are_bound_after_the_drop(tmp_path, monkeypatch):
    monkeypatch.setattr(hosting, "DONJON", in_new_network(sys.executable, "-m", "donjon"))
    words = ("--http-socket", "127.0.0.1:2000", "--stats", "127.0.0.1:162", "--uid", "5000", *APP)
    refused = Instance(tmp_path, *words)
    try:
        refused.logged("Permission denied")
    finally:
        refused.end()
    for more in (("--cap", "net_bind_service"), ("--master-as-root",)):
        allowed = Instance(tmp_path, *words, *more)
        try:
            path = f"/proc/{allowed.process.pid}/net/tcp"
            hosting.wait_for(
                lambda path=path: ":00A2 " in Path(path).read_text(), "the statistics"
            )
        finally:
            allowed.end()


@pytest.mark.parametrize("ids", [(0, 0), (0, 1000), (1000, 0)])
def test_tyr_02_and_prv_05_a_file_of_root_is_no_vassal(host, ids):
    path = host.vassal("shop", "")
    os.chown(path, *ids)
    host.start("emperor-tyrant = true\n")
    hosting.wait_for(lambda: "shop.ini" in host.log(), "a line about it")
    assert not [one for one in host.stats()["vassals"] if int(one["pid"]) > 0]


def test_tyr_01_a_vassal_is_its_files_owner(host):
    path = host.vassal("shop", "")
    os.chown(path, 1001, 1001)
    host.start("emperor-tyrant = true\n")
    facts = host.answer("shop")
    pids = [host.master("shop"), *hosting.children(host.master("shop"))]
    assert {hosting.status(pid)["Uid"] for pid in pids} == {"1001\t1001\t1001\t1001"}
    assert {hosting.status(pid)["Gid"] for pid in pids} == {"1001\t1001\t1001\t1001"}
    assert facts["groups"] in ([], [1001])


def test_tyr_05_the_owner_of_a_link_counts(host):
    real = host.vassal("shop", "")
    target = host.place / "real.ini"
    real.rename(target)
    link = host.place / "vassals" / "shop.ini"
    link.symlink_to(target)
    os.chown(link, 1002, 1002, follow_symlinks=False)
    host.start("emperor-tyrant = true\nemperor-tyrant-nofollow = true\n")
    host.answer("shop")
    assert hosting.status(host.master("shop"))["Uid"].split()[0] == "1002"


def test_tyr_07_an_immediate_uid_wins(instance):
    one = instance(
        "--immediate-uid", "5001", "--immediate-gid", "5001",
        "--http-socket", "127.0.0.1:0", *APP,
    )  # fmt: skip
    hosting.wait_for(lambda: hosting.children(one.process.pid), "the worker")
    family = [one.process.pid, *hosting.children(one.process.pid)]
    assert {hosting.status(pid)["Uid"].split()[0] for pid in family} == {"5001"}
    assert [sets_of(pid) for pid in family] == [{NONE}] * 2


def test_tyr_04_a_paranoid_emperors_jailed_vassals(host):
    """The Emperor is uid 10000 with two capabilities; its vassals have none, and a filter."""
    path = host.vassal("shop", "")
    os.chown(path, 1000, 1000)
    (host.place / "stats").touch()
    host.place.chmod(0o777)
    host.start(
        "uid = 10000\ngid = 10000\nemperor-tyrant = true\ncap = setgid,setuid\nseccomp = default\n"
    )
    host.answer("shop")
    emperor = hosting.status(host.pid)
    assert emperor["CapEff"] == emperor["CapPrm"] == bits(SETGID, SETUID)
    assert emperor["Seccomp"] == "2"
    pid = host.master("shop")
    assert hosting.status(pid)["Uid"].split() == ["1000"] * 4
    assert sets_of(pid) == {NONE}
    assert hosting.status(pid)["Seccomp"] == "2"


def test_aar_01_a_vassal_is_confined_before_its_program(host):
    """NoNewPrivs and Seccomp of /proc/PID/status, in a vassal and in a program that replaces it."""
    out = host.place / "sockets" / "status"
    script = host.place / "program"
    script.write_text(
        f"#!/bin/sh\ncat /proc/self/status > {out}.t; mv {out}.t {out}; exec sleep 500\n"
    )
    script.chmod(0o755)
    host.vassal("shop", "uid = 33\ngid = 33\nunshare = ipc\n")
    special = host.place / "vassals" / "special.ini"
    special.write_text(
        f"[uwsgi]\nuid = 33\ngid = 33\nunshare = ipc\nunprivileged-binary-patch = {script}\n"
    )
    host.start()
    host.answer("shop")
    hosting.wait_for(out.exists, "the program")
    texts = [Path(f"/proc/{host.master('shop')}/status").read_text(), out.read_text()]
    assert ["NoNewPrivs:\t1\n" in text and "Seccomp:\t2\n" in text for text in texts] == [True] * 2
