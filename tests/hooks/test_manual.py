"""The manual page of hooks says what the tables say."""

from pathlib import Path

import pytest

from donjon.hooks.actions import ACTIONS
from donjon.hooks.mounts import FLAGS
from donjon.jail.phase import Phase

MANUAL = (Path(__file__).parents[2] / "docs/hooks.md").read_text(encoding="utf-8")
NO_HOOKS = {Phase.JAIL, Phase.ROOT, Phase.DROP, Phase.LIMITS}


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_each_action_has_its_row(name):
    row = ACTIONS[name]
    names = " ".join(f"`{each}`" for each in (row.name, *row.aliases))
    assert f"| {names} | `{row.usage}` | {row.help} |" in MANUAL


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in NO_HOOKS])
def test_each_phase_is_described(phase):
    assert f"`{phase.value}`" in MANUAL


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_each_mount_flag_is_listed(flag):
    assert f"`{flag}`" in MANUAL
