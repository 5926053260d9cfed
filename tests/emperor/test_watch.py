"""inotify streams: of directories, and of single files."""

from donjon import syscalls
from donjon.emperor.watch import Watch


def test_a_file_tells_of_what_it_was_asked_for_and_no_more(tmp_path):
    paths = [tmp_path / "memory.events", tmp_path / "pids.events"]
    for path in paths:
        path.write_text("0")
    watch = Watch(syscalls.IN_MODIFY)
    try:
        for path in paths:
            assert watch.add(str(path))
        paths[0].chmod(0o600)
        paths[1].write_text("12")
        changes = watch.read()
        assert {change.path for change in changes} == {str(paths[1])}
        watch.remove(str(paths[1]))
        watch.remove(str(paths[1]))
        paths[1].write_text("3")
        paths[0].write_text("4")
        assert {change.path for change in watch.read()} == {str(paths[0])}
        assert not watch.add(str(tmp_path / "nothing"))
    finally:
        watch.close()


def test_directories_are_kept_as_they_are_wanted(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    watch = Watch()
    try:
        watch.keep({str(tmp_path / "a"), str(tmp_path / "b")})
        watch.keep({str(tmp_path / "b")})
        for name in ("a", "b"):
            (tmp_path / name / "shop.ini").write_text("")
        assert {(one.path, one.name) for one in watch.read()} == {
            (str(tmp_path / "b"), "shop.ini")
        }
    finally:
        watch.close()


def test_two_names_of_a_directory_are_both_told_and_one_may_go(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    both = {str(tmp_path / "a"), str(tmp_path / "link")}
    watch = Watch()
    try:
        watch.keep(both)
        (tmp_path / "a" / "shop.ini").write_text("")
        assert {one.path for one in watch.read()} == both
        watch.keep({str(tmp_path / "a")})
        (tmp_path / "a" / "shop.ini").write_text("more")
        assert {one.path for one in watch.read()} == {str(tmp_path / "a")}
        watch.keep(set())
        watch.keep(both)
        (tmp_path / "a" / "shop.ini").unlink()
        (tmp_path / "a").rmdir()
        watch.read()
        watch.keep(set())
    finally:
        watch.close()
