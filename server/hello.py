"""The smallest application: what a zygote rehearses with, and a first thing to try a server on."""


def application(environ, start_response):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001
    """Greet whoever asks."""
    body = b"hello\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
