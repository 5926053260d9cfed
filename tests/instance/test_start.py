"""The start of an instance, seen from outside: order, what a failure leaves, what it says."""

import os
import re
import select
import signal
import socket

import pytest

pytestmark = pytest.mark.root

PHASES = ["asap", "pre-jail", "in-jail", "post-jail", "as-root", "as-user", "pre-app", "post-app"]


def journal(tmp_path):
    path = tmp_path / "journal"
    path.touch()
    path.chmod(0o666)
    return path


def marks(path, phases):
    return [(f"hook-{phase}", f"append:{path} {phase},") for phase in phases]


def unprivileged():
    os.setgroups([])
    os.setgid(33)
    os.setuid(33)


def wait_for_line(fifo):
    with open(fifo) as file:
        return file.read()


def test_privileges_are_dropped_once_between_as_root_and_as_user(tmp_path, run):
    out = journal(tmp_path)
    ids = [
        (f"exec-{phase}", f"echo {phase} $(id -u) >> {out}")
        for phase in ("asap", "pre-jail", "in-jail", "as-root", "as-user")
    ]
    status, log = run(("uid", "www-data"), ("gid", "www-data"), *ids, ("hook-as-user", "exit:3"))
    assert status == 3, log
    assert out.read_text().split("\n")[:-1] == ["asap 0", "pre-jail 0", "in-jail 0", "as-root 0"]


def test_without_a_jail_there_is_no_post_jail(tmp_path, run):
    out = journal(tmp_path)
    run(*marks(out, PHASES[:5]), ("hook-as-user", "exit:"))
    assert out.read_text() == "asap,pre-jail,in-jail,as-root,"
    out.write_text("")
    run(("jailed", "true"), *marks(out, PHASES[:5]), ("hook-as-user", "exit:"))
    assert out.read_text() == "asap,pre-jail,in-jail,post-jail,as-root,"


def test_without_root_the_privilege_phase_has_no_hooks(tmp_path, run):
    out = journal(tmp_path)
    (tmp_path / "pairs").touch()
    os.chmod(tmp_path, 0o777)
    status, log = run(
        ("uid", "www-data"), *marks(out, PHASES[:6]), ("no-server", "true"), ("master", "true"),
        ("socket", str(tmp_path / "s")), preexec_fn=unprivileged,
    )  # fmt: skip
    assert status == 0, log
    assert out.read_text() == "asap,pre-jail,in-jail,"


def test_without_root_another_uid_is_refused_before_any_hook(tmp_path, run):
    out = journal(tmp_path)
    status, log = run(("uid", "daemon"), *marks(out, ["asap"]), preexec_fn=unprivileged)
    assert status == 1
    assert "uid" in log
    assert out.read_text() == ""


@pytest.mark.parametrize("text", ["nosuch:x", "nocolon", "mount:tmpfs none /x bogus"])
@pytest.mark.parametrize("phase", ["asap", "as-root", "accepting", "touch"])
def test_a_malformed_hook_anywhere_is_refused_before_any_hook(tmp_path, run, phase, text):
    out = journal(tmp_path)
    value = f"{out} {text}" if phase == "touch" else text
    status, log = run(*marks(out, ["asap"]), (f"hook-{phase}", value))
    assert status == 1
    assert f"test.ini:2: hook-{phase}: " in log
    assert out.read_text() == ""


def test_a_bad_alarm_is_refused(run):
    status, log = run(("alarm", "bell pigeon:coo"))
    assert status == 1
    assert "test.ini:1: alarm: bad alarm bell: an alarm is cmd:COMMAND or log:[TEXT]" in log


def test_a_failing_hook_leaves_no_socket(tmp_path, run):
    path = tmp_path / "s"
    status, log = run(("socket", str(path)), ("exec-as-root", "exit 5"))
    assert status == 1
    assert 'test.ini:2: exec-as-root: "exit 5" failed (as-root): exit status 5' in log
    assert not path.exists()


@pytest.mark.parametrize("phase", ["pre-jail", "in-jail", "as-root", "as-user"])
@pytest.mark.parametrize("action", ["exec:exit 5", "exit:0"])
def test_a_start_that_ends_leaves_no_socket_and_no_pid_file(tmp_path, run, phase, action):
    left = tmp_path / "left"
    left.mkdir()
    run(
        ("shared-socket", f"{left}/s"), ("socket", "=0"), ("pidfile", f"{left}/pid"),
        ("hook-pre-jail", f"exec:ls {left} > {tmp_path}/seen"), (f"hook-{phase}", action),
    )  # fmt: skip
    assert (tmp_path / "seen").read_text() == "pid\ns\n"
    assert not os.listdir(left)


