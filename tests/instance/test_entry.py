"""A vassal that was forked: what its Emperor sees of its start, its reload and its end."""

import atexit
import contextlib
import os
import pickle
import select
import signal
import socket
import struct

import pytest

from donjon.config.spec import Launch
from donjon.emperor.birth import Birth
from donjon.hooks.spec import Hook, Kind
from donjon.instance import vassal_main
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec
from donjon.origin import Origin
from donjon.server.spec import Listener, ServerSpec


class Vassal:
    """The Emperor's view of one vassal."""

    def __init__(self, launch, log):
        self.control, control = socket.socketpair()
        self.launches, launches = socket.socketpair()
        self.errors, errors = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            atexit._clear()  # a worker runs what the application registered, not what pytest did
            number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(number, 1)
            os.dup2(number, 2)
            for ours in (self.control, self.launches):
                ours.close()
            os.environ["UWSGI_EMPEROR_FD"] = str(control.fileno())
            vassal_main(
                Birth(
                    name="a.ini",
                    launch=launch,
                    emperor_fd=control.detach(),
                    launch_fd=launches.detach(),
                    error_fd=errors,
                )
            )
        control.close()
        launches.close()
        os.close(errors)
        self.control.settimeout(10)

    def told(self):
        """Everything it wrote on its error pipe, once the pipe is closed."""
        assert select.select([self.errors], [], [], 10)[0]
        return os.read(self.errors, 8192).decode()

    def ended(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send(self, launch):
        data = pickle.dumps(launch)
        self.launches.sendall(struct.pack("<I", len(data)) + data)
        self.control.sendall(b"\1")

    def close(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.errors)
        self.control.close()
        self.launches.close()


@pytest.fixture
def bear(tmp_path):
    """Bear a vassal of a Launch; it is dead afterwards."""
    born = []

    def go(launch):
        born.append(Vassal(launch, tmp_path / "log"))
        return born[-1]

    yield go
    for each in born:
        each.close()


def hook(text, phase=Phase.ASAP):
    return Hook(phase, Kind.HOOK, text, Origin("a.ini", 2, f"hook-{phase.value}"))


def test_a_failure_is_one_line_with_its_place(bear):
    vassal = bear(Launch(hooks=(hook("exec:exit 9", Phase.IN_JAIL),)))
    assert vassal.told() == (
        'a.ini:2: hook-in-jail: "exec:exit 9" failed (in-jail): exit status 9\n'
    )
    assert vassal.told() == "", "and then the end"
    assert vassal.ended() == 1


def test_a_defect_of_ours_is_told_as_well(bear):
    vassal = bear(Launch(server=ServerSpec(file_write=((None, None),))))
    assert vassal.told().startswith("internal error: AttributeError")
    assert vassal.ended() == 1


@pytest.mark.root
def test_a_limit_that_is_too_low_is_no_defect_of_ours(bear, tmp_path):
    listener = Listener(str(tmp_path / "s"), "http")
    server = ServerSpec(listeners=(listener,), master=True)
    vassal = bear(Launch(server=server, jail=JailSpec(limit_as=10 << 20)))
    assert vassal.told() == (
        "cannot start: Cannot allocate memory (raise limit-as, or the memory of its cgroup)\n"
    )
    assert vassal.ended() == 1
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_exit_hook_is_no_failure(bear):
    vassal = bear(Launch(hooks=(hook("exit:17"),)))
    assert vassal.told() == ""
    assert vassal.ended() == 17


def test_a_vassal_says_when_it_is_ready_and_reloads_what_it_is_sent(bear, tmp_path):
    out = tmp_path / "out"
    listener = Listener(f"@donjon-{os.getpid()}", "uwsgi")

    def launch(word):
        return Launch(
            server=ServerSpec(listeners=(listener,)),
            hooks=(hook(f"append:{out} {word},", Phase.PRE_APP),),
        )

    vassal = bear(launch("one"))
    assert vassal.told() == "", "the pipe is closed when it is ready"
    assert sorted(vassal.control.recv(1) + vassal.control.recv(1)) == [1, 5]
    vassal.send(launch("two"))
    while 5 not in vassal.control.recv(1):
        pass  # worker 1 of the new generation accepts
    assert out.read_text() == "one,two,"
    vassal.control.sendall(b"\0")
    assert vassal.ended() == 0


def test_a_vassal_that_is_asked_to_reload_nonsense_goes_on(bear, tmp_path):
    listener = Listener(f"@donjon-{os.getpid()}", "uwsgi")
    vassal = bear(Launch(server=ServerSpec(listeners=(listener,))))
    assert vassal.told() == ""
    vassal.control.recv(1)
    vassal.control.recv(1)
    vassal.send("nonsense")
    vassal.control.sendall(b"\0")
    assert vassal.ended() == 0


@pytest.mark.parametrize("sent", [(), ("two", "three")], ids=["nothing", "two of them"])
def test_a_reload_that_the_emperor_did_not_ask_for_waits_for_no_configuration(
    bear, tmp_path, sent
):
    out = tmp_path / "out"
    listener = Listener(f"@donjon-{os.getpid()}", "uwsgi")

    def launch(word):
        return Launch(
            server=ServerSpec(listeners=(listener,)),
            hooks=(hook(f"append:{out} {word},", Phase.PRE_APP),),
        )

    vassal = bear(launch("one"))
    assert vassal.told() == ""
    while 5 not in vassal.control.recv(1):
        pass
    for word in sent:
        data = pickle.dumps(launch(word))
        vassal.launches.sendall(struct.pack("<I", len(data)) + data)
    os.kill(vassal.pid, signal.SIGHUP)
    while 5 not in vassal.control.recv(1):
        pass
    last = sent[-1] if sent else "one"
    assert out.read_text() == f"one,{last},", "the last one counts"
    vassal.control.sendall(b"\0")
    assert vassal.ended() == 0
