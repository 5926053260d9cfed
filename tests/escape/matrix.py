"""The matrix of docs/security.md: ``matrix.py RESULTS [--peers FILE] [--print]``, run by scripts/escape-matrix."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HERE / "tests" / "support")]

from cases import CASES, Case, lacks  # noqa: E402  (the path is set above)
from profiles import PROFILES  # noqa: E402

PAGE = HERE / "docs" / "security.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- /matrix -->\n"
PEERS = ("bubblewrap", "runc", "systemd-nspawn", "firejail", "uWSGI")
HELD, OPEN, OWN, NOT = "held", "**through**", "test", "-"

Cells = Mapping[tuple[str, str], str]


def ours(case: Case, profile: str, results: Cells) -> str:
    """Return the word for a case in a profile."""
    if case.test:
        return OWN
    found = results.get((case.id, profile))
    if found is None:
        return NOT
    return OPEN if found else HELD


def table(results: Cells, peers: Cells) -> str:
    """Return the whole table."""
    head = ["case", "tried", "must happen", *(p.name for p in PROFILES), *PEERS]
    lines = [head, ["---"] * len(head)]
    for case in CASES:
        must = f"waits for {case.waits}" if case.waits else case.must
        if lacks(case.needs):
            must += f" (needs `{case.needs}`)"
        row = [case.id, case.tries, must]
        row += [ours(case, profile.name, results) for profile in PROFILES]
        row += [peers.get((case.id, peer), NOT) for peer in PEERS]
        lines.append(row)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rows(page: str) -> list[list[str]]:
    """Return the table of the page, cell by cell, head and all."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def kept_peers(page: str) -> dict[tuple[str, str], str]:
    """Return the peers' cells as the page has them."""
    head, *body = rows(page) or [[]]
    return {
        (row[0], peer): row[head.index(peer)] for row in body for peer in PEERS if peer in head
    }


def read_peers(path: str) -> dict[tuple[str, str], str]:
    """Return the peers' cells as benchmarks/escape.py found them."""
    found = json.loads(Path(path).read_text())
    return {
        (case, peer): NOT if said[:1] == "?" else OPEN if said else HELD
        for peer, cases in found.items()
        for case, said in cases.items()
    }


def read_results(path: str) -> dict[tuple[str, str], str]:
    """Return what got through, by case and profile."""
    lines = Path(path).read_text().splitlines()
    return {(case, profile): said for case, profile, said in map(json.loads, lines)}


def main() -> int:
    """Write the table, and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--peers")
    parser.add_argument("--print", action="store_true", dest="print_only")
    arguments = parser.parse_args()
    page = PAGE.read_text()
    peers = read_peers(arguments.peers) if arguments.peers else kept_peers(page)
    made = table(read_results(arguments.results), peers)
    print(made, end="")
    if not arguments.print_only:
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{made}{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
