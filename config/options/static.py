"""Files served without the application."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "static files"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        check-static static-check static-map static-map2 static-skip-ext static-index
        static-safe
        """,
        nothing="check-static-docroot",
    ),
    *unbuilt(
        AREA,
        required="""
        error-page-403 error-page-404 error-page-500 static-cache-paths
        static-cache-paths-name mimefile|mime-file static-expires-type
        static-expires-type-mtime static-gzip-dir|static-gzip-prefix
        static-gzip-ext|static-gzip-suffix offload-threads|offload-thread
        file-serve-mode|fileserve-mode static-expires static-expires-mtime
        static-expires-uri static-expires-uri-mtime static-expires-path-info
        static-expires-path-info-mtime static-gzip
        """,
        nothing="static-gzip-all honour-range disable-sendfile",
        harmless=True,
    ),
)
