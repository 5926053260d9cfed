"""A process that is handed the control socket of an Emperor by a proxy."""

import os
import socket
import struct
import threading

import pytest

from donjon.instance import proxy


def serve(server, messages):
    """Answer one connection with each (bytes, descriptors)."""
    for data, numbers in messages:
        client, _ = server.accept()
        with client:
            socket.send_fds(client, [data], numbers)


@pytest.fixture
def speaking(tmp_path):
    """A proxy that gives each connection the next of some messages."""
    path = str(tmp_path / "proxy")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        threads = []

        def speak(*messages):
            thread = threading.Thread(target=serve, args=(server, messages))
            thread.start()
            threads.append(thread)
            return path

        yield speak
        for thread in threads:
            thread.join()


def greeting(count):
    return b"uwsgi-emperor" + struct.pack("i", count)


def test_the_descriptors_are_named_in_the_environment(speaking):
    reader, writer = os.pipe()
    path = speaking((greeting(2), [writer, reader]))
    environ = {"UWSGI_EMPEROR_PROXY": path, "OTHER": "x"}
    proxy.adopt_emperor(environ)
    control, configuration = (
        int(environ.pop(name)) for name in ("UWSGI_EMPEROR_FD", "UWSGI_EMPEROR_FD_CONFIG")
    )
    assert environ == {"OTHER": "x"}
    assert os.get_inheritable(control)
    os.write(control, b"\x11")
    assert os.read(configuration, 1) == b"\x11"
    for number in (reader, writer, control, configuration):
        os.close(number)


def test_without_a_proxy_nothing_happens():
    environ = {"OTHER": "x"}
    proxy.adopt_emperor(environ)
    assert environ == {"OTHER": "x"}


def test_a_liar_is_refused_and_leaves_no_descriptor(speaking):
    reader, writer = os.pipe()
    path = speaking(
        (b"uwsgi-zergling" + struct.pack("i", 1), [reader]), (greeting(2), [reader]), (b"", [])
    )
    for _ in range(3):
        with pytest.raises(OSError, match="does not speak for an Emperor"):
            proxy.fetch(path)
    os.close(reader)
    os.close(writer)