def test_the_environment_is_there_from_the_first_hook_on(tmp_path, run):
    out = tmp_path / "out"
    run(("env", "COLOUR=blue"), ("hook-asap", f"write:{out} $COLOUR"), ("hook-asap", "exit:"))
    assert out.read_text() == "blue"


def test_pid_files_and_files_are_written_by_who_is_in_charge_then(tmp_path, run):
    early, late, text = tmp_path / "early", tmp_path / "run/late", tmp_path / "text"
    late.parent.mkdir()
    os.chown(late.parent, 33, 33)
    seen = f"exec:stat -c '%u %n' {early} {text} {late} > {tmp_path}/run/seen"
    status, log = run(
        ("uid", "www-data"), ("gid", "www-data"), ("pidfile", str(early)),
        ("pidfile2", str(late)), ("file-write", f"{text}=some value"),
        ("hook-pre-app", seen), ("hook-pre-app", "exit:4"), ("socket", f"@donjon-{os.getpid()}"),
    )  # fmt: skip
    assert status == 4, log
    assert text.read_text() == "some value\n"
    owners = (tmp_path / "run/seen").read_text().split("\n")[:-1]
    assert owners == [f"0 {early}", f"0 {text}", f"33 {late}"]


def test_a_missing_directory_is_named_with_its_line(run):
    status, log = run(("chdir", "/nonexistent"), ("socket", "@donjon-none"))
    assert status == 1
    assert "test.ini:1: chdir: cannot change to /nonexistent: No such file or directory" in log


def test_the_log_goes_to_a_file_from_the_first_hook_after_asap_on(tmp_path, run):
    to = tmp_path / "to"
    _, log = run(
        ("logto", str(to)), ("hook-asap", "print:first"), ("hook-pre-jail", "print:second"),
        ("hook-pre-jail", "exit:"),
    )  # fmt: skip
    assert "first" in log
    assert "second" not in log
    assert "second" in to.read_text()


@pytest.mark.parametrize("option", ["daemonize", "daemonize2"])
def test_a_daemon_serves_after_its_starter_ended(tmp_path, run, option):
    fifo, pid_file = tmp_path / "fifo", tmp_path / "pid"
    os.mkfifo(fifo)
    status, log = run(
        (option, str(tmp_path / "log")), ("master", "true"), ("socket", str(tmp_path / "s")),
        ("pidfile", str(pid_file)), ("hook-accepting1", f"exec:echo ready > {fifo}"),
    )  # fmt: skip
    assert status == 0, log
    assert wait_for_line(fifo) == "ready\n"
    pid = int(pid_file.read_text())
    handle = os.pidfd_open(pid)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    signal.pidfd_send_signal(handle, signal.SIGINT)
    assert not os.path.exists(f"/proc/{pid}") or ended(handle)
    os.close(handle)


def ended(handle):
    return bool(select.select([handle], [], [], 10)[0])


def test_a_starter_that_waits_sees_the_failure(tmp_path, run):
    log = tmp_path / "log"
    status, _ = run(("daemonize2", str(log)), ("hook-in-jail", "exec:exit 9"))
    assert status == 1
    assert "exit status 9" in log.read_text()


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ([], "as-root,as-user,pre-app,post-app,"),
        ([("drop-after-init", "true")], "as-root,as-user,pre-app,post-app,"),
        ([("drop-after-apps", "true")], "pre-app,post-app,as-root,as-user,"),
        ([("master-as-root", "true")], "pre-app,as-root,as-user,post-app,"),
    ],
)
def test_the_drop_happens_where_it_was_asked_for_and_its_hooks_once(
    tmp_path, start, options, order
):
    out, fifo = journal(tmp_path), tmp_path / "fifo"
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    phases = ["as-root", "as-user", "pre-app", "post-app"]
    instance = start(
        *options, ("master", "true"), ("socket", f"@donjon-{os.getpid()}"), ("uid", "www-data"),
        *marks(out, phases), ("hook-accepting1", f"exec:id -u > {fifo}"),
    )  # fmt: skip
    assert wait_for_line(fifo) == "33\n", instance.said()
    assert out.read_text() == order
    master_uid = re.search(r"Uid:\t(\d+)", status_of(instance.process.pid))[1]
    assert master_uid == ("0" if ("master-as-root", "true") in options else "33")


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return file.read()


