"""What each step of a jail costs: ``benchmarks/jail_steps.py [--runs N] [--without-template]``.

To be run as root. A process that has looked at the host already, as the Emperor's zygote has,
makes jails by clone3 into five namespaces; each times its steps. Medians, in microseconds.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import statistics
import sys
import time

from donjon import syscalls
from donjon.jail import namespaces, plan, template, zygote
from donjon.jail.plan import Plan
from donjon.jail.spec import JailSpec
from donjon.jail.step import Context

BORN = frozenset({"fs", "ipc", "pid", "uts", "net"})
SPEC = JailSpec(rootfs="host", hostname="bob", uid="20001", gid="20001")


def run_once(made: Plan) -> tuple[float, list[float]]:
    """Make one jail; return the time from clone3 to the last step, and that of each step."""
    reader, writer = os.pipe()
    start = time.perf_counter()
    pid, pidfd = syscalls.clone3(namespaces.clone_flags(BORN))
    if pid == 0:
        os._exit(live(made, start, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        whole, steps = pickle.loads(pipe.read())
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    return whole, steps


def live(made: Plan, start: float, writer: int) -> int:
    """Be the jail."""
    context = Context(born_in=BORN)
    steps = []
    for step in made.steps:
        before = time.perf_counter()
        step.execute(context)
        steps.append(time.perf_counter() - before)
    whole = time.perf_counter() - start
    os.write(writer, pickle.dumps((whole, steps)))
    return 0


def main() -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--without-template", action="store_true")
    arguments = parser.parse_args()
    plan.warm()
    if not arguments.without_template:
        zygote.prepare()
    before = time.perf_counter()
    made = plan.build(SPEC, born_in=BORN, root=True)
    building = time.perf_counter() - before
    gc.collect()
    gc.freeze()
    results = [run_once(made) for _ in range(arguments.runs)]
    how = "copied from a template" if template.descriptors() else "view by view"
    print(f"host root {how}, {arguments.runs} jails, medians in microseconds")
    for index, step in enumerate(made.steps):
        cost = statistics.median(steps[index] for _, steps in results)
        print(f"{cost * 1e6:8.0f}  {step.phase.value:10} {step.describe()[:80]}")
    inside = statistics.median(sum(steps) for _, steps in results)
    print(f"{inside * 1e6:8.0f}  all steps")
    print(f"{statistics.median(whole for whole, _ in results) * 1e6:8.0f}  with clone3")
    print(f"{building * 1e6:8.0f}  the plan, before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
