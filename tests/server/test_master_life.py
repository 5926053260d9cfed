"""The master from start to end: signals, exit statuses, workers that die."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import serving
from serving import Instance, children, release, wait_for


@pytest.fixture
def instance(tmp_path: Path):
    made = Instance(tmp_path)
    yield made
    made.clean()


WORKER = ["post-fork", "accepting", "accepting-once", "accepting1", "accepting1-once"]


def test_it_serves_and_sigint_ends_it_with_zero(instance):
    instance.start()
    assert instance.answer().startswith("one ")
    assert instance.stop() == 0
    assert "goodbye to uWSGI." in instance.text()


def test_phases_happen_in_the_order_of_the_original(instance):
    instance.start()
    instance.answer()
    assert instance.stop() == 0
    got = [name for name in instance.phases() if not name.startswith("drop-")]
    assert [name for name in got if name != "master-start"] == [
        "pre-app",
        "post-app",
        *WORKER,
        "as-user-atexit",
    ]
    assert got.index("master-start") > got.index("post-app")


def test_privileges_may_be_dropped_at_each_point_before_the_application(instance):
    instance.start()
    instance.answer()
    got = instance.phases()
    assert got[:2] == ["drop-sockets", "drop-init"]
    assert got.index("drop-apps") > got.index("post-app")


def test_with_master_as_root_nothing_of_the_customer_runs_before_the_drop(instance):
    instance.app.write_text(
        f"open({str(instance.journal)!r}, 'a').write('loaded\\n')\n" + serving.APP
    )
    instance.start(master_as_root=True)
    instance.answer()
    got = [name for name in instance.phases() if name in {"pre-app", "drop-worker", "loaded"}]
    assert got == ["pre-app", "drop-worker", "loaded"]


def test_lazy_applications_are_loaded_in_every_worker(instance):
    instance.app.write_text(
        f"open({str(instance.journal)!r}, 'a').write('loaded\\n')\n" + serving.APP
    )
    instance.start(lazy_apps=True, processes=2)
    instance.answer()
    wait_for(lambda: instance.phases().count("accepting") == 2, "both workers")
    assert instance.phases().count("loaded") == 2
    assert instance.phases().count("pre-app") == 2


def test_workers_are_siblings_and_share_one_load_of_the_application(instance):
    instance.app.write_text(
        f"open({str(instance.journal)!r}, 'a').write('loaded\\n')\n" + serving.APP
    )
    instance.start(processes=3)
    instance.answer()
    wait_for(lambda: len(children(instance.pid)) == 3, "three children of the master")
    assert instance.phases().count("loaded") == 1


def test_a_killed_worker_comes_back_and_once_hooks_do_not(instance):
    instance.start(processes=2)
    wait_for(lambda: instance.phases().count("accepting-once") == 2, "both workers")
    wait_for(lambda: "accepting1-once" in instance.phases(), "the first worker")
    wait_for(lambda: all(map(waits_for_events, children(instance.pid))), "workers that said so")
    for pid in children(instance.pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: instance.phases().count("accepting") == 4, "both again")
    instance.answer()
    got = instance.phases()
    assert got.count("accepting-once") == 2
    assert got.count("accepting1-once") == 1
    assert "killed by signal 9 :( trying respawn ..." in instance.text()


def waits_for_events(pid):
    return "epoll" in Path(f"/proc/{pid}/wchan").read_text()


def test_what_hooks_made_of_the_environment_reaches_a_worker_that_comes_later(instance):
    instance.start(hooks={"pre-app": "putenv:MARK=from-hook"})
    assert instance.answer().split()[2] == "from-hook"
    first = children(instance.pid)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: children(instance.pid) not in ([], first), "a new worker")
    assert instance.answer().split()[2] == "from-hook"
    assert instance.phases().count("pre-app") == 1


def test_a_worker_that_always_dies_is_tried_again_ever_more_slowly(instance):
    instance.start(hooks={"accepting": "exit:3"}, processes=1)
    assert instance.wait() == 0, "a failing hook of a worker ends the instance"


def test_an_application_that_kills_its_process_does_not_spin(instance):
    instance.start(processes=1)
    instance.answer()
    for _ in range(3):
        with pytest.raises((ValueError, OSError)):
            instance.get("/die")
        instance.answer()
    assert instance.text().count("exit status 9") == 3


@pytest.mark.parametrize("phase", ["pre-app", "post-app"])
def test_a_failing_hook_around_the_application_ends_the_start_with_one(instance, phase):
    instance.start(hooks={phase: "fail"})
    assert instance.wait() == 1
    assert f"hook-{phase} failed" in instance.text()


@pytest.mark.parametrize("phase", ["master-start", "post-fork", "accepting", "accepting1-once"])
def test_a_failing_late_hook_ends_the_instance(instance, phase):
    instance.start(hooks={phase: "fail"})
    instance.wait()
    assert not children(os.getpid()) or instance.pid not in children(os.getpid())
    assert f"hook-{phase} failed" in instance.text()


def test_the_exit_action_before_the_application_gives_the_exit_status(instance):
    instance.start(hooks={"pre-app": "exit:17"})
    assert instance.wait() == 17


def test_a_failing_hook_at_the_end_is_harmless(instance):
    instance.start(hooks={"as-user-atexit": "fail"})
    instance.answer()
    assert instance.stop() == 0


def test_nothing_to_do_is_an_error(instance):
    instance.start(listeners=[])
    assert instance.wait() == 1
    assert "The -s/--socket option is missing" in instance.text()


def test_need_app_ends_with_22(instance):
    instance.start(need_app=True, apps=[["wsgi-file", "/nonexistent.py"]])
    assert instance.wait() == 22


def test_without_need_app_a_broken_application_is_a_500_page(instance):
    instance.app.write_text("import no_such_module_here\n")
    instance.start()
    with socket.create_connection(("127.0.0.1", wait_port(instance)), 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 500 " in sock.recv(4096)
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in instance.text()


def wait_port(instance: Instance) -> int:
    wait_for(lambda: "accepting" in instance.phases(), "a worker")
    return instance.port


def test_no_server_does_everything_but_serve(instance):
    instance.start(no_server=True, listeners=[])
    assert instance.wait() == 0
    assert instance.phases()[-3:] == ["post-app", "drop-apps", "as-user-atexit"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_master_the_process_ends_with_30(instance, number):
    instance.start(master=False)
    assert int(instance.answer().split()[1]) == instance.pid
    assert instance.stop(number) == 30
    assert instance.phases()[-1] == "as-user-atexit"


def test_without_a_master_more_processes_end_with_the_first(instance):
    instance.start(master=False, processes=2)
    instance.answer()
    (second,) = wait_for(lambda: children(instance.pid), "the second process")
    assert instance.stop() == 30
    wait_for(lambda: not serving.alive(second), "its end")


def test_sigterm_reloads_and_with_die_on_term_stops(instance):
    instance.start()
    before = instance.answer().split()[1]
    instance.send(signal.SIGTERM)
    wait_for(lambda: instance.get().split()[1] != before, "a new worker")
    assert instance.stop(signal.SIGQUIT) == 0


def test_die_on_term_swaps_sigterm_and_sigquit(instance):
    instance.start(die_on_term=True)
    instance.answer()
    assert instance.stop(signal.SIGTERM) == 0


def test_sigusr1_writes_the_number_of_requests(instance):
    instance.start()
    instance.answer()
    instance.answer()
    instance.send(signal.SIGUSR1)
    wait_for(lambda: "workers total requests: 2" in instance.text(), "the line")


def test_a_paused_instance_lets_clients_wait(instance, tmp_path):
    instance.start(stats=str(tmp_path / "stats"))
    instance.answer()
    instance.send(signal.SIGTSTP)
    wait_for(
        lambda: not serving.statistics(tmp_path / "stats")["workers"][0]["accepting"], "pause"
    )
    sock = socket.create_connection(("127.0.0.1", instance.port), 5)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    with sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        instance.send(signal.SIGTSTP)
        sock.settimeout(5)
        assert sock.recv(4096).startswith(b"HTTP/1")


def test_graceful_end_lets_a_running_request_finish(instance, tmp_path):
    instance.start(master_fifo=[str(tmp_path / "fifo")])
    instance.answer()
    held = tmp_path / "held"
    with socket.create_connection(("127.0.0.1", instance.port), 5) as sock:
        sock.sendall(f"GET /hold/{held} HTTP/1.0\r\n\r\n".encode())
        wait_for(held.exists, "the request in the application")
        (tmp_path / "fifo").write_text("q")
        wait_for(lambda: "gracefully killing" in instance.text(), "the stop")
        release(held)
        assert sock.recv(4096).startswith(b"HTTP/1")
    assert instance.wait() == 0


def test_harakiri_kills_a_worker_whose_request_runs_too_long(instance, tmp_path):
    instance.start(harakiri=1)
    instance.answer()
    with socket.create_connection(("127.0.0.1", instance.port), 8) as sock:
        sock.sendall(f"GET /hold/{tmp_path}/for-ever HTTP/1.0\r\n\r\n".encode())
        assert sock.recv(10) == b""
    instance.answer()
    log = instance.text()
    assert "*** HARAKIRI ON WORKER 1 (pid: " in log
    assert "killed by signal 9 :( trying respawn ..." in log


def test_the_application_asks_for_a_reload_and_for_the_end(instance):
    instance.start()
    before = instance.answer().split()[1]
    instance.get("/ask-reload")
    wait_for(lambda: instance.get().split()[1] != before, "a new worker")
    instance.get("/ask-stop")
    assert instance.wait() == 0


def test_an_idle_instance_sleeps_until_a_client_comes(instance):
    instance.start(idle=1, processes=2)
    instance.answer()
    wait_for(lambda: not children(instance.pid), "an instance without workers")
    assert instance.answer().startswith("one")
    assert instance.process.poll() is None
    assert instance.phases().count("master-start") == 1


def test_a_sleeping_instance_can_be_reloaded_and_stopped(instance, tmp_path):
    fifo = tmp_path / "fifo"
    instance.start(master_fifo=[str(fifo)])
    instance.answer()
    fifo.write_text("C")
    wait_for(lambda: not children(instance.pid), "sleep")
    instance.send(signal.SIGHUP)
    wait_for(lambda: "generation 2 serves" in instance.text(), "the reload")
    instance.answer()
    fifo.write_text("C")
    wait_for(lambda: not children(instance.pid), "sleep")
    assert instance.stop() == 0


def test_as_process_1_it_reaps_strangers(instance, tmp_path):
    mark = tmp_path / "orphan"
    instance.app.write_text(
        "import os\n"
        "if os.fork() == 0:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        f"    open({str(mark)!r}, 'w').close()\n"
        "    os._exit(0)\n"
        "os.wait()\n" + serving.APP
    )
    instance.start("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    instance.answer()
    wait_for(mark.exists, "the orphan")
    (master,) = children(instance.pid)

    def zombies() -> list[str]:
        ps = ["ps", "-o", "stat=", "--ppid", str(master)]
        out = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
        return [line for line in out.split() if line.startswith("Z")]

    wait_for(lambda: not zombies(), "an end without zombies")
    os.kill(master, signal.SIGINT)
    assert instance.wait() == 0
