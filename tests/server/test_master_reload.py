"""Reloads: the next generation beside the serving one, and no request lost."""

import os
import re
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


def reload(instance: Instance) -> None:
    """Reload and wait until the next generation has taken over; the old one may answer still."""
    count = instance.text().count("serves\n")
    instance.send(signal.SIGHUP)
    wait_for(lambda: instance.text().count("serves\n") > count, "the next generation")


def replace(instance: Instance) -> None:
    """Reload and wait until the old generation is gone."""
    old = set(children(instance.pid))
    reload(instance)
    wait_for(lambda: not old & set(children(instance.pid)), "the end of the old one")


def test_a_reload_takes_new_code_and_configuration_and_keeps_the_pid(instance):
    instance.start(environment=[["MARK", "old"]])
    assert instance.answer().split()[::2] == ["one", "old"]
    instance.app.write_text(serving.APP.replace('"one"', '"two"'))
    instance.configure(environment=[["MARK", "new"]])
    replace(instance)
    assert instance.answer().split()[::2] == ["two", "new"]
    assert instance.process.poll() is None


def test_a_variable_that_is_no_longer_set_is_gone(instance):
    instance.start(environment=[["MARK", "old"]])
    instance.answer()
    instance.configure()
    replace(instance)
    assert len(instance.answer().split()) == 3


def test_a_reload_runs_some_phases_again_and_others_not(instance):
    instance.start()
    instance.answer()
    wait_for(lambda: "accepting1-once" in instance.phases(), "the worker")
    before = len(instance.phases())
    reload(instance)
    wait_for(lambda: instance.phases().count("master-start") == 2, "the master's hook")
    again = [name for name in instance.phases()[before:] if not name.startswith("drop-")]
    assert again[:5] == ["as-user-atexit", "asap", "in-jail", "pre-app", "post-app"]
    assert {"post-fork", "accepting", "accepting-once", "accepting1-once"} <= set(again)


def test_an_application_that_cannot_be_loaded_leaves_the_old_one_serving(instance):
    instance.start()
    before = instance.answer()
    instance.app.write_text("def application(:\n")
    instance.send(signal.SIGHUP)
    wait_for(lambda: "reload failed" in instance.text(), "the failure")
    assert instance.answer() == before
    assert "SyntaxError" in instance.text()
    assert "cannot load the application" in instance.text()
    instance.app.write_text(serving.APP.replace('"one"', '"two"'))
    replace(instance)
    assert instance.answer().startswith("two")


def test_a_directory_that_is_not_there_leaves_the_old_generation_serving(instance):
    instance.start()
    instance.answer()
    instance.configure(chdir="/nonexistent")
    instance.send(signal.SIGHUP)
    wait_for(lambda: "reload failed" in instance.text(), "the failure")
    assert "cannot change to /nonexistent: No such file or directory" in instance.text()
    instance.answer()


def test_a_configuration_that_cannot_be_read_leaves_the_old_one_serving(instance):
    instance.start()
    before = instance.answer()
    instance.break_configuration()
    instance.send(signal.SIGHUP)
    wait_for(lambda: "reload failed" in instance.text(), "the failure")
    assert instance.answer() == before


@pytest.mark.parametrize("phase", ["asap", "pre-app", "post-app", "accepting"])
def test_a_failing_hook_of_a_reload_leaves_the_old_generation_serving(instance, phase):
    instance.start(processes=2)
    instance.answer()
    wait_for(lambda: instance.phases().count("accepting") == 2, "both workers")
    before = set(children(instance.pid))
    instance.configure(processes=2, hooks={phase: "fail"})
    instance.send(signal.SIGHUP)
    wait_for(lambda: "reload failed" in instance.text(), "the failure")
    wait_for(lambda: set(children(instance.pid)) == before, "only the old workers")
    instance.answer()


def test_reloads_that_come_during_a_reload_are_done_after_it(instance):
    instance.start()
    instance.answer()
    for _ in range(5):
        instance.send(signal.SIGHUP)
    wait_for(lambda: re.search(r"generation [23] serves", instance.text()), "the first")
    wait_for(lambda: len(children(instance.pid)) == 1, "one worker in the end")
    instance.answer()


def test_a_reload_that_comes_before_all_workers_accept_is_done_then(instance):
    instance.start(processes=4)
    wait_for(lambda: "spawned uWSGI master" in instance.text_or_nothing(), "the master")
    instance.send(signal.SIGHUP)
    wait_for(lambda: "generation 2 serves" in instance.text(), "the reload")


