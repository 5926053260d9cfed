"""The shared caches."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "caching"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        cache cache-blocksize cache-store cache-store-sync cache-udp-server cache-udp-node
        cache-sync add-cache-item load-file-in-cache load-file-in-cache-gzip cache2
        """,
        optional="check-cache",
    ),
    *unbuilt(
        AREA,
        required="cache-expire-freq",
        nothing="""
        cache-no-expire cache-report-freed-items cache-use-last-modified
        """,
        harmless=True,
    ),
)
