"""Steps made of hooks: their order, what they say, what a failure does."""

import pickle

import pytest

from donjon.errors import HookError
from donjon.hooks import runner
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import NEVER_FATAL, Phase
from donjon.jail.step import Context
from donjon.origin import Origin

ORIGIN = Origin("a.ini", 7, "hook-asap")


def test_steps_stand_in_the_order_of_phases_then_families_then_lines():
    hooks = [
        Hook(Phase.AS_ROOT, Kind.EXEC, "true"),
        Hook(Phase.ASAP, Kind.CALL, "sync"),
        Hook(Phase.ASAP, Kind.EXEC, "one"),
        Hook(Phase.ASAP, Kind.EXEC, "two"),
        Hook(Phase.ASAP, Kind.UMOUNT, "/x"),
        Hook(Phase.ASAP, Kind.MOUNT, "tmpfs none /x"),
        Hook(Phase.ASAP, Kind.HOOK, "print:x"),
    ]
    got = [(step.phase, step.text) for step in runner.steps(hooks)]
    assert got == [
        (Phase.ASAP, "print:x"),
        (Phase.ASAP, "tmpfs none /x"),
        (Phase.ASAP, "/x"),
        (Phase.ASAP, "one"),
        (Phase.ASAP, "two"),
        (Phase.ASAP, "sync"),
        (Phase.AS_ROOT, "true"),
    ]


def test_a_step_can_be_pickled_and_described():
    step = runner.step(Hook(Phase.ASAP, Kind.HOOK, "print:x", ORIGIN), runner.Facts())
    assert pickle.loads(pickle.dumps(step)) == step
    assert step.describe() == "hook: print:x"
    assert step.origin == ORIGIN


def test_a_hook_is_announced_with_its_phase(capfd):
    runner.steps([Hook(Phase.PRE_JAIL, Kind.HOOK, "print:words")])[0].execute(Context())
    assert capfd.readouterr().err == 'running "print:words" (pre-jail)...\nwords\n'


def test_a_private_hook_shows_its_text_nowhere(capfd):
    [step] = runner.steps([Hook(Phase.ASAP, Kind.HOOK, "!exec:exit 3 # secret", ORIGIN)])
    with pytest.raises(HookError) as failure:
        step.execute(Context())
    shown = capfd.readouterr().err + str(failure.value) + step.describe()
    assert "secret" not in shown
    assert "a.ini:7: hook-asap: private hook failed (asap): exit status 3" in shown


def test_a_failure_names_the_line_the_path_and_the_reason(tmp_path):
    text = f"chmod:{tmp_path}/none 644"
    [step] = runner.steps([Hook(Phase.ASAP, Kind.HOOK, text, ORIGIN)])
    with pytest.raises(HookError) as failure:
        step.execute(Context())
    assert str(failure.value) == (
        f'a.ini:7: hook-asap: "{text}" failed (asap): {tmp_path}/none: No such file or directory'
    )


@pytest.mark.parametrize("phase", sorted(NEVER_FATAL, key=lambda phase: phase.value))
def test_a_failure_in_a_phase_that_is_never_fatal_is_logged(phase, capfd):
    for kind, text in ((Kind.HOOK, "exec:exit 5"), (Kind.EXEC, "exit 5")):
        runner.steps([Hook(phase, kind, text)])[0].execute(Context())
        assert "failed" in capfd.readouterr().err


def test_only_a_called_function_may_be_missing_as_root():
    runner.steps([Hook(Phase.AS_ROOT, Kind.CALL, "no_such")])[0].execute(Context())
    with pytest.raises(HookError):
        runner.steps([Hook(Phase.PRE_JAIL, Kind.CALL, "no_such")])[0].execute(Context())


def test_what_cannot_be_understood_names_its_line():
    with pytest.raises(HookError, match=r"^a\.ini:7: hook-asap: unknown hook action nosuch"):
        runner.steps([Hook(Phase.ASAP, Kind.HOOK, "nosuch:x", ORIGIN)])
    with pytest.raises(HookError, match=r"bad chmod: .*\(write chmod:FILE MODE\)"):
        runner.steps([Hook(Phase.ASAP, Kind.HOOK, "chmod:x", ORIGIN)])


def test_an_exclamation_mark_is_the_shells_own_in_exec_families():
    runner.steps([Hook(Phase.ASAP, Kind.EXEC, "! false")])[0].execute(Context())
