"""Prints what .make/vm/results.jsonl has, as the table of docs/testing.md."""

import json
import sys

from machine import TREE


def main() -> int:
    """Print one row for each suite of each flavour."""
    path = TREE / ".make/vm/results.jsonl"
    if not path.exists():
        print(f"no results in {path}: run make vm-test", file=sys.stderr)
        return 1
    print("| flavour | suite | outcome | inside | seconds |\n|---|---|---|---|---|")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        test = row["test"].partition("[")[0].removeprefix("test_").replace("_", " ")
        words = (row["flavour"], f"{row['suite']}: {test}", row["outcome"], row["inside"])
        print(f"| {' | '.join(words)} | {row['seconds']:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
