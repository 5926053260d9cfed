"""Sockets to serve, and how requests are read from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Apply, Option, Takes
from donjon.config.options.rows import Rows, unbuilt
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "sockets"

_server = Rows(AREA, "server")


def _listener(protocol: str) -> Apply:
    def apply(builder: Builder, value: str, origin: Origin) -> None:
        builder.sockets.append((value, protocol, origin))

    return apply


def _shared(builder: Builder, value: str, origin: Origin) -> None:
    builder.shared_sockets.append((value, origin))


def _router(builder: Builder, value: str, origin: Origin) -> None:
    builder.routers.append((value, origin))


def _protocol(builder: Builder, value: str, _origin: Origin) -> None:
    builder.default_protocol = value


def _abstract(builder: Builder, value: bool, _origin: Origin) -> None:  # noqa: FBT001
    builder.abstract_sockets = value


def _chown_socket(builder: Builder, value: str, origin: Origin) -> None:
    builder.server.put("chown_socket", value, origin)
    builder.jail.put("chown_socket", value, origin)


def _socket(
    name: str,
    about: str,
    apply: Callable[[Builder, str, Origin], None],
    *aliases: str,
    **more: str,
) -> Option:
    return Option(
        name=name,
        help=about,
        area=AREA,
        aliases=aliases,
        parse=values.word,
        apply=apply,
        metavar="ADDRESS",
        repeats=True,
        example=more.get("example", "127.0.0.1:8080"),
        short=more.get("short", ""),
    )


LISTENERS = (
    _socket(
        "socket",
        "Serve the default protocol (uwsgi) on an address: /path, @abstract, host:port, :port, "
        "fd://N, or =N for the Nth shared socket.",
        _listener(""),
        short="s",
        example="/run/app.sock",
    ),
    _socket("uwsgi-socket", "Serve the uwsgi protocol on an address.", _listener("uwsgi")),
    _socket(
        "http-socket", "Serve HTTP on an address, one request a connection.", _listener("http")
    ),
    _socket(
        "http11-socket", "Serve HTTP with kept connections on an address.", _listener("http11")
    ),
    _socket("http", "Serve HTTP to the world on an address.", _router, "httprouter"),
    _socket(
        "shared-socket",
        "Bind an address while still privileged; other options call it =0, =1 …",
        _shared,
        "undeferred-shared-socket",
        example=":443",
    ),
    Option(
        name="protocol",
        help="The protocol of sockets that do not say theirs.",
        area=AREA,
        aliases=("socket-protocol",),
        parse=values.choice("uwsgi", "http", "http11"),
        apply=_protocol,
        metavar="NAME",
        example="http",
    ),
)

FILES = (
    _server.number("listen", "How many connections may wait to be accepted.", short="l"),
    _server.number(
        "chmod-socket",
        "The mode of UNIX sockets; 666 if none is given.",
        "chmod",
        parse=values.socket_mode,
        takes=Takes.OPTIONAL,
        short="C",
        metavar="MODE",
        example="664",
    ),
    Option(
        name="chown-socket",
        help="The owner of UNIX sockets.",
        area=AREA,
        parse=values.word,
        apply=_chown_socket,
        metavar="USER[:GROUP]",
        example="www-data:www-data",
    ),
    _server.number(
        "umask",
        "The mask for files that are created.",
        parse=values.octal,
        metavar="MASK",
        example="022",
    ),
    Option(
        name="abstract-socket",
        help="Make UNIX sockets abstract: a name instead of a file.",
        area=AREA,
        takes=Takes.NOTHING,
        short="a",
        parse=values.boolean,
        apply=_abstract,
    ),
    _server.flag("reuse-port", "Let other processes bind the same addresses."),
    _server.flag("vacuum", "Remove sockets and files that were created, at the end."),
)

REQUESTS = (
    _server.number(
        "socket-timeout",
        "Give up on a client that is silent for so long.",
        short="z",
        metavar="SECONDS",
        example="4",
    ),
    _server.number(
        "buffer-size",
        "How long the head of a request may be, up to 65535 bytes.",
        short="b",
        parse=values.clamped(65535),
        metavar="BYTES",
        example="4096",
    ),
    _server.number(
        "post-buffering",
        "Keep request bodies longer than this on disk.",
        metavar="BYTES",
        example="8192",
    ),
    _server.number(
        "limit-post",
        "How long the body of a request may be; 0 for any length.",
        parse=values.integer(0, (1 << 63) - 1),
        metavar="BYTES",
        example="1048576",
    ),
)

OPTIONS = (
    *LISTENERS,
    *FILES,
    *REQUESTS,
    *unbuilt(AREA, nothing="freebind", required="safe-fd|fd-safe"),
    *unbuilt(
        AREA,
        required="""
        max-vars/v map-socket socket-sndbuf socket-rcvbuf tcp-fast-open|tcp-fastopen
        post-buffering-bufsize body-read-warning upload-progress
        """,
        nothing="""
        no-fd-passing no-defer-accept tcp-nodelay so-keepalive
        so-send-timeout|socket-send-timeout|so-write-timeout|socket-write-timeout
        shutdown-sockets close-on-exec close-on-exec2
        tcp-fast-open-client|tcp-fastopen-client
        """,
        harmless=True,
    ),
)
