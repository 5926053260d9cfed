"""Each row of the action table, on real files, fifos, sockets, processes and mounts."""

import ctypes
import errno
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from donjon import syscalls
from donjon.errors import HookError
from donjon.hooks import runner
from donjon.hooks.action import Facts
from donjon.hooks.actions import ACTIONS, suggest
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.jail.step import Context

ORIGINAL = """
    cd chdir mkdir putenv chmod chown chown2 sticky exec safeexec create creat write
    writen append appendn writefifo spinningfifo unlink mount umount call callret
    callint callintret unix_signal hostname alarm rpc retryrpc wait_for_fs
    wait_for_file wait_for_dir wait_for_socket exit print log
"""

FACTS = Facts(wait_for_fs_timeout=5, wait_for_socket_timeout=5)


def do(text, *, kind=Kind.HOOK, phase=Phase.ASAP, facts=FACTS, context=None):
    runner.step(Hook(phase, kind, text), facts).execute(context or Context())


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_each_row_has_help_and_parses_its_own_example(name):
    row = ACTIONS[name]
    assert row.help.endswith(".")
    assert row.usage
    if row.name == "rpc":
        with pytest.raises(ValueError, match="not built yet"):
            row.parse(row.example)
    else:
        assert row.parse(row.example)


def test_the_actions_of_the_original_are_all_there():
    assert set(ORIGINAL.split()) <= set(ACTIONS)


def test_an_unknown_action_gets_a_suggestion():
    assert suggest("unlnk") == "unlink"
    with pytest.raises(HookError, match=r"unknown hook action unlnk \(did you mean unlink\?\)"):
        do("unlnk:/x")


@pytest.mark.parametrize(
    "text", ["nocolon", "mkdir:", "chmod:/x 9", "chmod:/x 77777", "chown:/x nobody_at_all root",
             "chown2:/x root root", "putenv:X", "exit:nine", "exit:256", "mount:tmpfs none",
             "umount:", "callint:umask x", "unix_signal:99 abort", "py:os", "rpc:x", "exec:"]
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_before_it_runs(text):
    with pytest.raises(HookError):
        runner.step(Hook(Phase.ASAP, Kind.HOOK, text), FACTS)


def test_text_is_written_and_appended_to_the_letter(tmp_path):
    path = tmp_path / "file"
    do(f"write:{path} one  two")
    assert path.read_text() == "one  two"
    do(f"append:{path}  three")
    assert path.read_text() == "one  two three"
    do(f"writen:{path} line")
    do(f"appendn:{path}")
    do(f"appendn:{path} last")
    assert path.read_text() == "line\n\nlast\n"
    do(f"creat:{path}")
    assert path.read_text() == ""
    do(f"unlink:{path}")
    assert not path.exists()


def test_modes_keep_what_is_not_named(tmp_path):
    path = tmp_path / "dir"
    do(f"mkdir:{path}")
    do(f"chmod:{path} 751")
    do(f"sticky:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o1751
    do(f"chmod:{path} 0750")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


@pytest.mark.root
def test_owners_are_set_by_name_and_by_number(tmp_path):
    path = tmp_path / "file"
    path.touch()
    do(f"chown:{path} www-data daemon")
    assert (path.stat().st_uid, path.stat().st_gid) == (33, 1)
    do(f"chown2:{path} 12 34")
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)
    do(f"chown:{path} $WHO daemon", context=Context(variables={"WHO": "www-data"}))
    assert path.stat().st_uid == 33


def test_variables_are_replaced_after_the_words_were_split(tmp_path, monkeypatch):
    monkeypatch.setenv("BLANKS", "a b")
    path = tmp_path / "out"
    do(f"write:{path} $BLANKS ${{BLANKS}} $NOT_SET_ANYWHERE $")
    assert path.read_text() == "a b a b $NOT_SET_ANYWHERE $"
    do("mkdir:$WHERE/$BLANKS", context=Context(variables={"WHERE": str(tmp_path)}))
    assert (tmp_path / "a b").is_dir()


def test_a_shell_gets_its_line_untouched_and_the_variables_of_the_start(tmp_path):
    out = tmp_path / "out"
    do(f"exec:X='$NAME'; echo \"$X $NAME\" > {out}", context=Context(variables={"NAME": "n"}))
    assert out.read_text() == "$NAME n\n"


def test_a_command_fails_by_status_and_by_signal():
    with pytest.raises(HookError, match="exit status 5"):
        do("exec:exit 5")
    with pytest.raises(HookError, match="ended by signal 9"):
        do("exec:kill -9 $$")
    do("safeexec:exit 5")


def test_a_command_inherits_no_descriptor_and_no_blocked_or_ignored_signal(tmp_path):
    out = tmp_path / "out"
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        do(f"exec:ls /proc/self/fd > {out}; grep -E 'Sig(Blk|Ign)' /proc/self/status >> {out}")
    finally:
        signal.signal(signal.SIGHUP, old)
        os.close(kept)
    lines = out.read_text().split("\n")
    assert lines[:4] == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    assert not lines[4].isdigit()
    blocked, ignored = (int(word, 16) for word in re.findall(r"\t(\w+)", out.read_text()))
    # 32 and 33 are the C library's own (nptl(7)): who ran the tests may have them ignored, and
    # sigaction(3) refuses to change that
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_a_command_dies_with_the_process_that_ran_it(tmp_path):
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)
    script = textwrap.dedent(f"""
        from donjon.hooks import runner
        from donjon.hooks.spec import Hook, Kind
        from donjon.jail.phase import Phase
        from donjon.jail.step import Context
        line = "exec:echo $$ > {pid_file}; exec sleep 60"
        runner.steps([Hook(Phase.ASAP, Kind.HOOK, line)])[0].execute(Context())
    """)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as parent:
        pid = int(pid_file.read_text())
        handle = os.pidfd_open(pid)
        try:
            parent.kill()
            assert wait_readable(handle)
        finally:
            os.close(handle)


