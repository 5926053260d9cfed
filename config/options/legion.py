"""Clusters of instances that elect a lord."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "legion"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        legion legion-mcast legion-node legion-death-on-lord-error legion-lord
        legion-unlord legion-setup legion-death legion-join legion-node-joined
        legion-node-left legion-quorum legion-attach-daemon legion-smart-attach-daemon
        legion-smart-attach-daemon2
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        legion-freq legion-tolerance legion-skew-tolerance legion-scroll
        legion-scroll-max-size legion-scroll-list-max-size
        """,
        harmless=True,
    ),
)
