"""A hundred reloads under load: how many requests fail (the answer must be none).

    .venv/bin/python benchmarks/reload.py [RELOADS]

One instance with two workers, wrk with 32 keep-alive connections on loopback, SIGHUP after SIGHUP;
each waits until the new generation has loaded. Exit status 1 where wrk counted an error.
"""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = b"""def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\\n"]
"""
LOADED = "WSGI app 0"
PATIENCE = 10.0


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_loaded(log: Path, times: int) -> None:
    """Return when the application was loaded ``times`` times."""
    end = time.monotonic() + PATIENCE
    while log.read_text().count(LOADED) < times:
        if time.monotonic() > end:
            sys.exit(f"no generation {times} within {PATIENCE:.0f} s:\n{log.read_text()[-2000:]}")
        select.select([], [], [], 0.01)


def main() -> int:
    """Run, print one line, return the exit status."""
    reloads = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "app.py").write_bytes(APP)
        log, port = place / "log", free_port()
        command = [
            sys.executable,
            "-m",
            "donjon",
            "--http11-socket",
            f"127.0.0.1:{port}",
            "--master",
        ]
        command += ["--wsgi-file", "app.py", "--processes", "2", "--disable-logging"]
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=place, stdout=output, stderr=output)
        wait_until_loaded(log, 1)
        url = f"http://127.0.0.1:{port}/"
        load = subprocess.Popen(
            ["wrk", "-t1", "-c32", "-d600", url], stdout=subprocess.PIPE, text=True
        )
        for number in range(reloads):
            server.send_signal(signal.SIGHUP)
            wait_until_loaded(log, number + 2)
        load.send_signal(signal.SIGINT)
        report = load.communicate()[0]
        server.send_signal(signal.SIGINT)
        status = server.wait(60)
    errors = re.findall(r"Socket errors:.*|Non-2xx.*", report)
    served = re.search(r"(\d+) requests in", report)
    requests = served[1] if served else "?"
    print(f"{reloads} reloads, {requests} requests, errors: {'; '.join(errors) or 'none'}")
    return 1 if errors or status or not served else 0


if __name__ == "__main__":
    sys.exit(main())
