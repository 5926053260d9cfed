"""Runs inside a guest: does what the host asks for over a serial line, one request at a time.

A request and its answer are one line of JSON each. ``run``: argv, environ, seconds -> status (128+9 after
the deadline, with ``late``), output; ``read``: path -> data in base64; ``write``: path, data, append.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import tty
from typing import Any

OUTPUT = 400_000  # bytes of output that go back, from its end


def run(argv: list[str], environ: dict[str, str], seconds: float) -> dict[str, Any]:
    # the agent is spared when memory is short (its unit says so), what it runs is not
    with tempfile.TemporaryFile(dir="/run") as output:
        child = subprocess.Popen(
            ["choom", "-n", "0", "--", *argv], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **environ}, cwd="/usr/local/src/donjon",
        )  # fmt: skip
        late = False
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - OUTPUT))
        text = output.read().decode(errors="replace")
    status = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return {"status": status, "output": text, "late": late}


def read(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"data": base64.b64encode(file.read()).decode()}


def write(path: str, data: str, mode: str) -> dict[str, Any]:
    with open(path, mode) as file:
        file.write(base64.b64decode(data))
    return {}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do one request; what the system refuses is told in ``error``."""
    verb = {"run": run, "read": read, "write": write}[request.pop("do")]
    try:
        return verb(**request)
    except OSError as error:
        return {"error": str(error)}


def main() -> None:
    line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    with os.fdopen(line, "r+b", buffering=0) as channel:
        channel.write(b"\nagent is ready\n")
        rest = b""
        while True:
            rest += os.read(line, 65536)
            *requests, rest = rest.split(b"\n")
            for request in requests:
                reply = json.dumps(answer(json.loads(request))).encode() + b"\n"
                while reply:
                    reply = reply[os.write(line, reply) :]


main()
