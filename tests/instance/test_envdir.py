"""Variables from the files of a directory."""

import os

import pytest

from donjon.errors import DonjonError
from donjon.instance import envdir
from donjon.origin import Origin


@pytest.fixture
def environment(monkeypatch):
    """The environment as it is, put back afterwards."""
    before = dict(os.environ)
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def test_files_are_variables(tmp_path, environment):
    environment["GONE"] = "x"
    (tmp_path / "COLOUR").write_bytes(b"deep blue \t\nsecond line\n")
    (tmp_path / "LINES").write_bytes(b"one\0two")
    (tmp_path / "EMPTY_LINE").write_bytes(b"\n")
    (tmp_path / "GONE").touch()
    (tmp_path / ".hidden").write_text("no")
    envdir.apply([str(tmp_path)], None)
    got = [environment.get(name) for name in ("COLOUR", "LINES", "EMPTY_LINE", "GONE", ".hidden")]
    assert got == ["deep blue", "one\ntwo", "", None, None]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "BAD")
    with pytest.raises(
        DonjonError,
        match=r"^a\.ini:1: envdir: cannot read the environment in .*/BAD: not a regular",
    ):
        envdir.apply([str(tmp_path)], Origin("a.ini", 1, "envdir"))


def test_a_value_has_a_limit(tmp_path, environment):
    (tmp_path / "BIG").write_bytes(b"x" * (envdir.LIMIT + 1))
    with pytest.raises(DonjonError, match="at most 131072 bytes"):
        envdir.apply([str(tmp_path)], None)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(DonjonError, match="/none: No such file or directory"):
        envdir.apply([f"{tmp_path}/none"], None)
