"""The house: folders, links, documents and what must not be in the tree."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "config",
    "emperor",
    "fork_pty",
    "hooks",
    "jail",
    "netns",
    "server",
    "syscalls",
    "tuntap",
)


def _tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_a_relative_link(package):
    link = ROOT / "src" / "donjon" / package
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{package}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_is(package):
    text = (ROOT / package / "__init__.py").read_text()
    assert text.startswith('"""')


def test_every_document_that_is_linked_exists():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_no_source_file_is_longer_than_six_hundred_lines():
    long = {
        str(path.relative_to(ROOT)): count
        for path in _tracked()
        if path.suffix in {".py", ".c", ".h"}
        and path.is_file()
        and not path.is_symlink()
        and (count := len(path.read_text().splitlines())) > 600
    }
    assert long == {}


def test_no_path_of_a_machine_is_in_the_tree():
    pattern = re.compile(r"/(?:root|work)/|/home/[a-z]+/\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _tracked()
        if path.is_file() and path != Path(__file__) and path.suffix not in {".lock"}
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
