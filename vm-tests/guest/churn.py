"""Adds, reloads and removes vassals without end, and tells the console what is on the disk for certain."""

import itertools
import os
import random
import sys
from pathlib import Path

VASSALS = Path("/srv/vassals")
TEXT = """[uwsgi]
chdir = /srv
wsgi-file = app.py
http-socket = /srv/run/{name}.sock
chmod-socket = 666
master = true
uid = 33
gid = 33
id-range = auto:{name}
"""


def sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def say(text: str) -> None:
    with open("/dev/console", "w") as console:
        console.write(f"COMMIT {text}\n")


def write(name: str) -> None:
    fresh = VASSALS / f".{name}.new"
    with fresh.open("w") as file:
        file.write(TEXT.format(name=name))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(VASSALS / f"{name}.ini")
    sync_directory(VASSALS)


def main() -> None:
    chance = random.Random(sys.argv[1])
    for number in itertools.count():
        living = sorted(path.stem for path in VASSALS.glob("*.ini"))
        what = chance.choice(["add", "add", "touch", "rewrite", "remove"])
        if not living or (what == "add" and len(living) < 8):
            name = f"v{sys.argv[1]}-{number}"
            write(name)
            say(f"add {name}")
        elif what == "remove" and len(living) > 3:
            name = chance.choice(living)
            say(f"removing {name}")
            (VASSALS / f"{name}.ini").unlink()
            sync_directory(VASSALS)
        elif what == "touch":
            os.utime(VASSALS / f"{chance.choice(living)}.ini")
        else:
            write(chance.choice(living))


main()
