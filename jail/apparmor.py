# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""An AppArmor profile for a jail, where the host's kernel has AppArmor (AAR).

The change takes effect at once and for all that is executed later; a profile that is not loaded
is the kernel's ENOENT. Profiles are loaded by the operator (apparmor_parser(8)).
"""

from __future__ import annotations

import os
from typing import ClassVar

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail.phase import Phase
from donjon.jail.step import Builtin, Context
from donjon.origin import Origin
from donjon.records import dataclass

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_CURRENT = ("/proc/self/attr/apparmor/current", "/proc/self/attr/current")  # 5.8, and before


def is_enabled() -> bool:
    """Whether this kernel confines by AppArmor."""
    try:
        with open(_ENABLED, encoding="ascii") as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


def step(profile: str, origin: Origin) -> ChangeProfile:
    """Return the step that takes ``profile`` on. Raises JailError where there is no AppArmor."""
    if not is_enabled():
        raise JailError(
            f"apparmor-profile {profile} cannot be taken on",
            origin=origin,
            reason="this kernel has no AppArmor, or it is switched off",
            hint="remove the line; seccomp and landlock need no such thing",
        )
    return ChangeProfile(phase=Phase.DROP, origin=origin, profile=profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProfile(Builtin):
    """``changeprofile`` of /proc/self/attr (aa_change_profile(2))."""

    at_join: ClassVar[bool] = True
    profile: str

    def describe(self) -> str:
        return f"be confined by the AppArmor profile {self.profile}"

    def execute(self, context: Context) -> None:
        syscalls.fault("apparmor")
        path = next((path for path in _CURRENT if os.path.exists(path)), _CURRENT[-1])
        with Fd(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as file:
            os.write(file.fileno(), f"changeprofile {self.profile}".encode())
