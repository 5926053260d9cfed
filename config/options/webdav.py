"""A directory as a WebDAV store."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "WebDAV"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        webdav-mount webdav-lock-cache webdav-principal-base webdav-add-option
        webdav-add-prop webdav-add-collection-prop webdav-add-object-prop
        webdav-add-prop-href webdav-add-collection-prop-href webdav-add-object-prop-href
        webdav-add-prop-comp webdav-add-collection-prop-comp webdav-add-object-prop-comp
        webdav-add-rtype-prop webdav-add-rtype-collection-prop webdav-add-rtype-object-prop
        webdav-skip-prop
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        webdav-css webdav-javascript|webdav-js webdav-class-directory webdav-div
        """,
        harmless=True,
    ),
)
