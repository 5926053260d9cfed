"""The life of a plain vassal: workers die, masters are signalled, reloaded, stopped and killed."""

import os
import signal
import socket
import threading

import pytest
from births import NAMESPACES, Gate, hosts, is_quiet, vassal, worker
from hosting import alive, children, descendants, pause, receive, status, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host():
    """One Emperor; each test has vassals of its own."""
    with hosts() as make:
        yield make(NAMESPACES)


def replaced(master, old):
    """Wait until the worker of MASTER is another one, and alone; return it."""
    wait_for(lambda: len(children(master)) == 1 and children(master) != [old], "another worker")
    return worker(master)


def test_a_killed_worker_is_replaced_and_nobody_else_notices(host):
    neighbour = vassal(host, "neighbour")
    master = vassal(host, "killed")
    old, other = worker(master), worker(neighbour)
    os.kill(old, signal.SIGKILL)
    new = replaced(master, old)
    assert host.do("killed", "result = 1") == 1
    assert (host.master("killed"), worker(master)) == (master, new)
    assert status(new)["SigBlk"] == "0" * 16
    assert is_quiet(neighbour)
    assert worker(neighbour) == other
    host.said("died, killed by signal 9 :( trying respawn")
    ends(host, "killed", master)


def test_a_worker_that_dies_again_and_again_is_waited_for(host):
    master = vassal(host, "mortal")
    for _ in range(3):
        wait_for(lambda: host.do("mortal") is None, "a worker")
        with pytest.raises((ValueError, OSError)):
            host.do("mortal", "import os; os._exit(3)")
    host.said("died, exit status 3 :( trying respawn")
    host.said("worker 1 died 2 times in a row, next try in 0.4 s")
    wait_for(lambda: host.do("mortal", "result = 1"), "an answer")
    assert host.master("mortal") == master


def test_a_killed_master_takes_all_and_is_born_again(host):
    master = vassal(host, "beheaded")
    old = worker(master)
    os.kill(master, signal.SIGKILL)
    wait_for(lambda: not alive(old), "end of the worker")
    wait_for(lambda: host.master("beheaded") not in (-1, master), "another master")
    assert is_quiet(host.born("beheaded"))


def ends(host, name, master):
    """Take the vassal away; it ends by itself, soon."""
    below = [master, *descendants(master)]
    (host.place / "vassals" / f"{name}.ini").unlink()
    wait_for(lambda: not any(map(alive, below)), "end of the vassal", 8)


@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM"])
def test_a_signal_to_a_waiting_master_reloads_it(host, number):
    name = f"reload-{number.lower()}"
    master = vassal(host, name)
    for _ in range(3):
        old = worker(master)
        os.kill(master, getattr(signal, number))
        new = replaced(master, old)
        wait_for(lambda new=new: status(new)["SigBlk"] == "0" * 16, "a worker that can be told")
        assert host.do(name, "result = 1") == 1
    assert host.master(name) == master
    ends(host, name, master)


@pytest.mark.parametrize("number", ["SIGINT", "SIGQUIT"])
def test_a_signal_that_ends_a_waiting_master_ends_the_vassal(host, number):
    name = f"end-{number.lower()}"
    master = vassal(host, name)
    below = descendants(master)
    os.kill(master, getattr(signal, number))
    wait_for(lambda: not any(map(alive, [master, *below])), "end", 8)
    (host.place / "vassals" / f"{name}.ini").unlink()


def test_a_waiting_master_is_paused_and_goes_on(host):
    master = vassal(host, "paused", "worker-reload-mercy = 2\n")
    os.kill(master, signal.SIGTSTP)
    host.said("*** instance paused ***")
    wait_for(lambda: not answers(host, "paused"), "a pause")
    os.kill(master, signal.SIGTSTP)
    host.said("*** instance resumed ***")
    assert host.born("paused") == master