def wait_readable(number, seconds=5.0):
    return bool(select.select([number], [], [], seconds)[0])


def test_putenv_cd_and_exit_act_on_this_process(tmp_path, monkeypatch):
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.chdir("/")
    do("putenv:COLOUR=deep blue")
    assert os.environ["COLOUR"] == "deep blue"
    do(f"cd:{tmp_path}")
    assert os.getcwd() == str(tmp_path)
    for text, code in (("exit:", 0), ("exit:5", 5), ("exit:17", 17)):
        with pytest.raises(SystemExit) as leaving:
            do(text)
        assert leaving.value.code == code


def test_a_fifo_without_a_reader_is_no_failure_and_can_be_waited_for(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    do(f"writefifo:{fifo} nobody")
    spinning = threading.Thread(target=do, args=(f"spinningfifo:{fifo}  hello",))
    spinning.start()
    assert fifo.read_text() == " hello"
    spinning.join()


def test_a_full_or_missing_fifo_is_a_failure(tmp_path):
    with pytest.raises(HookError, match="No such file"):
        do(f"writefifo:{tmp_path}/none x")


def test_waiting_ends_when_the_right_thing_appears(tmp_path):
    late = tmp_path / "late"
    for action, make, spoil in (
        ("wait_for_file", late.touch, late.mkdir),
        ("wait_for_dir", late.mkdir, late.touch),
        ("wait_for_fs", late.touch, None),
    ):
        if spoil:
            spoil()
            with pytest.raises(HookError, match="was not there within 0 seconds"):
                do(f"{action}:{late}", facts=Facts(wait_for_fs_timeout=0))
            late.rmdir() if late.is_dir() else late.unlink()
        waiting = threading.Thread(target=do, args=(f"{action}:{late}",))
        waiting.start()
        make()
        waiting.join(5)
        assert not waiting.is_alive()
        late.rmdir() if late.is_dir() else late.unlink()


def test_waiting_for_a_socket_wants_somebody_who_accepts(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as other:
        server.bind(path)
        with pytest.raises(HookError, match="was not there"):
            do(f"wait_for_socket:{path}", facts=Facts(wait_for_socket_timeout=0))
        server.listen()
        do(f"wait_for_socket:{path}")
        other.bind(("127.0.0.1", 0))
        other.listen()
        do(f"wait_for_socket:127.0.0.1:{other.getsockname()[1]}")


def test_c_functions_are_called_and_checked(tmp_path, monkeypatch):
    before = os.umask(0o22)
    try:
        do("callint:umask 63")
        assert os.umask(0o22) == 0o77
    finally:
        os.umask(before)
    victim = tmp_path / "victim"
    victim.touch()
    do(f"callret:unlink {victim}")
    assert not victim.exists()
    with pytest.raises(HookError, match=r"unlink\(\) returned -1"):
        do(f"callret:unlink {victim}")
    do(f"call:unlink {victim}")
    do("call:sync")
    with pytest.raises(HookError, match="no C function no_such_function"):
        do("call:no_such_function")
    with pytest.raises(HookError, match=r"close\(\) returned -1"):
        do("callintret:close 9999")


def test_call_families_pass_the_vassal(monkeypatch):
    seen = []
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, *[ctypes.c_int] * 3)
    spy = prototype(lambda *values: seen.append(values) or 0)
    monkeypatch.setattr(
        "donjon.hooks.calls.symbol", lambda _name: ctypes.cast(spy, ctypes.c_void_p) and spy
    )
    variables = {"UWSGI_VASSAL_PID": "7", "UWSGI_VASSAL_UID": "33", "UWSGI_VASSAL_GID": "34"}
    do("f", kind=Kind.CALL4, context=Context(name="a.ini", variables=variables))
    assert seen == [(b"a.ini", 7, 33, 34)]


def test_a_c_function_becomes_a_signal_handler():
    script = textwrap.dedent("""
        import os, signal
        from donjon.hooks import runner
        from donjon.hooks.spec import Hook, Kind
        from donjon.jail.phase import Phase
        from donjon.jail.step import Context
        hook = Hook(Phase.ASAP, Kind.HOOK, "unix_signal:10 _exit")
        runner.steps([hook])[0].execute(Context())
        os.kill(os.getpid(), 10)
    """)
    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, check=False)
    assert ended.returncode == 10


