"""``donjon audit`` and ``donjon seccomp``, beside real vassals: tight, loose, and one that learns."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hosting import Host, own_namespaces, wait_for

from donjon.verbs.auditing import checks, facts, inside
from donjon.verbs.auditing.checks import Verdict

pytestmark = pytest.mark.root
FIVE = "fs,ipc,pid,uts,net"


@pytest.fixture(scope="module")
def host():
    one = Host(Path(tempfile.mkdtemp(prefix="donjon-audit.")))
    sockets = f"bind = {one.place}/sockets:{one.place}/sockets\n"
    (one.place / "sockets" / "record").touch()
    try:
        jail = f"uid = 10021\ngid = 10021\nrootfs = host\nunshare = net\n{sockets}"
        one.vassal("tight", f"{jail}landlock = auto\nemperor-use-clone = {FIVE}\n")
        one.vassal("loose", "seccomp = off\nno-new-privs = false\nkeep-keyring = true\n")
        one.vassal("learner", f"{jail}seccomp = learn:{one.place}/learned\n")
        one.start(f"emperor-control = {one.place}/control\nemperor-use-clone = fs,ipc,pid,uts\n")
        for name in ("tight", "loose", "learner"):
            one.answer(name)
        yield one
    finally:
        one.close()


def audited(ask, *words):
    done = ask("audit", "--json", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found, {one["name"]: one for one in found["findings"]}


def test_a_tight_jail_scores_high_and_says_what_is_left(ask):
    found, by_name = audited(ask, "tight")
    weak = {name for name, one in by_name.items() if one["good"] is False}
    assert weak == {
        "a user namespace of its own",
        "a cgroup namespace of its own",
        "a control group of its own",
        "memory is limited",
        "processes are limited",
    }
    assert found["score"] >= 85
    assert len(found["pids"]) >= 2


def test_nothing_is_possible_from_inside_a_tight_jail(ask):
    _, by_name = audited(ask, "tight")
    tried = {one["name"]: one for one in by_name.values() if one["area"] == inside.AREA}
    assert len(tried) == len(inside.ATTEMPTS)
    assert all(one["good"] is True for one in tried.values()), tried
    assert tried["mount a file system"]["detail"] == "refused: EPERM"
    assert tried["read the password hashes"]["detail"] == "refused: ENOENT"


def test_nothing_is_possible_from_inside_a_user_namespace(donjon):
    one = Host(Path(tempfile.mkdtemp(prefix="donjon-audit.")))
    try:
        bind = f"bind = {one.place}/sockets:{one.place}/sockets\n"
        one.vassal("mapped", f"uid = 10022\ngid = 10022\nrootfs = host\n{bind}")
        one.start(f"emperor-control = {one.place}/control\nemperor-use-clone = {FIVE},user\n")
        one.answer("mapped")
        assert "user" in own_namespaces(one.master("mapped"))
        done = donjon("audit", "--json", "--control", one.place / "control", "mapped")
        found = json.loads(done.stdout)["findings"]
    finally:
        one.close()
    tried = [one for one in found if one["area"] == inside.AREA]
    assert [one for one in tried if one["good"] is not True] == []
    good = {one["name"] for one in found if one["good"]}
    assert {"a user namespace of its own", "no process is root on the host"} <= good


def test_a_loose_vassal_is_told_all_that_weakens_it(ask):
    found, by_name = audited(ask, "loose")
    weak = {name for name, one in by_name.items() if one["good"] is False}
    assert {
        "no process is root on the host",
        "no process has root's group",
        "programs give no privileges",
        "system calls are filtered",
        "a root of its own",
        "a net namespace of its own",
        "read the password hashes",
        "become root",
    } <= weak
    assert by_name["system calls are filtered"]["advice"] == "leave seccomp out"
    assert found["score"] < 50
    assert found["word"] == "weak"


def test_people_read_a_line_a_check_and_the_score(ask):
    done = ask("audit", "loose")
    assert done.returncode == 0
    assert "  weak 10  no process is root on the host: pid " in done.stdout
    assert "           -> set uid\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("score ")


def test_a_score_that_is_too_low_is_a_failure(ask):
    assert ask("audit", "loose", "--at-least", "60").returncode == 1
    assert ask("audit", "tight", "--at-least", "60").returncode == 0


def test_looking_alone_sends_nobody_in(ask):
    _, by_name = audited(ask, "tight", "--outside")
    assert inside.AREA not in {one["area"] for one in by_name.values()}


def test_an_audit_leaves_no_process_and_no_mount_inside(ask, host):
    before = Path(f"/proc/{host.master('tight')}/mountinfo").read_text()
    pids, _ = audited(ask, "tight")
    again, _ = audited(ask, "tight")
    assert pids["pids"] == again["pids"]
    assert Path(f"/proc/{host.master('tight')}/mountinfo").read_text() == before


def test_a_process_without_an_emperor_is_audited_by_its_number(donjon):
    done = donjon("audit", "--json", str(os.getpid()))
    found = json.loads(done.stdout)
    assert os.getpid() in found["pids"]
    assert found["score"] < 50


def test_what_does_not_run_cannot_be_audited(ask, donjon):
    assert ask("stop", "loose").returncode == 0
    wait_for(lambda: "does not run" in ask("audit", "loose").stderr, "the end of loose")
    done = donjon("audit", "4194305")
    assert done.stderr == "donjon: there is no process 4194305\n"
    assert done.returncode == 1


def test_a_descriptor_of_the_hosts_files_is_found(tmp_path):
    """A vassal that was handed a directory of the host's: the mount is none of its own."""
    mount = facts.Mount(99, "/", frozenset({"ro"}), "tmpfs")
    assert list(facts._foreign(os.getpid(), frozenset({mount.number}))) != []
    with (tmp_path / "x").open("w"):
        own = frozenset(one.number for one in facts._mounts(os.getpid()))
        assert not [item for item in facts._foreign(os.getpid(), own) if str(tmp_path) in item]


