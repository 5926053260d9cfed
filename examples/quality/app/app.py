"""Says how much processor time it had so far; ``/work`` uses some."""

import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/work":
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{time.process_time():.2f} s of processor time\n".encode()]