def test_python_callables_are_called_and_checked(tmp_path, monkeypatch):
    (tmp_path / "ours_for_hooks.py").write_text(
        "seen = []\ndef good(text=''): seen.append(text)\ndef bad(): return 3\n"
        "def ugly(): raise ValueError('broken')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    do("py:ours_for_hooks:good")
    do("py:ours_for_hooks:good one two")
    assert sys.modules["ours_for_hooks"].seen == ["", "one two"]
    with pytest.raises(HookError, match="ours_for_hooks:bad returned 3"):
        do("py:ours_for_hooks:bad")
    with pytest.raises(HookError, match="ValueError: broken"):
        do("py:ours_for_hooks:ugly")
    with pytest.raises(HookError, match="no attribute 'none'"):
        do("py:ours_for_hooks:none")
    del sys.modules["ours_for_hooks"]
    with pytest.raises(HookError, match="not imported from the jail's files"):
        do("py:ours_for_hooks:good", phase=Phase.AS_ROOT, facts=Facts(new_root=Phase.ROOT))


def test_an_alarm_reaches_a_command_or_the_log(tmp_path, capfd):
    out = tmp_path / "fifo"
    os.mkfifo(out)
    facts = Facts(alarms={"bell": f"cmd:cat > {out}", "note": "log:"})
    do("alarm:bell dinner is ready", facts=facts)
    assert out.read_text() == "dinner is ready"
    do("alarm:note hello", facts=facts)
    assert "ALARM: hello" in capfd.readouterr().err
    with pytest.raises(HookError, match="no alarm is called gong; there are: bell note"):
        do("alarm:gong x", facts=facts)
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


MOUNT_SCRIPT = """
import os, sys
from donjon import syscalls
from donjon.hooks import runner
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.jail.step import Context
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
def do(text, kind=Kind.HOOK):
    runner.steps([Hook(Phase.ASAP, kind, text)])[0].execute(Context())
def line(point):
    with open("/proc/self/mountinfo") as table:
        return [x for x in table if x.split()[4] == point]
os.chdir(sys.argv[1])
here = os.getcwd()
"""


def in_mount_namespace(tmp_path, body):
    script = MOUNT_SCRIPT + textwrap.dedent(body)
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.root
def test_a_mount_gets_its_flags_and_data(tmp_path):
    in_mount_namespace(tmp_path, """
        os.mkdir("point")
        do(f"mount:tmpfs none {here}/point noexec,nosuid,nodev size=1m,mode=711")
        [text] = line(here + "/point")
        assert "nosuid,nodev,noexec" in text, text
        assert os.stat("point").st_mode & 0o777 == 0o711
        do(f"{here}/point", Kind.UMOUNT)
        assert not line(here + "/point")
    """)  # fmt: skip


@pytest.mark.root
def test_a_bind_mount_is_read_only_where_the_line_says_so(tmp_path):
    in_mount_namespace(tmp_path, """
        os.mkdir("source"); os.mkdir("point")
        do(f"mount:tmpfs none {here}/source nosuid")
        os.mkdir("source/below")
        do(f"mount:tmpfs none {here}/source/below")
        do(f"none {here}/source {here}/point bind,rec,ro,private", Kind.MOUNT)
        [top] = line(here + "/point")
        assert "ro,nosuid" in top and "shared:" not in top, top
        [below] = line(here + "/point/below")
        assert " ro," in below, below
        do(f"umount:{here}/point rec,detach")
        assert not line(here + "/point") and line(here + "/source/below")
    """)  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(("call", "after"), [("mount", 0), ("mount_setattr", 0), ("mount", 1)])
def test_a_bind_mount_that_fails_half_way_is_taken_back(tmp_path, call, after):
    in_mount_namespace(tmp_path, f"""
        import errno
        from donjon.errors import HookError
        os.mkdir("point")
        syscalls.inject("{call}", errno.EPERM, after={after})
        try:
            do(f"mount:none /usr {{here}}/point bind,ro,private")
        except HookError as error:
            assert str(error).endswith("Operation not permitted"), error
        else:
            raise AssertionError("it did not fail")
        assert not line(here + "/point")
    """)  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("call", "text"),
    [("umount2", "umount:/proc"), ("sethostname", "hostname:x"), ("mount", "mount:tmpfs none /x")],
)
def test_a_refused_call_is_one_line_with_its_reason(call, text):
    syscalls.inject(call, errno.EPERM)
    try:
        with pytest.raises(
            HookError, match=f'^default: "{text}" failed .asap.: .*Operation not permitted$'
        ):
            do(text)
    finally:
        syscalls.inject_clear()


