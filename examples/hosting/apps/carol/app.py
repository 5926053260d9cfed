"""A customer's application: says who and where it is."""

import os


def application(environ, start_response):
    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    body = (
        f"hello from {os.uname().nodename}: uid {os.getuid()}, {len(processes)} processes, "
        f"home {'hidden' if not os.path.exists('/home') else 'visible'}, {environ['PATH_INFO']}\n"
    ).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