def test_the_score_is_the_part_of_what_was_tried():
    rows = [
        Verdict("a", "b", True, 3),
        Verdict("a", "c", False, 1),
        Verdict("a", "d", None, 96),
    ]
    assert checks.score(rows) == 75
    assert [checks.word(points) for points in (100, 89, 74, 49)] == [
        "tight", "good", "open in places", "weak",
    ]  # fmt: skip


def test_each_check_has_a_name_of_its_own_and_an_advice():
    names = [one.name for one in checks.CHECKS] + [one.name for one in inside.ATTEMPTS]
    assert len(names) == len(set(names))
    assert all(one.advice and one.weight > 0 for one in (*checks.CHECKS, *inside.ATTEMPTS))


# -- learning ---------------------------------------------------------------------------------------


def test_a_vassal_that_learned_is_proposed_a_line(ask, host, donjon):
    done = ask("seccomp", "learner")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    assert line.startswith("seccomp = strict")
    assert "+namespaces" not in line
    found = json.loads(ask("seccomp", "--json", "learner").stdout)
    assert "accept4" in found["groups"]["network"] or "accept" in found["groups"]["network"]
    assert donjon("seccomp", host.place / "learned").stdout == done.stdout


def test_the_proposed_line_serves(ask, host):
    line = ask("seccomp", "learner").stdout.splitlines()[-1]
    jail = f"bind = {host.place}/sockets:{host.place}/sockets\nrootfs = host\n"
    host.vassal("narrow", f"uid = 10021\ngid = 10021\n{jail}{line}\n")
    try:
        assert host.answer("narrow")["hostname"] == os.uname().nodename
    finally:
        (host.place / "vassals" / "narrow.ini").unlink()


def test_who_does_not_learn_has_nothing_to_propose(ask, donjon):
    done = ask("seccomp", "tight")
    assert done.stderr == "donjon: tight does not learn (seccomp = learn, and a reload)\n"
    done = donjon("seccomp", "/nowhere")
    assert done.stderr.startswith("donjon: cannot read /nowhere: No such file or directory")
