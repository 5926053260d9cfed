"""``check`` and ``plan``: every problem with its line; every step with who asked for it."""

import json
import tempfile
from pathlib import Path

import pytest


def test_a_good_file_is_ok(donjon, ini):
    path = ini("master = true")
    done = donjon("check", path)
    assert (done.returncode, done.stdout) == (0, f"{path}: ok\n")


def test_every_problem_is_shown_with_its_line(donjon, ini):
    path = ini("processes = many", "threads = few", "procesess = 2", "cheaper = 2")
    done = donjon("check", path)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith(f"{path}:2: error: cannot use processes = many")
    assert lines[1].startswith(f"{path}:3: error: cannot use threads = few")
    assert lines[2] == (
        f"{path}:4: warning: procesess is not an option, so it is only a placeholder"
        " (did you mean processes?)"
    )


@pytest.mark.parametrize("port", ["65536", "99999", "http", "-1"])
def test_a_port_that_cannot_be_is_a_problem_of_its_line(donjon, ini, port):
    path = ini("master = true", f"http-socket = 127.0.0.1:{port}")
    done = donjon("check", path)
    assert done.returncode == 1
    assert done.stdout == (
        f"{path}:3: error: cannot listen on 127.0.0.1:{port}:"
        f" '{port}' is no port: ports are numbers from 0 to 65535\n"
    )


@pytest.mark.root
@pytest.mark.parametrize(
    ("source", "mode", "reason"),
    [
        (None, 0, "No such file or directory"),
        ("def application(:\n", 0o644, "line 1: invalid syntax"),
        ("application = 1\n", 0o600, "is closed to uid 33"),
        ("application = 1\0\n", 0o644, "null bytes"),
        ("application = '\\d'\n", 0o644, ""),
    ],
)
def test_an_application_that_cannot_load_is_a_warning(donjon, ini, source, mode, reason):
    with tempfile.TemporaryDirectory(prefix="donjon-check.") as folder:
        app = Path(folder, "app.py")
        app.parent.chmod(0o755)
        if source is not None:
            app.write_text(source)
            app.chmod(mode)
        path = ini("uid = 33", "gid = 33", f"wsgi-file = {app}")
        done = donjon("check", path)
    assert (done.returncode, done.stderr) == (0, "")
    if reason:
        assert done.stdout.startswith(f"{path}:4: warning: cannot load {app}: ")
        assert reason in done.stdout
    else:
        assert done.stdout == f"{path}: ok\n"


def test_warnings_alone_are_no_failure_unless_asked(donjon, ini):
    path = ini("procesess = 2")
    assert donjon("check", path).returncode == 0
    assert donjon("check", "--strict", path).returncode == 1


def test_several_files_are_checked(donjon, ini):
    good, bad = ini("master = true"), ini("processes = x", name="bad.ini")
    done = donjon("check", good, bad, "missing.ini")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        str(good),
        str(bad),
        "missing.ini",
    ]


def test_of_a_directory_each_configuration_is_checked(donjon, ini, tmp_path):
    bad = ini("processes = x", name="bad.ini")
    ini("master = true", name="notes.txt")
    good = ini("master = true", name="good.ini")
    done = donjon("check", tmp_path)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [str(bad), str(good)]


def test_problems_for_programs_are_values(donjon, ini):
    path = ini("procesess = 2")
    (problem,) = json.loads(donjon("check", "--json", path).stdout)
    assert problem == {
        "file": str(path),
        "line": 2,
        "option": "",
        "severity": "warning",
        "what": "procesess is not an option, so it is only a placeholder",
        "reason": "",
        "hint": "did you mean processes?",
    }


def test_what_the_jail_refuses_is_a_problem(donjon, ini):
    path = ini("uid = no-such-user-here", "rootfs = /no/such/root")
    done = donjon("check", path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}:2: error: uid: unknown user")


def test_what_the_jail_refuses_is_shown_beside_other_errors(donjon, ini):
    path = ini("processes = many", "memory-report = true", "uid = no-such-user-here")
    done = donjon("check", path)
    assert [line.split(":")[:3] for line in done.stdout.splitlines()] == [
        [str(path), "2", " error"],
        [str(path), "3", " warning"],
        [str(path), "4", " error"],
    ]
    assert done.stderr == ""


