"""A running Emperor, seen from outside: files, bytes, signals."""

import os
import signal
import socket
import struct
import time
from types import SimpleNamespace

import pytest
from empire import alive, children, pause, wait_for

from donjon.config.spec import EmperorSpec
from donjon.emperor.nursery import UNDER_WAY, Nursery, Waiting
from donjon.emperor.reactor import Reactor

pytestmark = pytest.mark.root


def state(emperor, name):
    return emperor.row(name)["state"]


def test_a_vassal_is_started_reloaded_and_stopped_with_its_file(emperor):
    emperor.start()
    path = emperor.vassal("a.ini", marker="one")
    first = emperor.started("a.ini")
    assert first["cwd"] == str(emperor.vassals)
    assert first["argv"] == ["donjon", "--ini", "a.ini"]
    assert first["environ"]["UWSGI_EMPEROR_FD"] == "3"
    emperor.said("[emperor] vassal a.ini is ready to accept requests")
    emperor.vassal("a.ini", marker="two")
    wait_for(lambda: emperor.record("a.ini", "launch")[0]["marker"] == "two", "new launch")
    assert emperor.row("a.ini")["respawns"] == 1
    assert emperor.row("a.ini")["pid"] == first["pid"]
    path.unlink()
    wait_for(lambda: not alive(first["pid"]), "end of the vassal")
    wait_for(lambda: emperor.stats()["vassals"] == [], "end of the record")
    emperor.said("[emperor] removed uwsgi instance a.ini")


