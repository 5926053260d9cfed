"""The verbs that ask a running Emperor, beside two real vassals."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hosting import DONJON, Host, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host():
    one = Host(Path(tempfile.mkdtemp(prefix="donjon-cli.")))  # readable by the vassals' uids
    try:
        one.vassal("blog", "uid = 10011\ngid = 10011\n")
        one.vassal("shop", "uid = 10012\ngid = 10012\nhostname = shop\n")
        one.start(f"emperor-control = {one.place}/control\nemperor-use-clone = uts,ipc\n")
        for name in ("blog", "shop"):
            one.answer(name)
        yield one
    finally:
        one.close()


def rows(ask):
    return {row["name"]: row for row in json.loads(ask("ls", "--json").stdout)}


def test_ls_has_a_line_a_vassal(ask):
    done = ask("ls")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:4] == ["NAME", "STATE", "PID", "UID"]
    assert [line[0] for line in lines[1:]] == ["blog.ini", "shop.ini"]
    assert all("running" in line[1] for line in lines[1:])


def test_ls_shows_who_a_vassal_is_now(ask, host):
    shown = [line.split() for line in ask("ls").stdout.splitlines()[1:]]
    pids = [str(host.master(name)) for name in ("blog", "shop")]
    uids = [line[line.index(pid) + 1] for line, pid in zip(shown, pids, strict=True)]
    assert uids == ["10011", "10012"]


def test_ls_for_programs_is_values(ask, host):
    found = rows(ask)
    assert found["blog.ini"]["pid"] == host.master("blog")
    assert found["blog.ini"]["path"] == str(host.place / "vassals" / "blog.ini")


def test_show_tells_all_of_one(ask, host):
    done = ask("show", "shop")
    assert done.returncode == 0
    assert done.stdout.startswith("shop.ini\n")
    assert "  born in:  ipc uts\n" in done.stdout
    assert "hostname = shop  [shop.ini:" in done.stdout
    assert "set the host name to shop" in done.stdout


def test_show_for_programs_is_values(ask):
    row = json.loads(ask("show", "--json", "shop.ini").stdout)
    assert row["clone"] == ["ipc", "uts"]


def test_an_unknown_vassal_is_one_line(ask):
    done = ask("show", "nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("donjon: no vassal nobody (known are: ")


def test_reload_keeps_the_pid(ask, host):
    before = host.master("blog")
    worker = host.answer("blog")["pid"]
    done = ask("reload", "blog")
    assert (done.returncode, done.stdout) == (0, "blog.ini is told to reload\n")
    wait_for(lambda: host.answer("blog")["pid"] != worker, "new worker")
    assert host.master("blog") == before


def test_stop_and_start(ask, host):
    before = host.master("blog")
    assert ask("stop", "blog.ini").returncode == 0
    wait_for(lambda: rows(ask)["blog.ini"]["pid"] <= 0, "end of the vassal")
    assert "accepting" not in ask("ls").stdout.splitlines()[1]
    assert ask("start", "blog.ini").returncode == 0
    host.answer("blog")
    assert wait_for(lambda: host.master("blog"), "new vassal") != before


def test_an_order_for_several_tells_the_others_too(ask, host):
    done = ask("reload", "nobody", "shop")
    assert done.returncode == 1
    assert done.stdout == "shop.ini is told to reload\n"
    assert "no vassal nobody" in done.stderr
    host.answer("shop")


def test_an_order_for_nobody_is_wrong_usage(ask):
    assert ask("stop").returncode == 2
    assert ask("stop", "--all", "shop").returncode == 2


def test_logs_show_the_last_lines(ask):
    done = ask("logs", "-n", "3", "shop")
    assert done.returncode == 0
    assert 0 < len(done.stdout.splitlines()) <= 3


def test_logs_follow_until_interrupted(host):
    with subprocess.Popen(
        [*DONJON, "logs", "-f", "-n", "0", "shop", "--control", str(host.place / "control")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.set_blocking(process.stdout.fileno(), False)

        def heard():
            host.answer("shop")
            return process.stdout.readline()

        assert "GET /" in wait_for(heard, "a line")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


def test_top_in_a_pipe_is_one_table(ask):
    done = ask("top", "--interval", "0.1")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["NAME", "CPU%", "MEMORY", "PROCESSES", "PID", "STATE"]
    assert {line[0] for line in lines[1:]} == {"blog.ini", "shop.ini"}


def test_top_for_programs_counts_master_and_worker(ask):
    uses = json.loads(ask("top", "--interval", "0.1", "--json").stdout)
    assert {use["name"]: use["processes"] for use in uses} == {"blog.ini": 2, "shop.ini": 2}
    assert all(use["memory"] > 100_000 for use in uses)


def test_top_on_a_terminal_goes_on_until_interrupted(terminal, host):
    status, shown = terminal(
        "top",
        "--interval",
        "0.1",
        "--control",
        host.place / "control",
        keys=b"\x03",
        until=b"shop",
    )
    assert status == 0
    assert "\x1b[H\x1b[2J2 vassals" in shown


def test_ls_on_a_terminal_has_a_bold_head(terminal, host):
    status, shown = terminal("ls", "--control", host.place / "control")
    assert status == 0
    assert shown.startswith("\x1b[1mNAME")


def test_no_colour_where_the_user_wants_none(terminal, host):
    _, shown = terminal("ls", "--control", host.place / "control", NO_COLOR="1")
    assert "\x1b" not in shown


def test_a_plan_is_compared_with_the_running_vassal(ask, host):
    path = host.place / "vassals" / "shop.ini"
    same = ask("plan", path, "--diff", "shop.ini")
    assert (same.returncode, same.stdout) == (0, "")
    other = host.place / "other.ini"
    other.write_text(path.read_text().replace("hostname = shop", "hostname = moved"))
    changed = ask("plan", other, "--diff", "shop.ini")
    assert changed.returncode == 1
    assert "set the host name to moved" in changed.stdout


def test_the_socket_is_roots(host, tmp_path):
    control = host.place / "control"
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    done = subprocess.run(
        [sys.executable, "-m", "donjon", "ls", "--control", str(control)],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    assert done.returncode == 1
    assert "Permission denied (only root may ask)" in done.stderr


def test_the_verb_emperor_governs_a_directory(donjon, tmp_path):
    (tmp_path / "vassals").mkdir()
    control = tmp_path / "control"
    words = ["emperor", tmp_path / "vassals", "--emperor-control", control]
    with subprocess.Popen([*DONJON, *map(str, words)], stderr=subprocess.DEVNULL) as process:
        try:
            done = wait_for(lambda: _answered(donjon("ls", "--control", control)), "Emperor")
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert done.stdout.split()[:2] == ["NAME", "STATE"]
    assert not control.exists()


def _answered(done):
    return done if done.returncode == 0 else None


def test_no_emperor_is_one_line(donjon, tmp_path):
    done = donjon("ls", "--control", tmp_path / "nothing")
    assert done.returncode == 1
    assert done.stderr == (
        f"donjon: cannot reach the Emperor on {tmp_path}/nothing:"
        " No such file or directory (is an Emperor running?)\n"
    )