def test_every_hook_that_is_none_is_shown_in_its_place(donjon, ini):
    path = ini("hook-asap = nosuch:x", "processes = many", "hook-as-user = nosuch:y")
    done = donjon("check", path)
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == ["2", "3", "4"]


def test_a_customers_file_may_not_use_the_operators_keys(donjon, ini):
    path = ini("uid = root")
    assert donjon("check", path).returncode == 0
    done = donjon("check", "--customer", path)
    assert done.returncode == 1
    assert f"{path}:2: error: uid is for the operator only" in done.stdout


def test_a_command_in_a_file_runs_only_when_allowed(donjon, ini, tmp_path):
    path = ini(f"env = A=@(exec://touch {tmp_path}/made)")
    done = donjon("check", path)
    assert "--open allows it" in done.stdout
    assert not (tmp_path / "made").exists()
    donjon("check", "--open", path)
    assert (tmp_path / "made").exists()


def test_options_of_the_users_environment_do_not_count(donjon, ini):
    done = donjon("check", ini("master = true"), UWSGI_PROCESSES="many")
    assert done.returncode == 0


def test_placeholders_are_set_as_an_emperor_does(donjon, ini):
    path = ini("processes = %(count)")
    assert donjon("check", path).returncode == 1
    assert donjon("check", "--set", "count=3", path).returncode == 0


# -- plan ------------------------------------------------------------------------------------------


def test_a_plan_names_phase_line_and_step(donjon, ini):
    path = ini("unshare = uts", "hostname = shop", "uid = nobody", "hook-as-user = print:hello")
    done = donjon("plan", path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["PHASE", "ASKED", "FOR", "BY", "STEP"]
    assert any(f"{path}:3: hostname" in line and "shop" in line for line in lines)
    assert lines[-1].startswith("as-user")
    assert f"{path}:5: hook-as-user" in lines[-1]


def test_a_plan_for_programs_is_values(donjon, ini):
    path = ini("uid = nobody")
    steps = json.loads(donjon("plan", "--json", path).stdout)
    assert {"phase", "description", "origin"} == set(steps[0])
    assert {"source": str(path), "line": 2, "option": "uid"} in [s["origin"] for s in steps]


def test_a_plan_is_done_by_nobody(donjon, ini, tmp_path):
    path = ini(f"hook-asap = creat:{tmp_path}/made")
    assert donjon("plan", path).returncode == 0
    assert not (tmp_path / "made").exists()


def test_a_vassal_born_in_a_mount_namespace_makes_it_private_first(donjon, ini):
    path = ini("master = true")
    assert "as-vassal" not in donjon("plan", path).stdout
    assert donjon("plan", "--clone", "fs,pid", path).stdout.splitlines()[1].startswith("as-vassal")


def test_an_unknown_namespace_is_refused(donjon, ini):
    done = donjon("plan", "--clone", "moon", ini("master = true"))
    assert done.returncode == 1
    assert "moon" in done.stderr


def test_a_plan_of_a_bad_file_is_one_line(donjon, ini):
    done = donjon("plan", ini("processes = many"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_long_step_wraps_on_a_terminal(terminal, ini):
    ini("uid = nobody", "rootfs = host", "unshare = fs")
    status, text = terminal("plan", "app.ini")
    assert status == 0
    assert [line for line in text.splitlines()[1:] if len(line) > 80] == []


@pytest.mark.parametrize("verb", ["plan", "check"])
def test_what_is_written_in_a_file_cannot_command_the_terminal(terminal, ini, verb):
    path = ini("hook-as-user = print:a\x1b]0;title\x07b", "processes = \x1b[2J")
    _, text = terminal(verb, path)
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f"http-socket = /run/{'x' * 130}", ":2: error: http-socket: cannot listen on"),
        (
            "http-socket = /run/a\nchown-socket = nosuch",
            ":2: error: http-socket: cannot give /run/a",
        ),
        ("id-range = 4294967290:65536", ":2: error: id-range: ids 4294967290"),
    ],
)
def test_what_would_fail_at_the_start_is_known_before(donjon, ini, lines, said):
    path = ini(*lines.split("\n"))
    done = donjon("check", path)
    assert done.returncode == 1
    assert f"{path}{said}" in done.stdout
