"""Sockets of protocols other than uwsgi and HTTP."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "protocols"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        socket-modifier1 http-socket-modifier1 http-socket-modifier2 fastcgi-socket
        fastcgi-nph-socket
        fastcgi-modifier1 fastcgi-modifier2 scgi-socket scgi-nph-socket scgi-modifier1
        scgi-modifier2 raw-socket raw-modifier1 raw-modifier2 puwsgi-socket
        """,
        nothing="enable-proxy-protocol",
    ),
    *unbuilt(
        AREA,
        required="""
        websockets-ping-freq|websocket-ping-freq
        websockets-pong-tolerance|websocket-pong-tolerance
        websockets-max-size|websocket-max-size chunked-input-limit chunked-input-timeout
        """,
        harmless=True,
    ),
)
