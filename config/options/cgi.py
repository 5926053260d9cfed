"""Programs run for each request."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "CGI"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        cgi cgi-map-helper|cgi-helper cgi-index cgi-allowed-ext cgi-unset cgi-safe
        """,
        nothing="cgi-from-docroot cgi-path-info",
    ),
    *unbuilt(
        AREA,
        required="cgi-buffer-size cgi-timeout cgi-loadlib",
        nothing="""
        cgi-mode/c cgi-optimize|cgi-optimized cgi-do-not-kill-on-error
        cgi-async-max-attempts cgi-close-stdin-on-eof
        """,
        harmless=True,
    ),
)
