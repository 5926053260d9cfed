"""Encrypted sockets."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "TLS"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        suwsgi-socket|ssl-socket https-socket https-socket-modifier1 https-socket-modifier2
        sni sni-dir sni-dir-ciphers sni-regexp
        """,
        nothing="ssl-enable3|ssl-enable-sslv3 ssl-enable-tlsv1 ssl-option",
        optional="ssl-verify-depth",
    ),
    *unbuilt(
        AREA,
        required="ssl-tmp-dir",
        nothing="ssl-verbose",
        harmless=True,
    ),
)
