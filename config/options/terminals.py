"""Shells that reach an instance, and the terminal of a worker."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "terminals"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        forkptyrouter|forkpty-router forkptyurouter|forkpty-urouter
        forkptyrouter-command|forkpty-router-command|forkptyrouter-cmd|forkpty-router-cmd
        forkptyrouter-zerg pam pam-user pty-socket pty-connect pty-uconnect pty-exec
        """,
        nothing="pty-no-isig",
    ),
    *unbuilt(
        AREA,
        required="""
        forkptyrouter-rows forkptyrouter-cols forkptyrouter-processes|forkptyrouter-workers
        forkptyrouter-fallback forkptyrouter-events forkptyrouter-timeout
        forkptyrouter-stats|forkptyrouter-stats-server|forkptyrouter-ss
        forkptyrouter-harakiri
        """,
        nothing="forkptyrouter-cheap pty-log pty-input",
        harmless=True,
    ),
)
