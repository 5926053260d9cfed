"""Vassals that all have one plan, and do what they are asked for."""

import hosting


def start(host: hosting.Host, base: str, plan: str, lines: str = "") -> None:
    """Start an Emperor whose one plan, ``all``, has the lines of ``plan``."""
    host.start(
        f"plan-cgroup = {base}\nemperor-control = {host.place}/control\nplan-assign = * all\n"
        f"{lines}[plan:all]\n{plan}"
    )


def get(host: hosting.Host, name: str, target: str, seconds: float = 5.0) -> str:
    """What a vassal answers; ``seconds`` bound the wait for each piece of it."""
    answer = hosting.receive(host.sock(name), f"GET {target} HTTP/1.0\r\n\r\n".encode(), seconds)
    return answer.partition(b"\r\n\r\n")[2].decode()


def well(host: hosting.Host, name: str, seconds: float = 15.0) -> None:
    """Wait until a vassal answers."""
    try:
        hosting.wait_for(lambda: get(host, name, "/") == "well", f"answer of {name}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; log:\n{host.log()[-3000:]}") from None