@pytest.mark.root
def test_remount_move_and_propagation_are_passed_on(tmp_path):
    in_mount_namespace(tmp_path, """
        os.mkdir("a b"); os.mkdir("one"); os.mkdir("two")
        do(f"mount:tmpfs none {here}/one")
        do(f"mount:none none {here}/one shared")
        assert "shared:" in line(here + "/one")[0]
        do(f"mount:none none {here}/one rec,private")
        assert "shared:" not in line(here + "/one")[0]
        do(f"mount:none none {here}/one remount,bind,ro")
        assert " ro," in line(here + "/one")[0]
        do(f"mount:none {here}/one {here}/two move")
        assert line(here + "/two") and not line(here + "/one")
        syscalls.mount("none", here + "/a b", "tmpfs", 0, "")
        do(f"umount:{here} rec") if line(here) else [
            syscalls.umount2(p, 0) for p in __import__("donjon.hooks.mounts", fromlist=["x"])
            .mounts_below(here)]
        assert not line(here + "/two") and not line(here + "/a\\\\040b")
    """)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [("mount:tmpfs none /x bogus", "unknown mount flag bogus"),
     ("mount:tmpfs none /x detach", "detach is no flag of mount"),
     ("umount:/x ro", "ro is no flag of umount"),
     ("umount:/x bogus", "unknown umount flag bogus")],
)  # fmt: skip
def test_a_flag_that_the_call_does_not_know_is_refused_before_it_runs(text, message):
    with pytest.raises(HookError, match=message):
        runner.step(Hook(Phase.ASAP, Kind.HOOK, text), FACTS)


@pytest.mark.root
def test_a_host_name_is_set_in_its_namespace():
    script = MOUNT_SCRIPT.replace("CLONE_NEWNS", "CLONE_NEWNS | syscalls.CLONE_NEWUTS")
    ended = subprocess.run(
        [sys.executable, "-c", script + "do('hostname:jailhouse'); print(os.uname().nodename)", "/"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == "jailhouse\n"
    assert os.uname().nodename != "jailhouse"


def test_time_outs_are_kept():
    begin = time.monotonic()
    with pytest.raises(HookError, match=r"was not there within 0.2 seconds"):
        do("wait_for_fs:/nonexistent/x", facts=Facts(wait_for_fs_timeout=0.2))
    assert time.monotonic() - begin < 2
