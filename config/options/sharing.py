"""Queues, shared areas, locks and calls between instances."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "shared memory"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        sharedarea/A queue queue-blocksize queue-store queue-store-sync py-sharedarea
        """,
    ),
    *unbuilt(
        AREA,
        required="locks lock-engine ftok rpc-max",
        nothing="persistent-ipcsem",
        harmless=True,
    ),
)
