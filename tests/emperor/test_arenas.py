"""The interpreter's objects in one range: they stay what they are, and a fork copies less."""

import subprocess
import sys

PROGRAM = """
import os, re
from donjon.emperor import _arenas

def mapped(address):
    for line in open("/proc/self/smaps"):
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
            start, end = int(found[1], 16), int(found[2], 16)
        elif inside and line.startswith("AnonHugePages:"):
            return start, end, int(line.split()[1])

def size():
    return int(open("/proc/self/statm").read().split()[0]) * 4

def deep(calls):
    return calls and deep(calls - 1)

before = size()
_arenas.gather()
_arenas.gather()
reserved = size() - before
objects = [{"number": number} for number in range(40000)]
for _ in range(400):
    deep(500)  # chunks of frames come and go
objects += [{"number": number} for number in range(40000, 60000)]
places = {mapped(id(one))[:2] for one in objects[-40000::500]}
done = _arenas.settle()
start, end, huge = mapped(id(objects[-1]))
print(len(places), done, huge > 0, reserved > size() - before)
if (pid := os.fork()) == 0:
    for one in objects:
        one["number"] += 1
    more = [{"another": number} for number in range(300000)]
    os._exit(0 if objects[-1]["number"] == 60000 and len(more) == 300000 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sum(one["number"] for one in objects))
del objects
"""


def test_objects_lie_in_one_range_on_huge_pages_and_are_the_same():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    first, second = done.stdout.splitlines()
    places, settled, huge, shrunk = first.split()
    assert (places, shrunk) == ("1", "True")
    assert (settled, huge) != ("True", "False")
    assert second == f"0 {sum(range(60000))}"


def test_a_range_that_was_never_made_is_not_settled():
    code = "from donjon.emperor import _arenas; print(_arenas.settle())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
