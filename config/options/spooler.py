"""Work put aside in files and done later."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "spooler"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        spooler/Q spooler-external spooler-chdir touch-spoolers-reload
        spooler-import|spooler-pyimport|spooler-py-import|spooler-python-import
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        spooler-processes spooler-max-tasks spooler-harakiri spooler-frequency|spooler-freq
        """,
        nothing="spooler-ordered spooler-quiet",
        harmless=True,
    ),
)
