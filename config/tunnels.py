# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""The step that gives a jail its tun device: ``tuntap-device``, in the post-jail phase."""

from __future__ import annotations

from donjon.errors import JailError
from donjon.jail.phase import Phase
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass
from donjon.server.spec import ServerSpec
from donjon.tuntap import uplink
from donjon.tuntap.settings import DeviceSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRouter(Builtin):
    """``tuntap-device = DEV [SOCKET]``."""

    setting: DeviceSetting
    rules: tuple[bytes, ...]
    credentials: bool

    def describe(self) -> str:
        made = f"make the tun device {self.setting.device}"
        joined = f"{made}, joined to the router at {self.setting.address}"
        return joined if self.setting.address else made

    def execute(self, context: Context) -> None:
        uplink.begin(self.setting, self.rules, credentials=self.credentials)


def steps_of(server: ServerSpec, *, jailed: bool) -> tuple[JoinRouter, ...]:
    """Return the steps of all devices. Raises JailError where there is no post-jail phase."""
    if server.tuntap_devices and not jailed:
        device = server.tuntap_devices[0]
        raise JailError(
            f"tuntap-device {device.device} is made when the jail is",
            origin=device.origin,
            reason="there is none",
            hint="as root, with jailed = true or unshare = net",
        )
    return tuple(
        JoinRouter(
            phase=Phase.POST_JAIL,
            origin=device.origin,
            setting=device,
            rules=server.tuntap_device_rules,
            credentials=server.tuntap_credentials,
        )
        for device in server.tuntap_devices
    )
