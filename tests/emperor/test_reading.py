"""Configurations are opened once, and never when they are not whole."""

import os

import pytest

from donjon.emperor import reading
from donjon.emperor.reading import Content, NotYetError, read_config, tyrant_refusal
from donjon.emperor.scanner import Found
from donjon.errors import ConfigError


def found(path):
    return Found("a.ini", str(path), 0, (0, 0), 0, 0, 0)


def test_a_whole_file_is_read(tmp_path):
    (tmp_path / "a.ini").write_text("[uwsgi]\n")
    assert read_config(found(tmp_path / "a.ini")).data == b"[uwsgi]\n"


@pytest.mark.root
def test_a_file_with_a_writer_has_to_wait(tmp_path):
    with (tmp_path / "a.ini").open("w") as file:
        file.write("[uwsgi]\n")
        file.flush()
        with pytest.raises(NotYetError, match="being written"):
            read_config(found(tmp_path / "a.ini"))
    assert read_config(found(tmp_path / "a.ini")).data == b"[uwsgi]\n"


def test_an_empty_or_missing_file_has_to_wait(tmp_path):
    (tmp_path / "a.ini").touch()
    for name in ("a.ini", "missing.ini"):
        with pytest.raises(NotYetError):
            read_config(found(tmp_path / name))


def test_fifos_devices_and_huge_files_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(b"x" * 2000)
    monkeypatch.setattr(reading, "SIZE_MAX", 1000)
    for path, reason in (
        (tmp_path / "fifo", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / "big", "more than 1000"),
    ):
        with pytest.raises(ConfigError, match=reason):
            read_config(found(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Content(b"", 1001, 1001, 0o644, 1), ""),
        (Content(b"", 0, 1001, 0o644, 1), "root"),
        (Content(b"", 1001, 0, 0o644, 1), "root"),
        (Content(b"", 1001, 1001, 0o646, 1), "everyone"),
        (Content(b"", 1001, 1001, 0o644, 2), "hard link"),
    ],
)
def test_a_tyrant_refuses_what_another_could_have_written(content, reason):
    refusal = tyrant_refusal(content)
    assert (reason in refusal) if reason else refusal == ""
