"""epoll_wait(2), and what needs no thought is done before Python hears of it (_pump.c)."""

class Pump:
    """Copies between the two ends of each pair; what it cannot do whole it returns."""

    def __init__(self, epoll: int) -> None:
        """Wait on this descriptor of epoll(7), which is lent."""

    def wait(self, seconds: float, events: int) -> list[tuple[int, int, bytes | None]]:
        """Return descriptor, events, and bytes that were read and are still to be handed on.

        Without bytes it is an event like any other. Negative ``seconds`` are for ever. Raises
        OSError.
        """

    def pair(self, terminal: int, link: int, framed: bool) -> None:
        """Copy between these two from now on. Raises ValueError."""

    def part(self, fd: int) -> None:
        """Copy no more from and to this one."""

    def counts(self, terminal: int) -> tuple[int, int]:
        """Return bytes typed and shown here since that was last asked."""