def test_a_reload_takes_the_new_hooks_and_keeps_the_jail(tmp_path, start):
    out, fifo = journal(tmp_path), tmp_path / "fifo"
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)

    def pairs(word):
        return [
            ("master", "true"), ("socket", f"@donjon-{os.getpid()}"), ("uid", "www-data"),
            *[(f"hook-{phase}", f"append:{out} {word}-{phase},") for phase in PHASES],
            ("hook-accepting1", f"exec:echo {word} > {fifo}"),
        ]  # fmt: skip

    instance = start(*pairs("one"))
    assert wait_for_line(fifo) == "one\n", instance.said()
    before = len(out.read_text())
    instance.configure(pairs("two"))
    instance.process.send_signal(signal.SIGHUP)
    assert wait_for_line(fifo) == "two\n", instance.said()
    assert out.read_text()[before:] == "two-asap,two-in-jail,two-pre-app,two-post-app,"


def test_a_foreign_program_gets_the_shared_socket_with_privileges(tmp_path, run):
    out = tmp_path / "out"
    status, log = run(
        ("shared-socket", "127.0.0.1:0"),
        ("http-socket", "=0"), ("uid", "www-data"),
        ("privileged-binary-patch-arg", f"id -u > {out}; readlink /proc/self/fd/* >> {out}; exit 6"),
    )  # fmt: skip
    assert status == 6, log
    uid, *files = out.read_text().split()
    assert uid == "0"
    assert any(name.startswith("socket:") for name in files)


@pytest.mark.parametrize("option", ["http-socket", "http11-socket", "http"])
def test_a_shared_socket_bound_outside_is_served_from_the_jail(tmp_path, start, option):
    path, fifo = tmp_path / "shared.sock", tmp_path / "ready"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    instance = start(
        ("master", "true"), ("shared-socket", str(path)), (option, "=0"), ("chmod-socket", "666"),
        ("rootfs", "host"), ("unshare", "fs"), ("bind", f"{fifo}:{fifo}:rw"), ("uid", "33"),
        ("eval", "application = lambda e, s: s('200 OK', []) and [] or [b'shared']"),
        ("hook-accepting1", f"exec:echo ready > {fifo}"),
    )  # fmt: skip
    assert wait_for_line(fifo) == "ready\n", instance.said()
    for _each in range(2):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"shared")


def test_a_foreign_program_without_privileges_comes_after_the_drop(tmp_path, run):
    out = journal(tmp_path)
    status, log = run(
        ("uid", "www-data"), ("hook-as-user", f"append:{out} hook,"),
        ("unprivileged-binary-patch-arg", f"echo $(cat {out}) $(id -u) >> {out}; exit 7"),
    )  # fmt: skip
    assert status == 7, log
    assert out.read_text() == "hook,hook, 33\n"


@pytest.mark.parametrize("late", ["drop-after-init", "drop-after-apps"])
def test_a_foreign_program_after_a_late_drop_has_a_control_socket_that_blocks(tmp_path, run, late):
    out = journal(tmp_path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        _status, log = run(
            ("master", "true"), ("socket", f"@donjon-{os.getpid()}"), ("uid", "33"), (late, "true"),
            ("eval", "application = None"),
            ("unprivileged-binary-patch-arg", f"cat /proc/self/fdinfo/{number} > {out}; exit 7"),
            env={**os.environ, "UWSGI_EMPEROR_FD": str(number)}, pass_fds=(number,),
        )  # fmt: skip
    flags = re.search(r"flags:\s+(\d+)", out.read_text())
    assert flags, log
    assert not int(flags[1], 8) & os.O_NONBLOCK


def test_an_immediate_user_runs_every_hook(tmp_path, run):
    out = journal(tmp_path)
    status, log = run(
        ("immediate-uid", "www-data"), ("immediate-gid", "www-data"), ("uid", "www-data"),
        ("hook-asap", f"exec:id >> {out}"), ("hook-pre-jail", "exit:3"),
    )  # fmt: skip
    assert status == 3, log
    assert out.read_text().startswith("uid=33(www-data) gid=33(www-data) groups=33(www-data)")


@pytest.mark.parametrize("option", ["immediate-uid", "immediate-gid"])
def test_an_immediate_identity_is_never_root(tmp_path, run, option):
    status, log = run((option, "0"), ("hook-asap", "exit:3"))
    assert status == 1
    assert f"test.ini:1: {option}: {option} cannot be root" in log
