"""What each customer serves: who and where it is; of /ADDRESS/PORT, whether it reaches that."""

import os
import socket


def application(environ, start_response):
    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    body = (
        f"hello from {os.uname().nodename}: uid {os.getuid()}, {len(processes)} processes, "
        f"home {'hidden' if not os.path.exists('/home') else 'visible'}, address {own_address()}, "
        f"{environ['PATH_INFO']}"
    )
    address, _, port = environ["PATH_INFO"].strip("/").partition("/")
    if port.isdigit():
        body += " is reached" if reaches(address, int(port)) else " is not reached"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{body}\n".encode()]


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("192.0.2.1", 9))  # nothing is sent
        return link.getsockname()[0]


def reaches(address, port):
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
