"""What becomes of vassals' networks when a router, a helper or an Emperor dies or ends."""

import json
import os
import signal
from pathlib import Path

import pytest
from empire import Emperor, alive, children, wait_for
from hosting import held
from netempire import FORWARD, POOL, address, net, network, pid, ruling, start, table
from netlab import HOST, OUTSIDE, ask, server

pytestmark = pytest.mark.root


@pytest.fixture
def emperor(tmp_path, lab):
    with ruling(tmp_path, lab) as found:
        yield found


def test_a_killed_router_is_replaced_and_vassals_notice_a_pause(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    emperor.vassal("b.ini", network="tap")
    a, b, lab = pid(emperor, "a.ini"), pid(emperor, "b.ini"), emperor.lab
    with server(lab.world, OUTSIDE, 7000), server(b, "0.0.0.0", 80):
        assert ask(a, OUTSIDE, 7000) == HOST
        before = network(emperor, "a.ini")["counters"]["out"]["packets"]
        os.kill(net(emperor)["router"]["pid"], signal.SIGKILL)
        wait_for(lambda: ask(a, OUTSIDE, 7000, 0.3) == HOST, "the next router")
        assert net(emperor)["router"]["restarts"] == 1
        assert ask(a, address(emperor, "b.ini"), 80, 0.3) != address(emperor, "a.ini")
        assert network(emperor, "a.ini")["counters"]["out"]["packets"] > before > 0
    assert emperor.record("a.ini")[-1]["pid"] == a


def test_a_router_that_hangs_holds_up_no_question_and_the_network_comes_back(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with server(lab.world, OUTSIDE, 7000):
        assert ask(a, OUTSIDE, 7000) == HOST
        stopped = net(emperor)["router"]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        emperor.vassal("b.ini", network="tap")  # its rules are asked for
        for _ in range(20):  # each within 5 s, all while the router is not given up yet
            assert emperor.ask({"verb": "ls"})["ok"]
            assert net(emperor)["router"] == {"pid": stopped, "restarts": 0}
        wait_for(lambda: ask(a, OUTSIDE, 7000, 0.3) == HOST, "the next router", 60)
    assert net(emperor)["router"]["restarts"] == 1
    assert not alive(stopped)
    b = pid(emperor, "b.ini")
    assert emperor.record("a.ini")[-1]["pid"] == a
    with server(lab.world, OUTSIDE, 7000):
        wait_for(lambda: ask(b, OUTSIDE, 7000) == HOST, "a network of b.ini", 60)


def test_a_killed_helper_is_replaced_and_still_cleans_up(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    pid(emperor, "a.ini")
    os.kill(helper_of(emperor), signal.SIGKILL)
    emperor.vassal("b.ini", network="tap")
    pid(emperor, "b.ini")
    emperor.process.terminate()
    assert emperor.process.wait(20) == 0
    assert table(emperor.lab) == ""
    assert emperor.lab.host.run("cat", FORWARD) == "0\n"


def helper_of(emperor):
    comm = lambda one: Path(f"/proc/{one}/comm").read_text().strip()  # noqa: E731
    (helper,) = [one for one in children(emperor.process.pid) if comm(one) == "donjon netns"]
    return helper


def test_the_host_is_as_before_when_the_emperor_ends(emperor):
    lab = emperor.lab
    assert lab.host.run("cat", FORWARD) == "0\n"
    start(emperor)
    emperor.vassal("a.ini", network="tap", publish="8080:80")
    pid(emperor, "a.ini")
    assert lab.host.run("cat", FORWARD) == "1\n"
    assert "donjon0" in lab.addresses(lab.home)
    emperor.process.terminate()
    assert emperor.process.wait(20) == 0
    assert lab.host.run("cat", FORWARD) == "0\n"
    assert table(lab) == ""
    assert "donjon0" not in lab.addresses(lab.home)


def test_nothing_is_left_of_a_killed_emperor(emperor):
    lab = emperor.lab
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    a = pid(emperor, "a.ini")
    router = net(emperor)["router"]["pid"]
    emperor.process.kill()
    emperor.process.wait()
    wait_for(lambda: not alive(a) and not alive(router), "end of vassal and router")
    wait_for(lambda: table(lab) == "", "end of the table")
    wait_for(lambda: lab.host.run("cat", FORWARD) == "0\n", "the switch as it was")
    wait_for(lambda: "donjon0" not in lab.addresses(lab.home), "end of the device")


def test_what_even_the_helper_left_is_removed_at_the_next_start(emperor):
    lab = emperor.lab
    record = emperor.place / "network-donjon0.json"
    record.write_text(json.dumps({FORWARD: "0"}))
    lab.host.run("nft", "add", "table", "inet", "donjon_donjon0")
    lab.host.run("sh", "-c", f"echo 1 > {FORWARD}")
    start(emperor, network_pool=[])
    wait_for(lambda: table(lab) == "", "end of the table")
    wait_for(lambda: lab.host.run("cat", FORWARD) == "0\n", "the switch as it was")
    assert not record.exists()


def test_another_emperor_beside_it_leaves_its_table_alone(emperor):
    lab = emperor.lab
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    pid(emperor, "a.ini")
    before = table(lab)
    place = emperor.place / "other"
    place.mkdir()
    other = Emperor(place)
    other.start(prefix=lab.host.command(), control=str(emperor.place / "second"), wait=False)
    try:
        other.said("the table donjon_donjon0 is of an Emperor that runs")
    finally:
        assert other.end() == 0
    assert table(lab) == before
    assert lab.host.run("cat", FORWARD) == "1\n"


def waits_for_a_lock(helper):
    return any(name.endswith(".lock") for name in held(helper).values())


def test_an_emperor_waits_for_the_helper_of_the_last_one(emperor):
    lab = emperor.lab
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    a, helper = pid(emperor, "a.ini"), helper_of(emperor)
    os.kill(helper, signal.SIGSTOP)
    try:
        emperor.process.kill()
        emperor.process.wait()
        wait_for(lambda: "donjon0" not in lab.addresses(lab.home), "end of the device")
        wait_for(lambda: not (emperor.place / "control").exists(), "end of the socket")
        start(emperor)
        wait_for(lambda: waits_for_a_lock(helper_of(emperor)), "the next helper")
    finally:
        os.kill(helper, signal.SIGCONT)
    assert pid(emperor, "a.ini", 2) != a
    assert "chain guard" in table(lab)
    assert lab.host.run("cat", FORWARD) == "1\n"


def test_addresses_stay_over_restarts_and_no_two_have_the_same(emperor):
    start(emperor)
    for name in ("a.ini", "b.ini"):
        emperor.vassal(name, network="tap")
        pid(emperor, name)
    before = {name: address(emperor, name) for name in ("a.ini", "b.ini")}
    assert len(set(before.values())) == 2
    os.kill(pid(emperor, "a.ini"), signal.SIGKILL)
    pid(emperor, "a.ini", 2)
    assert {name: address(emperor, name) for name in before} == before


def test_two_emperors_have_two_pools_and_devices(emperor):
    lab = emperor.lab
    start(emperor)
    place = emperor.place / "other"
    place.mkdir()
    other = Emperor(place)
    other.start(prefix=lab.host.command(), network_pool=[POOL[0]], network_device="donjon1")
    try:
        other.said("192.168.77.0/24 overlaps with 192.168.77.0/24: the host has that on donjon0")
    finally:
        assert other.end() == 0


def test_a_vassal_that_dies_while_its_ports_are_changed_ends_nobody_else(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    a, helper = pid(emperor, "a.ini"), helper_of(emperor)
    os.kill(helper, signal.SIGSTOP)
    try:
        emperor.vassal("a.ini", network="tap", publish="8091:80")
        emperor.said("reload the uwsgi instance a.ini")
        os.kill(a, signal.SIGKILL)
        emperor.said("removed uwsgi instance a.ini")
    finally:
        os.kill(helper, signal.SIGCONT)
    with server(pid(emperor, "a.ini", 2), "0.0.0.0", 80):
        assert ask(emperor.lab.world, HOST, 8091) == OUTSIDE
