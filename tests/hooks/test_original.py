"""The same hooks under the original and under donjon leave the same things behind."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.uwsgi]

PROGRAMS = {
    "uwsgi": [shutil.which("uwsgi") or "uwsgi", "--ini"],
    "donjon": [sys.executable, "-P", "-m", "donjon", "--ini"],
}


@pytest.fixture
def place():
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="donjon-hooks-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def run(program, folder, lines):
    """Run to the end in an empty directory; return exit status and what is left in it."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.chmod(work, 0o777)
    ini = folder / "a.ini"
    ini.write_text("[uwsgi]\n" + "".join(f"{line}\n" for line in lines))
    ended = subprocess.run(
        [*PROGRAMS[program], str(ini)], cwd=work, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False,
    )  # fmt: skip
    return ended.returncode, dict(facts(work)), ended.stdout


def facts(work):
    for path in sorted(work.rglob("*")):
        info = path.lstat()
        text = path.read_text() if stat.S_ISREG(info.st_mode) else ""
        yield str(path.relative_to(work)), (oct(info.st_mode), info.st_uid, info.st_gid, text)


ACTIONS = [
    ["creat:a", "create:b", "write:c one  two", "writen:d line", "append:d more", "appendn:d",
     "appendn:d last", "unlink:a"],
    ["mkdir:x", "chmod:x 751", "sticky:x", "creat:x/y", "chmod:x/y 640", "chown:x/y www-data daemon",
     "chown2:x 12 34", "cd:x", "write:z here"],
    ["putenv:COLOUR=deep blue", "exec:echo $COLOUR > out", "safeexec:exit 3", "exec:id >> out"],
    ["callint:umask 63", "creat:a", "callret:unlink a", "call:sync", "creat:b"],
    ["creat:a", "callret:unlink nothing", "creat:never"],
    ["exec:exit 9", "creat:never"],
    ["chmod:nothing 644", "creat:never"],
    ["mkdir:x", "mkdir:x", "creat:never"],
    ["write:/nonexistent/x y", "creat:never"],
    ["umount:/nonexistent", "creat:never"],
    ["cd:/nonexistent", "creat:never"],
    ["exit:17", "creat:never"],
    ["exec:mkfifo f", "writefifo:f nobody", "creat:after"],
    ["mkdir:m", "mount:tmpfs none m nosuid,noexec size=1m,mode=711",
     "exec:findmnt -no VFS-OPTIONS m > out; stat -c %%a m >> out", "umount:m", "exec:ls -ld m | wc -l"],
]  # fmt: skip


@pytest.mark.parametrize("actions", ACTIONS, ids=lambda actions: actions[0])
def test_actions_leave_the_same_files_and_exit_status(place, actions):
    lines = [f"hook-asap = {action}" for action in (*actions, "exit:42")]
    expected, actual = (run(program, place, lines)[:2] for program in PROGRAMS)
    assert actual == expected


@pytest.mark.parametrize("phase", ["asap", "pre-jail", "in-jail", "as-root", "as-user"])
@pytest.mark.parametrize("kind", ["hook", "exec", "call"])
def test_a_failure_in_a_phase_ends_the_same_way(place, phase, kind):
    value = {"hook": "exec:exit 3", "exec": "exit 3", "call": "no_such_function"}[kind]
    lines = [
        "uid = www-data",
        "gid = www-data",
        f"{kind}-{phase} = {value}",
        f"hook-{phase} = append:out {phase},",
    ]
    lines += ["hook-pre-app = exit:42", "socket = @donjon-hooks"]
    expected, actual = (run(program, place, lines)[:2] for program in PROGRAMS)
    assert actual == expected


@pytest.mark.parametrize(
    "options", [[], ["uid = www-data"], ["uid = www-data", "jailed = true"]], ids=str
)
def test_the_families_and_phases_come_in_the_same_order(place, options):
    phases = ("asap", "pre-jail", "in-jail", "post-jail", "as-root", "as-user", "pre-app")
    lines = [*options, "socket = @donjon-hooks"]
    for phase in phases:
        lines.append(f"exec-{phase} = echo exec-{phase} $(id -u) >> out; chmod -f 666 out || true")
        lines.append(f"hook-{phase} = exec:echo hook-{phase} $(id -u) >> out")
    lines.append("exec-pre-app = exit 5")
    expected, actual = (run(program, place, lines)[1]["out"][3] for program in PROGRAMS)
    if not options:  # the original runs the privilege phase again and again while it is root
        expected = "\n".join(dict.fromkeys(expected.split("\n")))
    assert actual.split() == expected.split()


def test_both_run_the_last_hooks_at_the_end_only(place):
    left = {}
    for program, command in PROGRAMS.items():
        out = place / f"{program}.out"
        ini = place / "a.ini"
        ini.write_text(
            "[uwsgi]\nmaster = true\nsocket = @donjon-hooks\n"
            f"hook-accepting1 = exec:echo on > {place}/fifo\n"
            f"hook-as-user-atexit = append:{out} hook,\nexec-as-user-atexit = echo exec >> {out}\n"
        )
        os.mkfifo(place / "fifo")
        with subprocess.Popen(
            [*command, str(ini)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert (place / "fifo").read_text() == "on\n"
            assert not out.exists()
            process.send_signal(signal.SIGINT)
        left[program] = (process.returncode, out.read_text())
        os.unlink(place / "fifo")
    assert left["donjon"] == left["uwsgi"]