def test_a_running_request_is_finished_by_the_old_generation(instance, tmp_path):
    instance.start()
    instance.answer()
    held = tmp_path / "held"
    with socket.create_connection(("127.0.0.1", instance.port), 5) as sock:
        sock.sendall(f"GET /hold/{held} HTTP/1.0\r\n\r\n".encode())
        wait_for(held.exists, "the request in the application")
        reload(instance)
        instance.answer()
        release(held)
        assert b" 200 " in sock.recv(4096)
    wait_for(lambda: len(children(instance.pid)) == 1, "the end of the old worker")


def test_an_old_worker_that_does_not_end_gets_no_mercy(instance, tmp_path):
    instance.start(worker_reload_mercy=1)
    instance.answer()
    with socket.create_connection(("127.0.0.1", instance.port), 8) as sock:
        sock.sendall(f"GET /hold/{tmp_path}/for-ever HTTP/1.0\r\n\r\n".encode())
        wait_for((tmp_path / "for-ever").exists, "the request in the application")
        reload(instance)
        assert sock.recv(10) == b""
    assert "NO MERCY" in instance.text()


def test_a_reload_opens_new_sockets_and_closes_those_not_named_any_more(instance):
    instance.start()
    instance.answer()
    old, new = instance.port, serving.free_port()
    instance.configure(listeners=[[f"127.0.0.1:{new}", "http"]])
    reload(instance)
    assert instance.get(port=new).startswith("one")
    wait_for(lambda: refused(old), "the end of the old socket")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_reload_that_cannot_bind_leaves_the_old_sockets(instance):
    instance.start()
    instance.answer()
    instance.configure(listeners=[["/nonexistent/sock", "http"]])
    instance.send(signal.SIGHUP)
    wait_for(lambda: "reload failed" in instance.text(), "the failure")
    instance.answer()


def test_the_number_of_workers_may_change(instance):
    instance.start(processes=1)
    instance.answer()
    instance.configure(processes=3)
    reload(instance)
    wait_for(lambda: len(children(instance.pid)) == 3, "three workers")
    instance.configure(processes=1)
    reload(instance)
    wait_for(lambda: len(children(instance.pid)) == 1, "one worker")


def test_exit_on_reload_ends_instead(instance):
    instance.start(exit_on_reload=True)
    instance.answer()
    instance.send(signal.SIGHUP)
    assert instance.wait() == 0


def test_a_touched_file_reloads_at_once(instance, tmp_path):
    trigger = tmp_path / "trigger"
    trigger.touch()
    instance.start(touch_reload=[str(trigger)])
    before = instance.answer().split()[1]
    os.utime(trigger, (1, 1))
    wait_for(lambda: instance.get().split()[1] != before, "the next generation", 2)


def test_a_touched_file_that_was_replaced_by_rename_counts(instance, tmp_path):
    trigger = tmp_path / "trigger"
    trigger.touch()
    instance.start(touch=[[str(trigger), "act"]])
    instance.answer()
    for _ in range(2):
        count = instance.phases().count("touch:act")
        (tmp_path / "new").touch()
        (tmp_path / "new").rename(trigger)
        wait_for(
            lambda seen=count: instance.phases().count("touch:act") == seen + 1, "the hook", 2
        )


def test_a_chain_reload_renews_workers_one_after_the_other(instance, tmp_path):
    fifo = tmp_path / "fifo"
    instance.start(processes=2, lazy_apps=True, master_fifo=[str(fifo)])
    instance.answer()
    wait_for(lambda: instance.phases().count("accepting") == 2, "both workers")
    before = set(children(instance.pid))
    fifo.write_text("c")
    wait_for(lambda: "chain reload complete" in instance.text(), "the end of the chain")
    wait_for(lambda: not before & set(children(instance.pid)), "the end of the old workers")
    assert len(children(instance.pid)) == 2


def test_a_worker_at_max_requests_is_replaced_before_it_goes(instance):
    instance.start(max_requests=3, min_worker_lifetime=0)
    first = instance.answer().split()[1]
    wait_for(lambda: instance.get().split()[1] != first, "the replacement")
    assert "served its time" in instance.text()
    assert "died" not in instance.text()


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "path"), [("http", "/?close"), ("http11", "/")])
def test_twenty_reloads_under_load_lose_no_request(instance, protocol, path):
    instance.start(
        processes=2, listeners=[[f"127.0.0.1:{instance.port}", protocol]], disable_logging=True
    )
    instance.answer()
    command = [
        "wrk",
        "-t1",
        "-c8",
        "-d6s",
        "--timeout",
        "5s",
        f"http://127.0.0.1:{instance.port}{path}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        for _ in range(20):
            reload(instance)
        out, _ = wrk.communicate()
    assert "Socket errors" not in out, out
    assert "Non-2xx" not in out, out
    assert int(re.search(r"(\d+) requests in", out)[1]) > 500
    assert instance.text().count("serves\n") == 20
