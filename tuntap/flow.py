"""What a packet says of itself, as the firewall sees it: ``struct flow`` of flow.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from donjon.tuntap.hostaddresses import packed

Address = IPv4Address | IPv6Address

_PACKED = struct.Struct("=16s16s4I2H5B??x16s16s2HB?2x")
SIZE = _PACKED.size
_NOWHERE = bytes(16)


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error quotes, as it was sent."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A packet; see flow.h for each field. ``from_jail`` and ``to_jail`` are 0 for the router."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    length: int = 40
    from_jail: int = 0
    to_jail: int = 0
    tcp_flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    fragment_id: int = 0
    first_fragment: bool = False
    not_first_fragment: bool = False
    quoted: Quoted | None = None

    def pack(self) -> bytes:
        """Return it as C has it."""
        quoted = self.quoted
        return _PACKED.pack(
            packed(self.source),
            packed(self.destination),
            self.length,
            self.from_jail,
            self.to_jail,
            self.fragment_id,
            self.source_port,
            self.destination_port,
            self.source.version,
            self.protocol,
            self.tcp_flags,
            self.icmp_type,
            self.icmp_code,
            self.first_fragment,
            self.not_first_fragment,
            packed(quoted.source) if quoted else _NOWHERE,
            packed(quoted.destination) if quoted else _NOWHERE,
            quoted.source_port if quoted else 0,
            quoted.destination_port if quoted else 0,
            quoted.protocol if quoted else 0,
            quoted is not None,
        )
