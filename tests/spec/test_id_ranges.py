"""``id-range`` under an Emperor: whose ids are whose, seen from the host."""

import json
import os
import signal
import subprocess
from pathlib import Path

import hosting
import pytest

pytestmark = [pytest.mark.root, pytest.mark.userns, pytest.mark.slow]
FIRST = 1 << 30


def maps(pid: int) -> list[list[int]]:
    lines = Path(f"/proc/{pid}/uid_map").read_text().splitlines()
    return [[int(word) for word in line.split()] for line in lines]


def ids(host, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*hosting.DONJON, "ids", "--ledger", str(host.place / "ids"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def owner(path: Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_uid, info.st_gid


def test_each_vassal_has_a_disjoint_range_and_keeps_it_over_restarts(host):
    for name in ("a", "b"):
        host.vassal(name, "id-range = auto\nuid = 33\ngid = 33\n")
    ledger = f"id-range-ledger = {host.place}/ids\nemperor-use-clone = fs,pid,ipc,uts\n"
    host.start(ledger)
    found = {}
    for name in ("a", "b"):
        host.answer(name)
        pid = host.master(name)
        found[name] = maps(pid)
        base = found[name][0][1]
        assert hosting.status(pid)["Uid"].split() == [str(base + 33)] * 4
        assert owner(host.sock(name)) == (base + 33, base + 33)
    assert {tuple(rows[0]) for rows in found.values()} == {
        (0, FIRST, 65536),
        (0, FIRST + 65536, 65536),
    }
    os.utime(host.place / "vassals" / "a.ini")
    listed = json.loads(ids(host, "--json").stdout)
    assert {row["name"]: row["base"] for row in listed} == {
        str(host.place / "vassals" / f"{name}.ini"): rows[0][1] for name, rows in found.items()
    }
    refused = ids(host, "--release", "a.ini")
    assert refused.returncode == 1
    assert "a.ini are in use: by process " in refused.stderr
    (host.place / "vassals" / "a.ini").unlink()
    hosting.wait_for(lambda: len(host.stats()["vassals"]) == 1, "the end of a")
    host.vassal("a", "id-range = auto\nuid = 33\ngid = 33\n")
    hosting.wait_for(lambda: len(host.stats()["vassals"]) == 2, "a again")
    host.answer("a")
    hosting.wait_for(lambda: maps(host.master("a")) == found["a"], "the same ids")
    host.close_emperor()
    assert ids(host, "--release", "b.ini").stdout == (
        f"{host.place}/vassals/b.ini has given ids "
        f"{found['b'][0][1]} to {found['b'][0][1] + 65535} back\n"
    )
    assert len(json.loads(ids(host, "--json").stdout)) == 1


def test_a_customer_owns_his_files_inside_and_is_nobody_elses_neighbour(host):
    home = host.place / "home"
    home.mkdir()
    path = host.vassal("shop", f"hook-as-user = write:{home}/made by me\n")
    for one in (home, path):
        os.chown(one, 20001, 20001)
    (host.place / "stats").touch()
    (host.place / "all.ini").write_text("[uwsgi]\nid-range = auto\n")
    host.start(
        f"emperor-tyrant = true\nid-range-ledger = {host.place}/ids\n"
        f"vassals-include-before = {host.place}/all.ini\n"
        "emperor-use-clone = fs,pid,ipc,uts,user\n"
    )
    host.answer("shop")
    pid = host.master("shop")
    assert hosting.status(pid)["Uid"].split() == ["20001"] * 4
    assert maps(pid) == [
        [0, FIRST, 20001],
        [20001, 20001, 1],
        [20002, FIRST + 20002, 65536 - 20002],
    ]
    assert (home / "made").read_text() == "by me"
    assert owner(home / "made") == (20001, 20001)
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text()


def test_a_customer_cannot_choose_ids(host):
    path = host.vassal("shop", "id-range = 30:10\n")
    os.chown(path, 20001, 20001)
    host.start(f"emperor-tyrant = true\nid-range-ledger = {host.place}/ids\n")
    hosting.wait_for(lambda: "id-range is for the operator only" in host.log(), "the refusal")
    assert not (host.place / "ids").exists()


def test_two_files_cannot_claim_the_same_ids(host):
    host.vassal("a", "id-range = 2000000:65536\n")
    host.start(f"id-range-ledger = {host.place}/ids\n")
    host.answer("a")
    host.vassal("b", "id-range = 2065535:10\n")
    said = (
        "b.ini:7: id-range: ids 2065535 to 2065544 cannot be "
        f"{host.place}/vassals/b.ini's: 2000000 to 2065535 are {host.place}/vassals/a.ini's"
    )
    hosting.wait_for(lambda: said in host.log(), said)
    assert maps(host.master("a")) == [[0, 2000000, 65536]]


def test_root_inside_a_tyrants_user_namespace_without_a_range_is_the_owner(host):
    path = host.vassal("shop", "")
    os.chown(path, 20001, 20001)
    host.start("emperor-tyrant = true\nemperor-use-clone = user\n")
    host.answer("shop")
    assert maps(host.master("shop")) == [[0, 20001, 1]]


def test_an_instance_without_an_emperor_gets_ids_too(host):
    config = host.place / "alone.ini"
    out = host.place / "sockets" / "map"
    config.write_text(
        f"[uwsgi]\nid-range = auto\nid-range-ledger = {host.place}/ids\nuid = 33\ngid = 33\n"
        f"unshare = uts\nchdir = {host.place}\nhttp-socket = {host.sock('alone')}\n"
        f"wsgi-file = app.py\nmaster = true\nexec-as-user = cat /proc/self/uid_map > {out}\n"
    )
    shown = subprocess.run(
        [*hosting.DONJON, "plan", str(config)], capture_output=True, text=True, check=True
    ).stdout
    assert f"root inside is uid {FIRST} and gid {FIRST} of the host, the first of 65536" in shown
    assert not (host.place / "ids").exists()
    with (host.place / "log").open("wb") as log:
        instance = subprocess.Popen([*hosting.DONJON, str(config)], stdout=log, stderr=log)
    try:
        hosting.wait_for(lambda: hosting.ask(host.sock("alone")), "an answer")
        assert out.read_text().split() == ["0", str(FIRST), "65536"]
        assert hosting.status(instance.pid)["Uid"].split() == [str(FIRST + 33)] * 4
        assert (host.place / "ids").read_text().splitlines()[1] == f"{FIRST} 65536 {config}"
    finally:
        instance.send_signal(signal.SIGINT)
        assert instance.wait(30) == 0


def test_a_vassal_that_is_executed_finds_itself_among_its_ids(host):
    host.vassal("shop", "id-range = auto\nuid = 33\ngid = 33\n")
    host.start(f"emperor-spawn = exec\nid-range-ledger = {host.place}/ids\n")
    host.answer("shop")
    pid = host.master("shop")
    assert maps(pid) == [[0, FIRST, 65536]]
    assert hosting.status(pid)["Uid"].split() == [str(FIRST + 33)] * 4
