"""Spawner, tyrant, on demand, exec: how a vassal comes to be."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
from empire import alive, children, pause, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def scratch(emperor):
    """A place that customers can reach."""
    path = f"/tmp/donjon-births-{os.getpid()}"
    os.mkdir(path, 0o777)
    os.chmod(path, 0o1777)
    yield path
    for name in os.listdir(path):
        os.unlink(f"{path}/{name}")
    os.rmdir(path)


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return {key: value.strip() for key, value in (line.split(":", 1) for line in file)}


def owned(emperor, name, uid, gid, text="", **words):
    """A tyrant's vassal: its owner is set before it gets its name."""
    lines = "".join(f"{key} = {value}\n" for key, value in words.items())
    temporary = emperor.place / f"{name}.tmp"
    temporary.write_text(f"[uwsgi]\n{lines}{text}")
    os.chown(temporary, uid, gid)
    temporary.rename(emperor.vassals / name)
    return emperor.vassals / name


def test_a_tyrants_vassal_is_its_owners_from_the_first_instruction(emperor):
    emperor.start(tyrant=True)
    owned(emperor, "a.ini", 1001, 1002)
    pid = wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    emperor.said("[emperor-tyrant] dropping privileges to 1001 1002 for instance a.ini")
    emperor.said("vassal a.ini has been spawned")
    facts = status(pid)
    assert facts["Uid"].split() == ["1001"] * 4
    assert facts["Gid"].split() == ["1002"] * 4
    assert facts["Groups"] == ""
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(facts[kind], 16) == 0, kind


@pytest.mark.parametrize(("uid", "gid"), [(0, 1001), (1001, 0), (0, 0)])
def test_a_tyrant_refuses_root(emperor, uid, gid):
    emperor.start(tyrant=True)
    owned(emperor, "a.ini", uid, gid)
    emperor.said("[emperor-tyrant] invalid permissions for vassal a.ini")
    pause(0.2)
    assert emperor.stats()["vassals"] == []


def test_a_tyrant_refuses_files_that_others_can_write(emperor):
    emperor.start(tyrant=True)
    path = owned(emperor, "a.ini", 1001, 1001)
    pid = wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    path.chmod(0o666)
    os.utime(path)
    emperor.said("invalid permissions for vassal a.ini")
    assert alive(pid)


def test_a_changed_owner_means_another_process_of_the_new_owner(emperor):
    emperor.start(tyrant=True)
    path = owned(emperor, "a.ini", 1001, 1001)
    first = wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    emperor.said("has been spawned")
    os.chown(path, 1003, 1003)
    emperor.said("!!! permissions of file a.ini changed. stopping the instance... !!!")
    second = wait_for(
        lambda: next(p for p in [emperor.row("a.ini")["pid"]] if p not in (-1, first)), "another"
    )
    wait_for(lambda: status(second)["Uid"].split()[0] == "1003", "its uid")
    assert not alive(first)


def test_a_customer_cannot_use_the_operators_keys(emperor):
    emperor.start(tyrant=True)
    owned(emperor, "a.ini", 1001, 1001, "exec-as-root = touch /tmp/donjon-owned\n")
    error = wait_for(lambda: emperor.row("a.ini")["error"], "a refusal")
    assert "exec-as-root" in error
    assert "a.ini:2" in error


@pytest.mark.parametrize("text", ["", "name = @(exec://echo x)\n"], ids=["here", "outside"])
@pytest.mark.parametrize(
    "line",
    [
        "exit = 0",
        "help = true",
        "version = true",
        "get = uid",
        "stop = /run/a.pid",
        "reload = /run/a.pid",
        "pause = /run/a.pid",
        "resume = /run/a.pid",
    ],
)
def test_a_file_that_ends_the_program_is_no_vassal(emperor, text, line):
    emperor.vassal("a.ini", f"{text}{line}\n")
    emperor.start()
    error = wait_for(lambda: emperor.row("a.ini")["error"], "a refusal")
    kind = line.split()[0]
    assert f"a.ini asks to {kind}" in error
    assert f"a.ini:{4 if text else 3}: {kind}" in error
    assert emperor.row("a.ini")["pid"] <= 0


