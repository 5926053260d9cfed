"""The control socket of an Emperor, byte by byte, as the instance at its other end sees it."""

import os
import signal
import socket
from pathlib import Path

import pytest
from serving import Instance, children, wait_for


@pytest.fixture
def instance(tmp_path: Path):
    made = Instance(tmp_path)
    yield made
    made.clean()


@pytest.fixture
def throne(instance):
    """The Emperor's end; the instance runs at the other."""
    emperor, vassal = socket.socketpair()
    emperor.settimeout(5)
    with emperor:
        instance.start(emperor=vassal, processes=1)
        vassal.close()
        yield emperor


def test_ready_then_accepting_then_loyal_after_the_first_answer(instance, throne):
    assert throne.recv(1) == b"\x01"
    assert throne.recv(1) == b"\x05"
    throne.settimeout(0.2)
    with pytest.raises(TimeoutError):
        throne.recv(1)
    throne.settimeout(5)
    instance.answer()
    assert throne.recv(1) == b"\x11"
    instance.answer()
    throne.settimeout(0.2)
    with pytest.raises(TimeoutError):
        throne.recv(1)


def test_byte_1_reloads_and_the_next_generation_reports_itself(instance, throne):
    instance.answer()
    before = set(children(instance.pid))
    throne.sendall(b"\x01")
    wait_for(lambda: "generation 2 serves" in instance.text(), "the reload")
    assert throne.recv(16).startswith(b"\x01\x05\x11")
    wait_for(lambda: len(children(instance.pid)) == 1, "one worker")
    assert not before & set(children(instance.pid))
    assert "emperor-reload" in instance.phases()


def test_a_worker_that_comes_back_says_accepting_and_not_ready(instance, throne):
    assert throne.recv(1) == b"\x01"
    assert throne.recv(1) == b"\x05"
    os.kill(children(instance.pid)[0], signal.SIGKILL)
    assert throne.recv(1) == b"\x05"


@pytest.mark.parametrize("byte", [b"\x00", b"\x02"])
def test_byte_0_and_2_end_the_instance(instance, throne, byte):
    instance.answer()
    throne.sendall(byte)
    assert instance.wait() == 0
    assert "emperor-stop" in instance.phases()


def test_unknown_bytes_are_ignored(instance, throne):
    instance.answer()
    throne.sendall(b"\x63\xff")
    instance.answer()
    assert instance.process.poll() is None


def test_the_loss_of_the_emperor_ends_everything_with_1(instance, throne):
    instance.answer()
    workers = children(instance.pid)
    throne.close()
    assert instance.wait() == 1
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "no worker")
    assert "emperor-lost" in instance.phases()


def test_workers_die_with_a_master_that_was_killed(instance, throne):
    instance.answer()
    workers = children(instance.pid)
    instance.send(signal.SIGKILL)
    instance.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "no worker")


def test_an_idle_vassal_asks_to_be_stopped(tmp_path):
    instance = Instance(tmp_path)
    emperor, vassal = socket.socketpair()
    emperor.settimeout(10)
    try:
        with emperor:
            instance.start(emperor=vassal, idle=1, die_on_idle=True)
            vassal.close()
            assert emperor.recv(1) == b"\x01"
            assert emperor.recv(1) == b"\x05"
            assert emperor.recv(1) == b"\x16"
            assert instance.process.poll() is None
    finally:
        instance.clean()


def test_heartbeats_are_sent_as_often_as_asked(tmp_path):
    instance = Instance(tmp_path)
    emperor, vassal = socket.socketpair()
    emperor.settimeout(10)
    try:
        with emperor:
            instance.start(emperor=vassal, heartbeat=1)
            vassal.close()
            assert emperor.recv(1) == b"\x01"
            assert emperor.recv(1) == b"\x05"
            assert emperor.recv(1) == b"\x1a"
    finally:
        instance.clean()


def test_a_vassal_without_socket_whose_application_fails_keeps_the_socket_pair_clean(tmp_path):
    instance = Instance(tmp_path)
    emperor, vassal = socket.socketpair()
    emperor.settimeout(5)
    try:
        with emperor:
            instance.start(emperor=vassal, need_app=True, apps=[["wsgi-file", "/nonexistent.py"]])
            vassal.close()
            assert instance.wait() == 22
            assert emperor.recv(1) == b""
    finally:
        instance.clean()
