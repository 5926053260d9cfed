"""What is not imported yet is not imported in a jail's root with privileges."""

import importlib
import json  # noqa: F401  (imported already, for the first test)
import os
import sys

import pytest

from donjon.instance.guard import no_imports


def test_only_what_is_imported_already_can_be_imported():
    sys.modules.pop("this", None)
    with no_imports():
        assert importlib.import_module("json") is sys.modules["json"]
        with pytest.raises(ImportError, match="this would be imported from the jail's files"):
            importlib.import_module("this")
    assert "this" not in sys.modules


def test_the_guard_ends_with_the_block():
    before = list(sys.meta_path)
    with pytest.raises(RuntimeError), no_imports():
        raise RuntimeError
    assert sys.meta_path == before


@pytest.mark.root
def test_a_hostile_module_in_a_jail_is_never_run(tmp_path, run):
    ours, root = tmp_path / "ours", tmp_path / "root"
    ours.mkdir()
    (ours / "loader.py").write_text("def ready(): pass\ndef load(): import evil\n")
    hostile = root / str(ours).lstrip("/")
    hostile.mkdir(parents=True)
    (hostile / "evil.py").write_text("import os\nos.mkdir('/pwned')\n")
    status, log = run(
        ("chroot", str(root)), ("uid", "www-data"), ("hook-asap", "py:loader:ready"),
        ("hook-as-root", "py:loader:load"), env={**os.environ, "PYTHONPATH": str(ours)},
    )  # fmt: skip
    assert status == 1
    assert "ImportError: evil would be imported from the jail's files with privileges" in log
    assert not (root / "pwned").exists()


@pytest.mark.root
def test_a_module_below_the_new_root_is_refused_by_name(tmp_path, run):
    root = tmp_path / "root"
    root.mkdir()
    status, log = run(("chroot", str(root)), ("uid", "www-data"), ("hook-as-root", "py:this:s"))
    assert status == 1
    assert "with privileges, this is not imported from the jail's files" in log