def test_a_file_without_the_section_says_so(emperor):
    (emperor.vassals / "a.ini").write_text("[shop]\nmaster = true\n")
    emperor.start()
    emperor.said("[emperor] vassal a.ini: there is no section uwsgi in a.ini")


def test_a_vassal_has_not_the_name_of_the_spawner(emperor):
    emperor.vassal("a.ini")
    emperor.start()
    pid = emperor.started("a.ini")["pid"]
    assert Path(f"/proc/{pid}/comm").read_text() == "donjon\n"


def test_a_section_of_the_operators_file_is_the_operators(emperor):
    skeleton = emperor.place / "base.ini"
    skeleton.write_text(f"[shop]\nexec-as-root = id -u > {emperor.place}/ran\n")
    emperor.start(tyrant=True, vassals_include=[f"{skeleton}:shop"])
    owned(emperor, "a.ini", 1001, 1001, "hostname = a\n")
    wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    assert emperor.row("a.ini")["error"] == ""


def test_what_a_customers_text_runs_is_run_as_the_customer(emperor, scratch):
    emperor.vassals = Path(scratch)
    emperor.start(tyrant=True)
    owned(emperor, "a.ini", 1001, 1001, f"name = @(exec://id -u | tee {scratch}/id)\n")
    wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    assert os.stat(f"{scratch}/id").st_uid == 1001
    with open(f"{scratch}/id", encoding="ascii") as file:
        assert file.read() == "1001\n"


def test_a_reading_that_takes_long_delays_nobody(emperor):
    emperor.start()
    emperor.vassal("slow.ini", "name = @(exec://sleep 2)\n")
    wait_for(lambda: emperor.row("slow.ini")["state"] == "reading", "the reading")
    emperor.vassal("quick.ini")
    emperor.started("quick.ini")
    assert emperor.row("slow.ini")["state"] == "reading"
    (emperor.vassals / "slow.ini").unlink()
    wait_for(lambda: len(emperor.stats()["vassals"]) == 1, "end of the slow one")
    wait_for(lambda: len(children(emperor.process.pid)) == 2, "end of its evaluator")


