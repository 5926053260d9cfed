"""Sources: which names count, and what inotify tells of them."""

import os
import select

import pytest

from donjon import syscalls
from donjon.emperor.scanner import (
    DirectorySource,
    GlobSource,
    Rules,
    format_of,
    parse_source,
)
from donjon.emperor.watch import VANISHED, WRITTEN, Watch


def names(source):
    return [found.name for found in source.scan()]


def test_known_extensions_make_a_vassal():
    good = ["a.ini", "a.xml", "a.yml", "a.yaml", "a.json", "a.js", "a.toml", "/x/b.c/a.ini"]
    bad = ["app.skel", "a.ini~", ".ini", "a", "x" * 251 + ".ini", "/etc/.ini"]
    assert [name for name in good + bad if Rules().accepts(name)] == good


def test_only_regular_files_count(tmp_path):
    (tmp_path / "a.ini").write_text("[uwsgi]\n")
    (tmp_path / "dir.ini").mkdir()
    os.mkfifo(tmp_path / "fifo.ini")
    (tmp_path / "dead.ini").symlink_to("nowhere")
    (tmp_path / "link.ini").symlink_to("a.ini")
    assert names(DirectorySource("", str(tmp_path), Rules())) == ["a.ini", "link.ini"]


def test_nofollow_sees_the_time_of_the_link_itself(tmp_path):
    (tmp_path / "app.skel").write_text("[uwsgi]\n")
    link = tmp_path / "a.ini"
    link.symlink_to("app.skel")
    os.utime(link, ns=(0, 5_000_000_123), follow_symlinks=False)
    followed = DirectorySource("", str(tmp_path), Rules()).look("a.ini")
    itself = DirectorySource("", str(tmp_path), Rules(nofollow=True)).look("a.ini")
    assert itself.mtime_ns == 5_000_000_123
    assert followed.mtime_ns == (tmp_path / "app.skel").stat().st_mtime_ns


def test_a_glob_finds_files_in_a_hierarchy(tmp_path):
    for site in ("one", "two"):
        (tmp_path / site / "conf").mkdir(parents=True)
        (tmp_path / site / "conf" / "uwsgi.xml").write_text("<uwsgi/>")
    source = parse_source(f"{tmp_path}/*/conf/uwsgi.xml", Rules())
    assert isinstance(source, GlobSource)
    assert names(source) == [f"{tmp_path}/{site}/conf/uwsgi.xml" for site in ("one", "two")]
    sites = [f"{tmp_path}/one", f"{tmp_path}/two"]
    conf = [f"{site}/conf" for site in sites]
    assert source.directories() == {str(tmp_path), *sites, *conf}


def test_a_bare_directory_and_a_bare_pattern_are_told_apart(tmp_path):
    assert isinstance(parse_source(str(tmp_path), Rules()), DirectorySource)
    assert isinstance(parse_source(f"{tmp_path}/*.ini", Rules()), GlobSource)
    assert isinstance(parse_source(f"dir://{tmp_path}", Rules()), DirectorySource)
    with pytest.raises(ValueError, match="no monitor for pg://"):
        parse_source("pg://host=x", Rules())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("a.ini", "ini"),
        ("a.ini:zerg", "ini"),
        ("/etc/v/a.yml", "yaml"),
        ("a.js", "json"),
        ("a.lua", "config"),
        ("a.toml", "toml"),
        ("a.weird", "inherit"),
    ],
)
def test_the_extension_names_the_option_that_loads(name, option):
    assert format_of(name, (".lua",)) == option


@pytest.fixture
def watch(tmp_path):
    watch = Watch()
    assert watch.add(str(tmp_path))
    yield watch
    watch.close()


def masks(watch, name):
    select.select([watch], [], [], 5)
    found = 0
    for change in watch.read():
        if change.name == name:
            found |= change.mask
    return found


def test_a_written_file_is_told_when_it_is_closed(tmp_path, watch):
    with (tmp_path / "a.ini").open("w") as file:
        file.write("half")
        file.flush()
        assert not masks(watch, "a.ini") & WRITTEN
        file.write("whole")
    assert masks(watch, "a.ini") & syscalls.IN_CLOSE_WRITE


def test_touching_a_link_itself_is_told(tmp_path, watch):
    (tmp_path / "a.ini").symlink_to("elsewhere")
    masks(watch, "a.ini")
    os.utime(tmp_path / "a.ini", follow_symlinks=False)
    assert masks(watch, "a.ini") & WRITTEN


def test_a_rename_is_told_on_both_ends(tmp_path, watch):
    (tmp_path / "a.tmp").write_text("x")
    masks(watch, "a.tmp")
    (tmp_path / "a.tmp").rename(tmp_path / "a.ini")
    select.select([watch], [], [], 5)
    seen = {change.name: change.mask for change in watch.read()}
    assert seen["a.tmp"] & VANISHED
    assert seen["a.ini"] & WRITTEN


def test_a_directory_that_vanishes_is_watched_again_when_it_is_back(tmp_path):
    place = tmp_path / "vassals"
    place.mkdir()
    watch = Watch()
    watch.keep({str(place)})
    place.rmdir()
    select.select([watch], [], [], 5)
    watch.read()
    place.mkdir()
    watch.keep({str(place)})
    (place / "a.ini").write_text("x")
    assert masks(watch, "a.ini") & syscalls.IN_CLOSE_WRITE
    watch.close()
