"""The pages on the Emperor, tyrant mode, passing configuration and binary patches, from outside."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import hosting
import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]

PLAIN = "uid = 33\ngid = 33\n"


def gone(host, name):
    return hosting.wait_for(
        lambda: not [v for v in host.stats()["vassals"] if v["id"] == f"{name}.ini"],
        f"end of {name}",
    )


def test_emp01_to_03_added_touched_and_removed(host):
    host.start()
    path = host.vassal("shop", PLAIN)
    host.answer("shop")
    master = host.master("shop")
    worker = hosting.children(master)[0]
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 2_000_000_000))
    hosting.wait_for(
        lambda: host.answer("shop") and worker not in hosting.children(master), "a new generation"
    )
    assert host.master("shop") == master, "a reload keeps the pid"
    path.unlink()
    gone(host, "shop")
    hosting.wait_for(lambda: not hosting.alive(master), "end of the master")
    assert not host.sock("shop").exists() or not hosting.alive(master)


def test_emp04_vassals_die_with_a_killed_emperor(host):
    host.vassal("shop", PLAIN)
    host.vassal(
        "jailed", f"{PLAIN}rootfs = host\nbind = {host.place}/sockets:{host.place}/sockets\n"
    )
    host.start()
    for name in ("shop", "jailed"):
        host.answer(name)
    below = hosting.descendants(host.pid)
    host.emperor.send_signal(signal.SIGKILL)
    host.emperor.wait(10)
    hosting.wait_for(lambda: not any(map(hosting.alive, below)), "end of every process", 10)


@pytest.mark.parametrize("which", ["master", "worker"])
def test_emp05_a_killed_process_comes_back_and_neighbours_stay(host, which):
    for name in ("shop", "other"):
        host.vassal(name, PLAIN)
    host.start()
    neighbour = [
        host.answer("other") and host.master("other"),
        *hosting.children(host.master("other")),
    ]
    host.answer("shop")
    victim = host.master("shop") if which == "master" else hosting.children(host.master("shop"))[0]
    os.kill(victim, signal.SIGKILL)
    hosting.wait_for(lambda: not hosting.alive(victim), "the kill")
    assert host.answer("shop")["pid"] != victim
    assert all(map(hosting.alive, neighbour))


def test_evc01_and_03_set_and_include_reach_every_vassal(host):
    include = host.place / "common.ini"
    include.write_text("[uwsgi]\nenv = SITE=%(domain)\n")
    host.vassal("shop", f"{PLAIN}domain = example.org\n")
    host.start(
        f"vassal-set = processes=2\nvassal-set = env=COLOUR=red\nvassals-include = {include}\n"
    )
    facts = host.answer("shop")
    assert (facts["environ"]["COLOUR"], facts["environ"]["SITE"]) == ("red", "example.org")
    hosting.wait_for(lambda: len(hosting.children(host.master("shop"))) == 2, "two workers")
    command = Path(f"/proc/{host.master('shop')}/cmdline").read_bytes().split(b"\0")[1:-1]
    assert command == [
        b"--set",
        b"processes=2",
        b"--set",
        b"env=COLOUR=red",
        b"--ini",
        b"shop.ini",
        b"--include",
        str(include).encode(),
    ]


def test_tyr_a_file_of_root_is_refused_and_named(host):
    host.vassal("rootly", "")
    path = host.vassal("shop", "")
    os.chown(path, 1000, 1000)
    host.start("emperor-tyrant = true\n")
    host.answer("shop")
    worker = hosting.children(host.master("shop"))[0]
    assert hosting.status(worker)["Uid"].split() == ["1000"] * 4
    assert hosting.status(worker)["Gid"].split() == ["1000"] * 4
    assert "rootly.ini" in host.log()
    assert not host.sock("rootly").exists()


def test_tyr_a_new_owner_restarts_the_vassal_as_the_new_owner(host):
    path = host.vassal("shop", "")
    os.chown(path, 1000, 1000)
    host.start("emperor-tyrant = true\nemperor-freq = 1\n")
    host.answer("shop")
    first = host.master("shop")
    os.chown(path, 1001, 1001)
    hosting.wait_for(lambda: host.master("shop") not in (first, -1, 0), "another process")
    host.answer("shop")
    assert hosting.status(host.master("shop"))["Uid"].split()[0] == "1001"


def test_bin_a_foreign_program_speaks_the_protocol(host):
    journal = host.place / "sockets" / "journal"
    script = host.place / "foreign.py"
    script.write_text(
        "#!/usr/bin/python3\nimport json, os\nfd = int(os.environ['UWSGI_EMPEROR_FD'])\n"
        "os.write(fd, bytes([1, 5, 17, 26]))\n"
        f"log = open('{journal}', 'a', buffering=1)\n"
        "log.write(json.dumps(sorted(int(n) for n in os.listdir('/proc/self/fd'))) + '\\n')\n"
        "byte = os.read(fd, 1)\nlog.write(repr(byte) + '\\n')\n"
    )
    script.chmod(0o755)
    path = host.place / "vassals" / "foreign.ini"
    path.write_text(f"[uwsgi]\nprivileged-binary-patch = {script}\n")
    host.start()
    vassal = hosting.wait_for(
        lambda: next(v for v in host.stats()["vassals"] if v["loyal"] and v["accepting"]),
        "loyalty",
    )
    assert vassal["last_heartbeat"] > 0
    path.unlink()
    lines = hosting.wait_for(
        lambda: len(journal.read_text().split("\n")) > 2 and journal.read_text(), "the stop"
    )
    first, second = lines.split("\n")[:2]
    assert second == repr(b"\0")
    assert len(json.loads(first)) <= 6, f"descriptors leaked into the program: {first}"


def test_thr_a_broken_vassal_delays_nobody_and_is_listed(host):
    broken = host.place / "vassals" / "broken.ini"
    broken.write_text("[uwsgi]\nprivileged-binary-patch-arg = exit 3\n")
    host.start()
    hosting.wait_for(lambda: host.stats()["blacklist"], "the blacklist")
    begin = time.monotonic()
    host.vassal("shop", PLAIN)
    host.answer("shop")
    assert time.monotonic() - begin < 3
    assert host.stats()["blacklist"][0]["id"] == "broken.ini"


def test_esg_sigusr1_lists_vassals_and_sigint_buries_the_emperor(host):
    host.vassal("shop", PLAIN)
    host.start()
    host.answer("shop")
    host.emperor.send_signal(signal.SIGUSR1)
    hosting.wait_for(lambda: "vassal instance shop.ini (last modified " in host.log(), "the line")
    below = hosting.descendants(host.pid)
    host.emperor.send_signal(signal.SIGINT)
    assert host.emperor.wait(10) == 0
    assert not any(map(hosting.alive, below))


def test_imd_glob_and_extra_extension(new_host):
    host = new_host()
    (host.place / "vassals").rmdir()
    (host.place / "vassals" / "a" / "conf").mkdir(parents=True)
    text = (
        f"[uwsgi]\nchdir = {host.place}\nhttp-socket = {host.sock('glob')}\nwsgi-file = app.py\n{PLAIN}"
        "chmod-socket = 666\n"
    )
    (host.place / "vassals" / "a" / "conf" / "uwsgi.ini").write_text(text)
    (host.place / "emperor.ini").write_text(
        f"[uwsgi]\nemperor = {host.place}/vassals/*/conf/uwsgi.ini\nemperor-stats = {host.place}/stats\n"
    )
    with (host.place / "log").open("wb") as log:
        host.emperor = subprocess.Popen(
            [*hosting.DONJON, "--ini", f"{host.place}/emperor.ini"], stdout=log, stderr=log
        )
    host.answer("glob")
    assert host.stats()["vassals"][0]["id"] == f"{host.place}/vassals/a/conf/uwsgi.ini"


def test_a_broken_change_keeps_the_old_application_serving(host):
    path = host.vassal("shop", PLAIN)
    host.start()
    worker = host.answer("shop")["pid"]
    (host.place / "app.py").write_text("def application(:\n")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 2_000_000_000))
    hosting.wait_for(lambda: "SyntaxError" in host.log(), "the error")
    assert host.answer("shop")["pid"] == worker
