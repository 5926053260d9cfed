"""The jails of FreeBSD. On Linux the plan refuses them, and names what to write instead."""

from __future__ import annotations

from donjon.config.options import values
from donjon.config.options.rows import Rows
from donjon.jail import freebsd_params as params
from donjon.jail.freebsd_spec import JailParameter, OldJail

_rows = Rows("FreeBSD jails", "jail", operator=True)


def _old(text: str) -> OldJail:
    """Read ``ROOTFS [HOSTNAME] [JAILNAME]``."""
    words = values.word(text).split()
    if not 1 <= len(words) <= 3:
        raise ValueError("not ROOTFS [HOSTNAME] [JAILNAME]")
    values.absolute(words[0])
    return OldJail(words[0], words[1] if len(words) > 1 else "", (words + [None] * 3)[2])


def _address4(text: str) -> str:
    params.address4(text)
    return text.strip()


def _address6(text: str) -> str:
    params.address6(text)
    return text.strip()


def _jail(text: str) -> str:
    """Read the jid or the name of a jail."""
    params.encode("jid" if text.isdecimal() else "name", values.word(text))
    return text


OPTIONS = (
    _rows.text(
        "jail",
        "Run in a FreeBSD jail with this root, made by jail(2).",
        parse=_old,
        metavar='"ROOTFS [HOSTNAME] [JAILNAME]"',
        example="/jails/001 foobar",
    ),
    _rows.several(
        "jail-ip4",
        "Give the jail this IPv4 address, which a network interface must have.",
        field="jail_ip4",
        parse=_address4,
        metavar="ADDRESS",
        example="192.168.0.40",
    ),
    _rows.several(
        "jail-ip6",
        "Give the jail this IPv6 address, which a network interface must have.",
        field="jail_ip6",
        parse=_address6,
        metavar="ADDRESS",
        example="fd00::40",
    ),
    _rows.several(
        "jail2",
        "Run in a FreeBSD jail with this parameter, made by jail_set(2).",
        "libjail",
        field="jail_parameters",
        factory=lambda value, origin: JailParameter(value[0], value[1], origin),
        parse=params.split,
        metavar="KEY[=VALUE]",
        example="path=/jails/001",
    ),
    _rows.text(
        "jail-attach",
        "Run in the FreeBSD jail of this number or name, which is there already.",
        parse=_jail,
        metavar="JID|NAME",
        example="web1",
    ),
    _rows.text(
        "jidfile",
        "Write the number of the FreeBSD jail to this file of the host.",
        metavar="FILE",
        example="/var/run/web1.jid",
    ),
)