def answers(host, name):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        client.connect(str(host.sock(name)))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            return client.recv(1) != b""
        except TimeoutError:
            return False


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGURG", "SIGPIPE"])
def test_a_signal_without_consequences_leaves_the_vassal_as_it_is(host, number):
    name = f"same-{number.lower()}"
    master = vassal(host, name)
    old = worker(master)
    os.kill(master, getattr(signal, number))
    os.kill(master, getattr(signal, number))
    host.do(name)
    assert (host.master(name), worker(master)) == (master, old)
    wait_for(lambda: is_quiet(master) is (number != "SIGUSR1"), "what it should cost")
    ends(host, name, master)


def test_two_signals_at_once_are_both_answered(host):
    master = vassal(host, "both")
    old = worker(master)
    os.kill(master, signal.SIGSTOP)
    os.kill(master, signal.SIGUSR1)
    os.kill(master, signal.SIGHUP)
    os.kill(old, signal.SIGKILL)
    os.kill(master, signal.SIGCONT)
    replaced(master, old)
    wait_for(lambda: host.do("both", "result = 1"), "an answer")
    assert host.master("both") == master
    ends(host, "both", master)


@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_in_the_moment_of_birth_never_leaves_a_deaf_vassal(host, number):
    """Process 1 of a pid namespace does not get what it has no handler for (pid_namespaces(7))."""
    for round_number in range(5):
        name = f"early-{number.lower()}-{round_number}"
        host.vassal(name, "uid = 20001\n")
        master = host.known(name)
        os.kill(master, getattr(signal, number))
        wait_for(
            lambda n=name, m=master: not alive(m) or host.do(n, "result = 1"), "end or answer"
        )
        (host.place / "vassals" / f"{name}.ini").unlink()
    wait_for(
        lambda: not any("early" in row["id"] for row in host.stats()["vassals"]), "end of all"
    )


def test_no_request_is_lost_while_waiting_masters_reload_fifty_times(new_births):
    host = new_births(NAMESPACES)
    names = [f"load-{number}" for number in range(5)]
    masters = {name: vassal(host, name) for name in names}
    stop, lost, answered = threading.Event(), [], []

    def load(name):
        while not stop.is_set():
            try:
                answer = receive(host.sock(name), b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            except OSError as error:
                lost.append(error)
                return
            (answered if b" 200 " in answer[:20] else lost).append(answer[:20])
            pause(0.002)

    clients = [threading.Thread(target=load, args=(name,)) for name in names]
    for client in clients:
        client.start()
    try:
        for number in range(2, 12):
            for name in names:
                os.utime(host.place / "vassals" / f"{name}.ini", (number, number))
            host.said(f"generation {number} serves", len(names))
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert lost == []
    assert len(answered) > 50
    assert {name: host.master(name) for name in names} == masters
    for name, master in masters.items():
        wait_for(lambda m=master: len(children(m)) == 1, "one worker")
        ends(host, name, master)


def test_a_vassal_whose_jail_changes_is_born_anew_and_answers_before(host):
    master = vassal(host, "moved")
    answers = []
    gate = Gate(host.place / "moved.gate")
    slow = f"import os\n{gate.code}result = os.getuid()"
    client = threading.Thread(target=lambda: answers.append(host.do("moved", slow)))
    client.start()
    gate.reached()
    host.vassal("moved", "uid = 20002\n")
    host.said("[emperor] stop the uwsgi instance moved.ini")
    gate.open()
    wait_for(lambda: host.master("moved") not in (-1, master), "another master")
    client.join()
    assert answers == [20001]
    assert is_quiet(host.born("moved"))
    assert host.do("moved", slow) == 20002


def test_the_emperors_death_takes_all(new_births):
    host = new_births("emperor-use-clone = ipc,uts\n")
    masters = [vassal(host, name) for name in ("a", "b", "c")]
    os.kill(masters[2], signal.SIGUSR1)
    below = descendants(host.pid)
    assert len(below) == 7
    os.kill(host.pid, signal.SIGKILL)
    host.emperor.wait()
    wait_for(lambda: not any(map(alive, below)), "end of everybody")
    assert "Traceback" not in host.log()
    wait_for(lambda: not any(host.sock(name).exists() for name in "abc"), "a clean place")
    host.start("emperor-use-clone = ipc,uts\n")
    for name in ("a", "b", "c"):
        assert is_quiet(host.born(name))
