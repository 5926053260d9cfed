"""The table is whole: every number has a row, each row a way to be tried, and the manual shows them all."""

import ast
from pathlib import Path

import cases
import matrix
import pytest
from cases import CASES
from profiles import PROFILES

ROOT = Path(__file__).parents[2]
NUMBERS = [
    *(f"A{n}" for n in range(1, 11)),
    *(f"B{n}" for n in range(11, 30)),
    *(f"C{n}" for n in range(30, 43)),
    *(f"D{n}" for n in range(43, 55)),
    *(f"G{n}" for n in range(78, 91)),
]


def test_every_number_of_the_list_has_a_row():
    have = {case.id.partition("-")[0] for case in CASES}
    assert [number for number in NUMBERS if number not in have] == []


def test_ids_are_unique():
    ids = [case.id for case in CASES]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("case", [one for one in CASES if one.test], ids=lambda case: case.id)
def test_a_case_with_a_test_of_its_own_names_one_that_exists(case):
    path, _, name = case.test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_profiles_that_a_case_names_exist():
    known = {profile.name for profile in PROFILES}
    assert {name for case in CASES for name in (*case.only, *case.but)} <= known


def test_a_feature_that_is_not_there_is_named():
    assert cases.lacks("no-such-option") == "no option no-such-option yet"
    assert cases.lacks("rootfs=host") == ""
    assert cases.lacks("rootfs=nowhere") == "no rootfs=nowhere yet"


def test_the_manual_shows_every_case_and_every_jail():
    head, *body = matrix.rows(matrix.PAGE.read_text())
    assert head == ["case", "tried", "must happen", *(p.name for p in PROFILES), *matrix.PEERS]
    assert [row[0] for row in body[1:]] == [case.id for case in CASES]
    words = {matrix.HELD, matrix.OPEN, matrix.OWN, matrix.NOT}
    assert {cell for row in body[1:] for cell in row[3:]} <= words


def test_nothing_got_through_a_jail_of_ours():
    head, *body = matrix.rows(matrix.PAGE.read_text())
    ours = [head.index(profile.name) for profile in PROFILES]
    assert [row[0] for row in body[1:] if matrix.OPEN in [row[n] for n in ours]] == []
