"""The manual's pages on descriptors that tell of a lack of memory: alarm-fd and reload-on-fd."""

import os
import signal
import subprocess
from pathlib import Path

import hosting
import pytest

from donjon.jail import cgroup_layout
from donjon.jail.cgroup_v1 import oom_eventfd

pytestmark = [pytest.mark.root, pytest.mark.cgroup1, pytest.mark.slow]
APP = """
import os
def application(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        bytearray(b"x") * (100 << 20)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


class Instance:
    """An instance that its starter put into a control group, with an eventfd of it (B-152)."""

    def __init__(self, place, lines):
        self.place = place
        self.group = Path(cgroup_layout.look().old["memory"], f"donjon-oom-{os.getpid()}")
        self.group.mkdir()
        for name, limit in (("", 64 << 20), ("memsw.", 64 << 20)):
            (self.group / f"memory.{name}limit_in_bytes").write_text(str(limit))
        self.told = oom_eventfd(str(self.group))
        (place / "app.py").write_text(APP)
        (place / "mem.ini").write_text(
            f"[uwsgi]\nhttp-socket = {place}/s\nwsgi-file = {place}/app.py\nmaster = true\n{lines}"
        )
        with (place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", 'echo $$ > "$0"/tasks; exec "$@"', str(self.group),
                 *hosting.DONJON, "--ini", str(place / "mem.ini")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(self.told,),
                env={**os.environ, "CGROUP_OOM_FD": str(self.told), "OOM": str(self.told)},
            )  # fmt: skip

    def get(self, target="/"):
        answer = hosting.receive(self.place / "s", f"GET {target} HTTP/1.0\r\n\r\n".encode())
        return answer.partition(b"\r\n\r\n")[2].decode()

    def log(self):
        return (self.place / "log").read_text()

    def close(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.told)
            hosting.wait_for(lambda: self.group.rmdir() is None, "end of the group")


@pytest.fixture
def instance(tmp_path):
    made = []

    def make(lines):
        made.append(Instance(tmp_path, lines))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_oom01_02_an_alarm_is_raised_when_the_group_is_out_of_memory(instance):
    one = instance(
        "alarm = outofmemory log:\nalarm-fd = outofmemory $(CGROUP_OOM_FD):8 OUT OF MEMORY !!!\n"
    )
    worker = hosting.wait_for(one.get, "answer")
    assert one.get("/eat") == ""
    hosting.wait_for(lambda: "ALARM: OUT OF MEMORY !!!" in one.log(), "the alarm")
    again = hosting.wait_for(one.get, "answer of another worker")
    assert again != worker
    with pytest.raises(BlockingIOError):
        os.read(one.told, 8)  # what told was read, all 8 bytes of it


@pytest.mark.parametrize("word", ["reload-on-fd", "brutal-reload-on-fd"])
def test_lif16_the_instance_reloads_when_the_group_is_out_of_memory(instance, word):
    one = instance(f"{word} = $(OOM):8 OUT OF MEMORY !!!\n")
    hosting.wait_for(one.get, "answer")
    master = one.process.pid
    assert one.get("/eat") == ""
    hosting.wait_for(lambda: "generation 2 serves" in one.log(), "a new generation")
    assert "descriptor" in one.log()
    assert ": OUT OF MEMORY !!!" in one.log()
    assert hosting.wait_for(one.get, "answer") != str(master)


def run(place, lines):
    (place / "x.ini").write_text(f"[uwsgi]\nhttp-socket = {place}/s\nmaster = true\n{lines}")
    done = subprocess.run(
        [*hosting.DONJON, "--ini", str(place / "x.ini")],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_descriptor_that_is_not_open_is_named(tmp_path):
    _status, said = run(tmp_path, "reload-on-fd = 77:8 gone\n")
    assert (
        f"donjon: {tmp_path}/x.ini:4: reload-on-fd: 77 is no open descriptor "
        "(who starts this instance must hand it over; an Emperor's vassals get none)" in said
    )


def test_an_alarm_that_nobody_named_is_refused_at_the_start(tmp_path):
    status, said = run(tmp_path, "alarm-fd = bell 0:8 gone\n")
    assert status == 1
    assert (
        f"{tmp_path}/x.ini:4: alarm-fd: no alarm is called bell (alarm = bell log: makes one)"
        in said
    )


@pytest.mark.parametrize("value", ["bell", "bell x:8 TEXT", "bell 9:0 TEXT"])
def test_what_is_no_descriptor_is_refused_with_an_example(tmp_path, value):
    status, said = run(tmp_path, f"alarm-fd = {value}\n")
    assert status == 1
    assert f"x.ini:4: cannot use alarm-fd = {value}: not " in said
    assert "(for example alarm-fd = outofmemory 9:8 OUT OF MEMORY !!!)" in said