def test_an_on_demand_vassal_starts_at_its_first_connection(emperor):
    emperor.start(on_demand_extension=".socket")
    address = str(emperor.place / "doorbell")
    (emperor.vassals / "a.ini.socket").write_text(f"{address}\nignored\n")
    emperor.vassal("a.ini")
    wait_for(lambda: os.path.exists(address), "the socket")
    row = emperor.row("a.ini")
    assert (row["pid"], row["on_demand"], row["state"]) == (-1, address, "on-demand")
    assert stat.S_IMODE(os.stat(address).st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        emperor.started("a.ini")
    pid = emperor.row("a.ini")["pid"]
    assert os.readlink(f"/proc/{pid}/fd/0").startswith("socket:")
    (emperor.vassals / "a.ini").unlink()
    wait_for(lambda: not os.path.exists(address), "end of the socket")


def test_a_program_can_tell_the_socket(emperor):
    address = f"{emperor.place}/told"
    emperor.start(on_demand_exec=f"echo {address} ; :")
    emperor.vassal("a.ini")
    wait_for(lambda: os.path.exists(address), "the socket")
    assert emperor.row("a.ini")["on_demand"] == address


def test_a_vassal_that_leaves_goes_back_to_sleep_and_wakes_again(emperor):
    emperor.start(on_demand_directory=str(emperor.place))
    address = str(emperor.place / "a.socket")
    emperor.vassal("a.ini", say="1,5,17,22")
    wait_for(lambda: emperor.row("a.ini")["state"] == "on-demand", "sleep")
    for count in (1, 2):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(address)
            emperor.started("a.ini", count)
            wait_for(lambda: emperor.row("a.ini")["state"] != "on-demand", "life")
            wait_for(lambda: emperor.record("a.ini", "byte"), "byte 0")
            link.close()
        if count == 1:
            wait_for(lambda: len(emperor.record("a.ini")) >= 2, "the backlog wakes it again")
            break


def test_a_reinforcement_loads_its_own_section_and_does_not_come_back(emperor):
    emperor.start(broodlord=1)
    record = emperor.place / "zerg.record"
    emperor.vassal("a.ini", f"[zerg]\nrecord = {record}\nsay = 1,22\n", say="1,5,17,30,30")
    emperor.started("a.ini")
    wait_for(record.exists, "the zerg")
    wait_for(lambda: len(emperor.stats()["vassals"]) == 1, "end of the zerg")
    assert emperor.row("a.ini")["zerg"] == 0
    assert '"a.ini:zerg"' in record.read_text()
    assert '"UWSGI_BROODLORD_NUM": "1"' in record.read_text()


def foreign(emperor, body):
    program = emperor.place / "program"
    program.write_text(f"#!/bin/sh\n{body}")
    program.chmod(0o755)
    return str(program)


def test_exec_mode_runs_the_binary_with_the_original_arguments(emperor):
    out = emperor.place / "out"
    body = (
        f'echo "$@" $UWSGI_EMPEROR_FD > {out}; ls /proc/$$/fd >> {out}\n'
        f"readlink /proc/$$/fd/0 >> {out}; read x <&3"
    )
    program = foreign(emperor, body)
    emperor.start(spawn="exec", argv0=[program], use_clone=["uts"], curse_tolerance=1)
    path = emperor.vassal("a.ini")
    wait_for(lambda: "/dev/null" in out.read_text(), "the program")
    first, *fds, null = out.read_text().splitlines()
    assert first == "--ini a.ini 3"
    assert set(fds) - {"10", "11", "255"} == {"0", "1", "2", "3"}
    assert null == "/dev/null"
    path.unlink()
    wait_for(lambda: emperor.stats()["vassals"] == [], "end")


def test_the_wrapper_replaces_the_binary_and_a_missing_one_falls_back(emperor):
    out = emperor.place / "out"
    program = foreign(emperor, f'echo "$0" "$@" > {out}\ncat <&3')
    emperor.start(wrapper="/no/such/wrapper", wrapper_fallback=[program])
    emperor.vassal("a.ini")
    wait_for(lambda: out.read_text() == f"{program} --ini a.ini\n", "the fallback")


def test_a_program_that_cannot_be_run_is_exiled(emperor):
    emperor.start(wrapper="/no/such/wrapper", throttle=1)
    emperor.vassal("a.ini")
    emperor.said("cannot run /no/such/wrapper: No such file or directory")
    wait_for(lambda: emperor.row("a.ini")["state"] == "waiting", "exile")


def test_root_of_a_user_namespace_is_the_vassals_user_outside(emperor, scratch):
    emperor.start(use_clone=["user", "uts"])
    emperor.vassal("a.ini", "uid = 1001\ngid = 1001\n", record=f"{scratch}/record")
    pid = wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "a pid")
    emperor.said("vassal a.ini has been spawned")
    assert status(pid)["Uid"].split() == ["1001"] * 4
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        assert file.read().split() == ["0", "1001", "1"]


def test_the_bounding_set_is_the_operators(emperor):
    emperor.start(cap=[7, 10])
    emperor.vassal("a.ini")
    emperor.said("vassal a.ini has been spawned")
    facts = status(emperor.row("a.ini")["pid"])
    mask = 1 << 7 | 1 << 8 | 1 << 10  # CAP_SETPCAP (8) stays, as in the original
    assert int(facts["CapBnd"], 16) == mask
    assert int(facts["CapEff"], 16) == mask


def test_a_killed_spawner_is_replaced_and_vassals_live_on(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    pid = emperor.started("a.ini")["pid"]
    spawner = next(one for one in children(emperor.process.pid) if one != pid)
    os.kill(spawner, signal.SIGKILL)
    emperor.said("[emperor] !!! the spawner died !!!")
    emperor.vassal("b.ini")
    second = emperor.started("b.ini")["pid"]
    program = [Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[0] for one in (pid, second)]
    assert program[0] == program[1]
    assert alive(pid)
    assert emperor.end(signal.SIGKILL) == -9
    wait_for(lambda: not alive(pid) and not alive(second), "end of everyone")
    wait_for(lambda: not os.path.exists(emperor.place / "control"), "end of the socket")
