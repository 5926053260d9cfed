"""Rules that look at a request before, instead of or after the application."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "routing"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        add-header rem-header|del-header collect-header|response-header-collect pull-header
        allowed-modifiers remap-modifier route route-host route-uri route-qs
        route-remote-addr route-user-agent route-remote-user route-referer route-label
        route-if route-if-not route-run final-route final-route-status final-route-host
        final-route-uri final-route-qs final-route-remote-addr final-route-user-agent
        final-route-remote-user final-route-referer final-route-label final-route-if
        final-route-if-not final-route-run error-route error-route-status error-route-host
        error-route-uri error-route-qs error-route-remote-addr error-route-user-agent
        error-route-remote-user error-route-referer error-route-label error-route-if
        error-route-if-not error-route-run response-route response-route-status
        response-route-host response-route-uri response-route-qs response-route-remote-addr
        response-route-user-agent response-route-remote-user response-route-referer
        response-route-label response-route-if response-route-if-not response-route-run
        """,
    ),
    *unbuilt(
        AREA,
        required="response-headers-limit",
        nothing="pcre-jit router-list|routers-list",
        harmless=True,
    ),
)
