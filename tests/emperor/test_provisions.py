"""Who imports what: an Emperor little, its zygote everything that a vassal will want."""

import json
import socket
import subprocess
import sys

import pytest
from empire import wait_for

APP = """
import json, sys
def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(sorted(sys.modules)).encode()]
"""
MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def modules_after(statements):
    command = [sys.executable, "-c", f"{statements}\n{MODULES}"]
    return set(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def ask(path):
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(path))
        link.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: link.recv(65536), b"")).partition(b"\r\n\r\n")[2]


@pytest.fixture
def vassal_modules(tmp_path):
    """What a vassal that serves has imported."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "vassals").mkdir()
    (tmp_path / "vassals" / "a.ini").write_text(
        f"[uwsgi]\nhttp-socket = {tmp_path}/a.sock\nchdir = {tmp_path}\nwsgi-file = app.py\n"
    )
    command = [sys.executable, "-m", "donjon", "--emperor", str(tmp_path / "vassals")]
    command += ["--emperor-control", str(tmp_path / "control")]
    with open(tmp_path / "log", "wb") as log:
        emperor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield set(json.loads(wait_for(lambda: ask(tmp_path / "a.sock"), "answer")))
    finally:
        emperor.terminate()
        emperor.wait(20)


def test_a_vassal_imports_nothing_of_ours_that_its_zygote_did_not_have(vassal_modules):
    had = modules_after(
        "import donjon.cli, donjon.verbs.start; from donjon.emperor import provisions; provisions.provide()"
    )
    ours = {name for name in vassal_modules if name.partition(".")[0] == "donjon"}
    assert "donjon.server.worker" in ours
    assert ours - had == set()
    seldom = {"_hashlib", "pyroute2", "donjon.fork_pty.router", "donjon.tuntap.router"}
    assert vassal_modules & seldom == set()  # memory of every vassal, which few would use


def test_a_start_of_an_emperor_imports_nothing_that_only_vassals_need():
    costly = {"ast", "ctypes", "dataclasses", "difflib", "dis", "http", "inspect", "ssl", "yaml"}
    costly |= {"donjon.server.master", "donjon.server.crew", "donjon.hooks.actions"}
    had = modules_after("import donjon.cli, donjon.verbs.start")
    assert "donjon.emperor.loop" in had
    assert had & costly == set()
