"""An application that says who asks, and whom it reaches: /ADDRESS/PORT."""

import os
import socket


def application(environ, start_response):
    body = f"{os.uname().nodename} answers {environ['REMOTE_ADDR']}"
    address, _, port = environ["PATH_INFO"].strip("/").partition("/")
    if port.isdigit():
        body += f" and {reach(address, int(port))} {address}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{body}\n".encode()]


def reach(address, port):
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return "does not reach"
    return "reaches"
