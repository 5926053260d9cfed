"""What a customer can ask of the Emperor, and how it tells one process from another."""

import os
import signal
from pathlib import Path

import hosting
import prison
import pytest

from donjon.config import options
from donjon.config.evaluate import evaluate
from donjon.config.launch import build
from donjon.errors import ConfigError

OPERATORS = sorted(name for row in options.all_options() if row.operator for name in row.names)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operators_key_in_a_customers_file_is_refused_by_name(name, tmp_path):
    row = options.find(name)
    path = tmp_path / "shop.ini"
    path.write_text(f"[uwsgi]\nprocesses = 1\n{name} = {row.example or 'true'}\n")
    entries = evaluate(["--ini", str(path)], environ={}).entries
    with pytest.raises(ConfigError) as told:
        build(entries, customer=True)
    line = str(told.value)
    assert line.startswith(f"{path}:3: ")
    assert f"{name} is for the operator only" in line
    assert "\n" not in line


@pytest.mark.root
def test_a_dead_vassals_pid_is_nobody_elses_until_the_emperor_knows(tmp_path):
    host = prison.WatchedHost(Path(f"/tmp/donjon-control-{os.getpid()}"))
    try:
        (host.place / "app").mkdir()
        (host.place / "app" / "app.py").write_text(hosting.APP)
        host.vassal("cell", f"uid = {prison.OWNER}\ngid = {prison.OWNER}\n")
        host.start("emperor-use-clone = fs,ipc,pid,uts,net\n")
        host.answer("cell")
        first = host.master("cell")
        host.emperor.send_signal(signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)
        hosting.wait_for(lambda: hosting.status(first)["State"][0] == "Z", "its death")
        assert int(hosting.status(first)["PPid"]) == host.pid, "only the Emperor can free the pid"
        host.emperor.send_signal(signal.SIGCONT)
        hosting.wait_for(lambda: host.master("cell") not in (first, -1), "another birth")
    finally:
        host.emperor.send_signal(signal.SIGCONT)
        host.close()