def test_only_standard_and_documented_descriptors_reach_a_vassal(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    assert emperor.started("a.ini")["fds"] == [0, 1, 2, 3, 4, 5]


def test_a_touch_reloads_within_fifty_milliseconds(emperor):
    emperor.start()
    path = emperor.vassal("a.ini")
    emperor.started("a.ini")
    emperor.said("is ready to accept")
    waits = []
    for count in range(1, 8):
        begun = time.monotonic()
        os.utime(path)
        wait_for(lambda count=count: len(emperor.record("a.ini", "byte")) >= count, "byte 1")
        waits.append(time.monotonic() - begun)
    assert sorted(waits)[3] < 0.05, waits


def test_a_touched_link_reloads_with_nofollow(emperor):
    (emperor.place / "app.skel").write_text(f"[uwsgi]\nrecord = {emperor.place}/link.ini.record\n")
    (emperor.vassals / "link.ini").symlink_to("../app.skel")
    emperor.start(nofollow=True)
    emperor.started("link.ini")
    emperor.said("is ready to accept")
    os.utime(emperor.vassals / "link.ini", follow_symlinks=False)
    wait_for(lambda: emperor.record("link.ini", "byte"), "reload")


def test_a_changed_skeleton_reloads_its_links_at_the_next_rescan(emperor):
    skeleton = emperor.vassals / "app.skel"
    skeleton.write_text(f"[uwsgi]\nrecord = {emperor.place}/link.ini.record\n")
    (emperor.vassals / "link.ini").symlink_to("app.skel")
    emperor.start(freq=1)
    emperor.started("link.ini")
    emperor.said("is ready to accept")
    os.utime(skeleton)
    wait_for(lambda: emperor.record("link.ini", "byte"), "reload")


def test_a_half_written_file_waits_for_its_writer(emperor):
    emperor.start(freq=1)
    with (emperor.vassals / "a.ini").open("w") as file:
        file.write(f"[uwsgi]\nrecord = {emperor.place}/a.ini.record\n")
        file.flush()
        emperor.send(signal.SIGWINCH)
        pause(0.3)
        assert not (emperor.place / "a.ini.record").exists()
        assert "is being written" in emperor.row("a.ini")["error"]
        file.write("marker = whole\n")
    assert emperor.started("a.ini")["marker"] == "whole"
    wait_for(lambda: emperor.row("a.ini")["error"] == "", "end of the complaint")


def test_an_editor_that_saves_by_renaming_does_not_stop_the_vassal(emperor):
    emperor.start()
    path = emperor.vassal("a.ini")
    pid = emperor.started("a.ini")["pid"]
    emperor.said("is ready to accept")
    text = path.read_text()
    path.rename(emperor.vassals / "a.ini~")
    path.write_text(text)
    wait_for(lambda: emperor.record("a.ini", "byte"), "reload")
    assert [fact["value"] for fact in emperor.record("a.ini", "byte")] == [[1]]
    assert alive(pid)


def test_a_broken_file_shows_its_line_and_the_running_vassal_goes_on(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    pid = emperor.started("a.ini")["pid"]
    emperor.vassal("a.ini", "processes = many\n")
    error = wait_for(lambda: emperor.row("a.ini")["error"], "an error")
    assert "a.ini:3" in error
    assert "processes" in error
    assert alive(pid)
    assert state(emperor, "a.ini") == "running"


def test_a_vassal_that_dies_comes_back_and_its_neighbour_stays(emperor):
    emperor.start()
    emperor.vassal("a.ini", say="1,5,17")
    emperor.vassal("b.ini")
    victim = emperor.started("a.ini")["pid"]
    neighbour = emperor.started("b.ini")["pid"]
    emperor.said("vassal a.ini is now loyal")
    os.kill(victim, signal.SIGKILL)
    assert emperor.started("a.ini", 2)["pid"] != victim
    assert alive(neighbour)


def test_a_bad_vassal_is_throttled_and_delays_nobody(emperor):
    emperor.start(throttle=400)
    emperor.vassal("bad.ini", then="exit 1", say="")
    wait_for(lambda: len(emperor.record("bad.ini")) >= 3, "three tries")
    begun = time.monotonic()
    emperor.vassal("good.ini")
    emperor.started("good.ini")
    assert time.monotonic() - begun < 0.5
    entry = emperor.stats()["blacklist"][0]
    assert entry["id"] == "bad.ini"
    assert entry["attempt"] >= 2
    assert entry["throttle_level"] >= 800
    emperor.said("bad behaving vassal found: bad.ini")
    emperor.send(signal.SIGURG)
    wait_for(lambda: "the blacklist is empty" in emperor.log(), "empty blacklist")


def test_an_exiled_vassal_is_started_by_a_change_only(emperor):
    emperor.start(throttle=1)
    emperor.vassal("a.ini", then="exit 26")
    emperor.started("a.ini")
    wait_for(lambda: state(emperor, "a.ini") == "waiting", "exile")
    pause(0.3)
    assert len(emperor.record("a.ini")) == 1
    emperor.vassal("a.ini", then="stay")
    emperor.started("a.ini", 2)


def test_set_up_that_fails_is_one_line_in_log_and_stats(emperor):
    emperor.start()
    emperor.vassal("a.ini", fail="a.ini:4: cannot mount: Permission denied")
    emperor.said("[emperor] vassal a.ini: a.ini:4: cannot mount: Permission denied")
    assert "cannot mount" in emperor.row("a.ini")["error"]


def test_a_flooding_vassal_hurts_itself_only(emperor):
    emperor.start(curse_tolerance=1)
    emperor.vassal("flood.ini", then="flood")
    emperor.started("flood.ini")
    pause(0.3)
    used = cpu_seconds(emperor.process.pid)
    begun = time.monotonic()
    emperor.vassal("good.ini")
    emperor.started("good.ini")
    assert time.monotonic() - begun < 0.5
    pause(0.7)
    spent = cpu_seconds(emperor.process.pid) - used
    assert spent < 0.3
    assert emperor.end() == 0


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_vassal_that_closes_its_link_is_cursed_and_replaced(emperor):
    emperor.start(curse_tolerance=1)
    emperor.vassal("a.ini", then="hang-up", say="1,17")
    first = emperor.started("a.ini")["pid"]
    emperor.started("a.ini", 2)
    assert not alive(first)


def test_a_silent_heart_is_killed(emperor):
    emperor.start(required_heartbeat=1)
    emperor.vassal("a.ini", say="1,5,17,26")
    first = emperor.started("a.ini")["pid"]
    emperor.started("a.ini", 2)
    assert not alive(first)
    emperor.said("sent no required heartbeat")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_ragnarok_stops_everyone_and_exits_with_zero(emperor, number):
    emperor.start(pidfile=str(emperor.place / "pid"))
    pids = []
    for name in ("a.ini", "b.ini"):
        emperor.vassal(name)
        pids.append(emperor.started(name)["pid"])
    assert (emperor.place / "pid").read_text() == f"{emperor.process.pid}\n"
    begun = time.monotonic()
    assert emperor.end(number) == 0
    assert time.monotonic() - begun < 1.0
    assert not any(map(alive, pids))
    assert [fact["value"] for fact in emperor.record("a.ini", "byte")] == [[0]]
    assert emperor.log().endswith("The Emperor is buried.\n")
    left = {path.name for path in emperor.place.iterdir()}
    assert left == {"vassals", "log", "a.ini.record", "b.ini.record"}


def test_ragnarok_is_bounded_by_mercy(emperor):
    emperor.start(reload_mercy=1)
    emperor.vassal("a.ini", then="stubborn")
    pid = emperor.started("a.ini")["pid"]
    begun = time.monotonic()
    assert emperor.end() == 0
    assert 0.9 < time.monotonic() - begun < 3
    assert not alive(pid)


def test_the_stop_hook_runs_and_vassals_are_stopped_all_the_same(emperor):
    hook = emperor.place / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $UWSGI_VASSALS_DIR" >> {emperor.place}/hook.log\n')
    hook.chmod(0o755)
    emperor.start(vassals_stop_hook=str(hook), vassals_start_hook=str(hook))
    emperor.vassal("a.ini")
    emperor.started("a.ini")
    assert emperor.end() == 0
    line = f"a.ini {emperor.vassals}"
    assert (emperor.place / "hook.log").read_text().splitlines() == [line, line]
    assert [fact["value"] for fact in emperor.record("a.ini", "byte")] == [[0]]


def test_sighup_reloads_all_and_sigusr1_writes_the_roll(emperor):
    emperor.start()
    for name in ("a.ini", "b.ini"):
        emperor.vassal(name)
        emperor.started(name)
    emperor.said("vassal b.ini is ready to accept")
    emperor.said("vassal a.ini is ready to accept")
    emperor.send(signal.SIGHUP)
    for name in ("a.ini", "b.ini"):
        wait_for(lambda name=name: emperor.record(name, "launch"), "reload")
    emperor.send(signal.SIGUSR1)
    modified = int((emperor.vassals / "a.ini").stat().st_mtime)
    emperor.said(f"vassal instance a.ini (last modified {modified}) status 0 loyal 0 zerg 0\n")


def test_a_killed_emperor_takes_everything_with_it(emperor):
    emperor.start(use_clone=["pid", "uts"])
    emperor.vassal("a.ini")
    emperor.vassal("b.ini", then="stubborn")
    for name in ("a.ini", "b.ini"):
        emperor.started(name)
    below = children(emperor.process.pid)
    assert len(below) == 3
    assert emperor.end(signal.SIGKILL) == -9
    wait_for(lambda: not any(map(alive, below)), "end of everything")
    wait_for(lambda: not (emperor.place / "control").exists(), "end of the control socket")
    wait_for(lambda: not (emperor.place / "stats").exists(), "end of the statistics socket")


@pytest.mark.cgroup1
def test_a_killed_emperor_leaves_no_cgroup(emperor):
    group = f"/sys/fs/cgroup/pids/donjon-test-{os.getpid()}"
    emperor.start()
    emperor.vassal("a.ini", f"cgroup = {group}\ncgroup-opt = pids.max=20\n")
    pid = emperor.started("a.ini")["pid"]
    with open(f"{group}/cgroup.procs", encoding="ascii") as file:
        assert str(pid) in file.read().split()
    emperor.end(signal.SIGKILL)
    wait_for(lambda: not os.path.exists(group), "end of the cgroup")


@pytest.mark.cgroup1
def test_a_killed_emperor_leaves_no_directory_above_its_cgroups(emperor):
    above = f"/sys/fs/cgroup/pids/donjon-above-{os.getpid()}"
    emperor.start()
    for name in ("a", "b"):
        emperor.vassal(f"{name}.ini", f"cgroup = {above}/groups/{name}\n")
        emperor.started(f"{name}.ini")
    emperor.end(signal.SIGKILL)
    wait_for(lambda: not os.path.exists(above), "end of the directories")


@pytest.mark.cgroup1
def test_a_cgroup_goes_with_its_vassal(emperor):
    group = f"/sys/fs/cgroup/pids/donjon-gone-{os.getpid()}"
    emperor.start()
    path = emperor.vassal("a.ini", f"cgroup = {group}\n", say="1,17")
    os.kill(emperor.started("a.ini")["pid"], signal.SIGKILL)
    emperor.started("a.ini", 2)
    path.unlink()
    wait_for(lambda: not os.path.exists(group), "end of the cgroup")


def test_namespaces_are_the_vassals_own(emperor):
    emperor.start(use_clone=["pid", "uts", "ipc", "net", "fs"])
    emperor.vassal("a.ini")
    assert emperor.started("a.ini")["pid"] == 1
    pid = emperor.row("a.ini")["pid"]
    for kind in ("pid", "uts", "ipc", "net", "mnt"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == emperor.process.pid


def test_variables_for_vassals_lose_their_prefix(emperor):
    emperor.start(environ={"UWSGI_VASSAL_MARKER": "set", "NOTIFY_SOCKET": "", "COLOUR": "red"})
    emperor.vassal("a.ini")
    environ = emperor.started("a.ini")["environ"]
    assert environ["UWSGI_MARKER"] == "set"
    assert environ["COLOUR"] == "red"
    assert not {"UWSGI_VASSAL_MARKER", "NOTIFY_SOCKET"} & set(environ)
    assert emperor.record("a.ini")[0]["marker"] in ("", "set")


def test_set_include_and_inherit_stand_in_the_original_order(emperor):
    for name in ("ib", "i", "t", "tb"):
        (emperor.place / f"{name}.ini").write_text("[uwsgi]\n")
    files = {name: str(emperor.place / f"{name}.ini") for name in ("ib", "i", "t", "tb")}
    emperor.start(
        vassals_set=["marker=common"],
        vassals_include=[files["i"]],
        vassals_include_before=[files["ib"]],
        vassals_inherit=[files["t"]],
        vassals_inherit_before=[files["tb"]],
    )
    emperor.vassal("a.ini")
    facts = emperor.started("a.ini")
    before = ["donjon", "--inherit", files["tb"], "--include", files["ib"]]
    after = ["--inherit", files["t"], "--include", files["i"]]
    assert facts["argv"] == [*before, "--set", "marker=common", "--ini", "a.ini", *after]
    assert facts["marker"] == "common"


def test_as_emperor_hooks_know_the_vassal_and_have_the_emperor_as_parent(emperor):
    out = emperor.place / "hook.log"
    command = f"echo $UWSGI_VASSAL_CONFIG $UWSGI_VASSAL_PID $UWSGI_VASSAL_UID $PPID > {out}"
    emperor.start(hooks=[["as-emperor", "exec", command]])
    emperor.vassal("a.ini")
    pid = emperor.started("a.ini")["pid"]
    words = wait_for(lambda: out.read_text().split(), "the hook")
    assert words == ["a.ini", str(pid), "0", str(emperor.process.pid)]


def test_a_failing_as_vassal_hook_ends_the_vassal(emperor):
    emperor.start(hooks=[["as-vassal", "exec", "exit 3"]])
    emperor.vassal("a.ini")
    wait_for(lambda: "exit 3" in emperor.row("a.ini")["error"], "an error")
    assert not (emperor.place / "a.ini.record").exists()


def test_systemd_is_told(emperor):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(5)
        link.bind(str(emperor.place / "notify"))
        emperor.vassal("a.ini")
        emperor.start(environ={"NOTIFY_SOCKET": str(emperor.place / "notify")})
        texts = [link.recv(4096).decode()]
        while "READY=1" not in texts[-1]:
            texts.append(link.recv(4096).decode())
        assert "STATUS=The Emperor is governing 1 vassals" in texts[-1]


def test_an_upper_emperor_is_greeted_and_obeyed(emperor):
    near, far = socket.socketpair()
    with near:
        near.settimeout(5)
        emperor.start(upper=far.fileno(), pass_fds=[far.fileno()])
        far.close()
        assert b"".join(near.recv(1) for _ in range(3)) == bytes([1, 5, 17])
        emperor.vassal("a.ini")
        emperor.started("a.ini")
        emperor.said("is ready to accept")
        near.send(b"\1")
        wait_for(lambda: emperor.record("a.ini", "byte"), "reload")
        near.send(b"\0")
        assert emperor.process.wait(10) == 0


def test_a_lost_upper_emperor_ends_with_one(emperor):
    near, far = socket.socketpair()
    emperor.start(upper=far.fileno(), pass_fds=[far.fileno()])
    far.close()
    emperor.vassal("a.ini", then="stubborn")
    pid = emperor.started("a.ini")["pid"]
    near.close()
    assert emperor.process.wait(10) == 1
    assert not alive(pid)


def test_who_is_born_after_the_upper_emperor_was_lost_is_not_waited_for(emperor):
    near, far = socket.socketpair()
    emperor.start(upper=far.fileno(), pass_fds=[far.fileno()])
    far.close()
    emperor.vassal("a.ini", then="stubborn")
    first = emperor.started("a.ini")["pid"]
    emperor.said("a.ini is ready")
    spawner = next(one for one in children(emperor.process.pid) if one != first)
    os.kill(spawner, signal.SIGSTOP)
    emperor.vassal("b.ini", then="stubborn")
    wait_for(lambda: state(emperor, "b.ini") == "starting", "an order for b.ini")
    near.close()
    emperor.said("RAGNAROK EVOKED")
    os.kill(spawner, signal.SIGCONT)
    assert emperor.process.wait(10) == 1
    assert not alive(first)
    assert not alive(emperor.record("b.ini")[0]["pid"])


def test_an_order_that_cannot_be_written_fails_alone():
    """Whatever a vassal's file makes us trip over: neither the Emperor nor a place is lost."""

    class Tripping:
        def __init__(self, link):
            self.link = link

        def send(self, order, fds):
            raise struct.error(f"order {order.number}")

    answers = []
    near, far = socket.socketpair()
    with near, far:
        reactor = Reactor()
        nursery = Nursery(reactor, Tripping(near), EmperorSpec(sources=()), ())
        for number in range(3 * UNDER_WAY):
            nursery._send(Waiting(SimpleNamespace(number=number), [], answers.append))
        reactor.after(0.01, reactor.stop)
        reactor.run()
        reactor.close()
    assert [answer.number for answer in answers] == list(range(3 * UNDER_WAY))
    assert answers[-1].error == "internal error: error: order 11"
