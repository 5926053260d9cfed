"""The manual's page on KSM: --ksm, how often it looks, and whom an Emperor lets share."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import hosting
import pytest

from donjon.jail import ksm

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(ksm.status() is None, reason="a kernel without CONFIG_KSM"),
]
APP = """
import mmap, os
kept = []
def application(environ, start_response):
    if environ["PATH_INFO"] == "/more":
        kept.append(mmap.mmap(-1, 23 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
OLD_KERNEL = {"DONJON_INJECT": "set_memory_merge:EINVAL:0:-1"}


@pytest.fixture
def instance(tmp_path):
    """Start one instance; it ends with the test."""
    started = []

    def start(lines, environ=None):
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "x.ini").write_text(
            f"[uwsgi]\nhttp-socket = {tmp_path}/s\nwsgi-file = {tmp_path}/app.py\nmaster = true\n{lines}"
        )
        with (tmp_path / "log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [*hosting.DONJON, "--ini", str(tmp_path / "x.ini")],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**os.environ, **(environ or {})},
                )
            )  # fmt: skip
        hosting.wait_for(lambda: get(tmp_path), "answer")
        return started[-1].pid

    yield start
    for one in started:
        one.send_signal(signal.SIGINT)
        assert one.wait(20) == 0


def get(place, target="/"):
    answer = hosting.receive(place / "s", f"GET {target} HTTP/1.0\r\n\r\n".encode())
    return int(answer.partition(b"\r\n\r\n")[2])


def merges_all(pid):
    return "ksm_merge_any: yes" in Path(f"/proc/{pid}/ksm_stat").read_text()


def advised(pid, kib):
    """Whether the mapping of so many KiB, or one that holds it, may be merged (proc_pid_smaps(5))."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    found = re.findall(r"^Size: +(\d+) kB$.*?^VmFlags: ([\w ]+)$", text, re.M | re.S)
    return [" mg" in f" {flags}" for size, flags in found if int(size) >= kib]


def test_ksm02_master_and_workers_allow_it_with_one_word_where_the_kernel_takes_it(
    instance, tmp_path
):
    master = instance("ksm = true\n")
    worker = get(tmp_path)
    assert merges_all(worker)
    hosting.wait_for(lambda: merges_all(master), "the master's word")


def test_ksm04_an_older_kernel_is_asked_for_new_mappings_every_so_many_requests(
    instance, tmp_path
):
    instance("ksm = 4\n", OLD_KERNEL)
    worker = get(tmp_path)
    assert not merges_all(worker)
    get(tmp_path, "/more")
    assert advised(worker, 23 << 10) == [False]
    for _ in range(4):
        assert get(tmp_path) == worker
    assert advised(worker, 23 << 10) == [True]


def test_an_older_kernel_is_asked_by_the_master_every_so_many_seconds(instance, tmp_path):
    master = instance("ksm = 1\n", OLD_KERNEL)
    hosting.wait_for(
        lambda: " mg" in Path(f"/proc/{master}/smaps").read_text(), "the master's mappings"
    )
    assert not merges_all(master)


def test_ksm01_a_host_where_ksmd_is_off_is_told_and_left_as_it_is(instance, tmp_path):
    if ksm.status().run == 1:
        pytest.skip("ksmd runs on this host")
    instance("ksm = true\n")
    line = "ksm does nothing yet: an administrator must write 1 to /sys/kernel/mm/ksm/run"
    hosting.wait_for(lambda: line in (tmp_path / "log").read_text(), "the advice")
    assert ksm.status().run == 0


def test_an_emperor_lets_only_those_share_whom_the_operator_named(host):
    for name in ("blog1", "blog2", "bank"):
        host.vassal(name, "ksm = true\n")
    host.start("ksm-trust = blog*.ini\n")
    for name in ("blog1", "blog2", "bank"):
        host.answer(name)
    workers = {name: host.answer(name)["pid"] for name in ("blog1", "blog2", "bank")}
    assert {name: merges_all(pid) for name, pid in workers.items()} == {
        "blog1": True, "blog2": True, "bank": False,
    }  # fmt: skip
    assert (
        "vassal bank.ini: ksm is off: merged pages tell others what is in them "
        "(ksm-trust names who may share)" in host.log()
    )
    assert set(host.stats()["ksm"]) == {"run", "pages_shared", "pages_sharing", "saved", "profit"}


def test_a_customer_cannot_name_whom_he_is_merged_with(host):
    os.chown(host.vassal("shop", "ksm-trust = *\n"), 33, 33)
    host.start("emperor-tyrant = true\n")
    hosting.wait_for(
        lambda: "shop.ini:7: ksm-trust is for the operator only" in host.log(), "the refusal"
    )


def test_an_executed_vassal_is_never_merged(host):
    host.vassal("shop", "ksm = true\nspawn = exec\n")
    host.start("ksm-trust = *\n")
    assert not merges_all(host.answer("shop")["pid"])
    assert "ksm is off: the Emperor decides for whom" in host.log()


def test_ksm06_donjon_ksm_prints_for_collectd():
    def run(*words):
        done = subprocess.run(
            [*hosting.DONJON, "ksm", *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    assert re.fullmatch(
        r"PUTVAL web1/ksm/gauge-saved interval=60 N:\d+\n", run("--collectd", "--host", "web1")
    )
    assert json.loads(run("--json"))["run"] == ksm.status().run
    assert "saved" in run()
