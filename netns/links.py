"""Links of the network namespace in which this process is, by rtnetlink(7).

/sys/class/net is not asked: it shows the network namespace in which it was mounted, which need not
be ours.

Importing this module imports pyroute2, which takes a tenth of a second: import it where a link is
really wanted, and before the root file system is another.
"""

from __future__ import annotations

import asyncio
import time

from pyroute2 import AsyncIPRoute  # type: ignore[import-untyped]
from pyroute2.netlink import rtnl  # type: ignore[import-untyped]

NEWS = rtnl.RTMGRP_LINK
"""The multicast group that tells of links."""


def wait_for(name: str, timeout: float) -> bool:
    """Return whether a link called ``name`` is there, or comes within ``timeout`` seconds.

    Blocks. Raises OSError.
    """
    return asyncio.run(_within(name, timeout))


def names() -> list[str]:
    """Return the names of all links. Raises OSError."""
    return asyncio.run(_names())


async def _names() -> list[str]:
    async with AsyncIPRoute() as route:
        return [link.get("ifname") async for link in await route.get_links()]


async def _within(name: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    async with AsyncIPRoute() as route:
        await route.bind(groups=NEWS)  # before the first look, so that nothing is missed
        while not await route.link_lookup(ifname=name):
            try:
                await asyncio.wait_for(_news(route), deadline - time.monotonic())
            except TimeoutError:
                return False
    return True


async def _news(route: AsyncIPRoute) -> None:
    """Return when something was said; whatever it is, the link is looked up."""
    async for _message in route.get():
        return
