"""A child for each test: what it returns comes back, and nothing it does to itself reaches the test."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from donjon import syscalls


@pytest.fixture(autouse=True)
def no_faults_stay():
    yield
    syscalls.inject_clear()


@pytest.fixture
def in_child() -> Callable[..., Any]:
    """Return ``run(function, *args, flags=0, cgroup=-1)``: the function's result from a child by clone3."""
    return _in_child


def _in_child(function: Callable[..., Any], *args: Any, flags: int = 0, cgroup: int = -1) -> Any:
    reader, writer = os.pipe()
    pid, pidfd = syscalls.clone3(flags, cgroup=cgroup)
    if pid == 0:
        os._exit(_answer(writer, function, args))
    os.close(writer)
    try:
        with os.fdopen(
            reader, "rb"
        ) as pipe:  # one object, not to the end: others may hold the pipe
            good, result = pickle.load(pipe)
    finally:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
    assert good, result
    return result


def _answer(writer: int, function: Callable[..., Any], args: tuple[Any, ...]) -> int:
    try:
        answer = (True, function(*args))
    except BaseException:
        answer = (False, traceback.format_exc())
    with os.fdopen(writer, "wb") as pipe:
        pickle.dump(answer, pipe)
    return 0
