"""Routers in processes of their own that pass requests to other instances."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "gateways"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        fastrouter fastrouter-zerg fastrouter-use-pattern fastrouter-use-base
        fastrouter-fallback fastrouter-use-code-string fastrouter-to
        fastrouter-subscription-server fastrouter-uid fastrouter-gid fastrouter-resubscribe
        fastrouter-resubscribe-bind fastrouter-subscription-fallback-key https
        https2 https-session-context http-to-https http-var http-to http-zerg http-fallback
        http-modifier1 http-modifier2 http-use-pattern http-use-base
        http-subscription-server http-subscription-fallback-key http-use-code-string
        http-stud-prefix http-uid http-gid http-resubscribe http-server-name-as-http-host
        rawrouter rawrouter-zerg rawrouter-use-pattern rawrouter-use-base
        rawrouter-fallback rawrouter-use-code-string rawrouter-to
        rawrouter-subscription-server sslrouter sslrouter2 sslrouter-session-context
        sslrouter-zerg sslrouter-use-pattern sslrouter-use-base sslrouter-fallback
        sslrouter-use-code-string sslrouter-to sslrouter-subscription-server
        """,
        nothing="""
        fastrouter-fallback-on-no-key https-export-cert http-auto-gzip http-manage-source
        http-manage-rtsp rawrouter-xclient sslrouter-sni
        """,
        optional="""
        fastrouter-use-cache fastrouter-use-socket http-use-cache http-use-socket
        http-enable-proxy-protocol rawrouter-use-cache rawrouter-use-socket
        sslrouter-use-cache sslrouter-use-socket
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        fastrouter-processes|fastrouter-workers fastrouter-gracetime fastrouter-events
        fastrouter-quiet fastrouter-subscription-slot fastrouter-timeout
        fastrouter-post-buffering fastrouter-post-buffering-dir
        fastrouter-stats|fastrouter-stats-server|fastrouter-ss fastrouter-harakiri
        fastrouter-buffer-size http-processes|http-workers http-events http-timeout
        http-gracetime http-quiet http-stats|http-stats-server|http-ss http-harakiri
        http-buffer-size http-headers-timeout http-connect-timeout
        rawrouter-processes|rawrouter-workers rawrouter-gracetime rawrouter-events
        rawrouter-max-retries rawrouter-quiet rawrouter-subscription-slot rawrouter-timeout
        rawrouter-stats|rawrouter-stats-server|rawrouter-ss rawrouter-harakiri
        rawrouter-buffer-size sslrouter-processes|sslrouter-workers sslrouter-gracetime
        sslrouter-events sslrouter-max-retries sslrouter-quiet sslrouter-timeout
        sslrouter-stats|sslrouter-stats-server|sslrouter-ss sslrouter-harakiri
        sslrouter-buffer-size
        """,
        nothing="""
        force-gateway fastrouter-cheap http-auto-chunked http-raw-body http-websockets
        http-chunked-input http-cheap rawrouter-cheap sslrouter-cheap
        """,
        optional="http-manage-expect http-keepalive",
        harmless=True,
    ),
)
