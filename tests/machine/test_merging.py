"""Two hundred customers of one application, and ksmd: what is merged, and with whom it never is."""

import hosting
import pytest
from notes import note
from planned import get

from donjon.jail import ksm

pytestmark = [
    pytest.mark.root,
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(ksm.status() is None, reason="a kernel without CONFIG_KSM"),
]
TRUSTED, OTHERS, PAGES = 150, 50, 256
APP = """
import random
dice = random.Random(7)
table = [dice.randbytes(4096 - 64) for _ in range(PAGES)]
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
FAST = {"advisor_mode": "none", "smart_scan": "0", "pages_to_scan": "20000", "sleep_millisecs": "5", "run": "1"}  # fmt: skip


@pytest.fixture
def ksmd():
    """Let ksmd scan fast; afterwards nothing is merged."""
    for knob, value in FAST.items():
        path = hosting.Path(ksm.CONTROL, knob)
        if path.exists():
            path.write_text(value)
    yield
    hosting.Path(ksm.CONTROL, "run").write_text("2")


def family(host, name):
    master = host.master(name)
    return [master, *hosting.descendants(master)]


def test_g87_two_hundred_of_one_application_are_merged_with_whom_they_trust_only(host, ksmd):
    (host.place / "app.py").write_text(APP.replace("PAGES", str(PAGES)))
    names = [f"blog{n:03}" for n in range(TRUSTED)] + [f"bank{n:03}" for n in range(OTHERS)]
    for number, name in enumerate(names):
        host.vassal(name, f"ksm = 1\nuid = {20000 + number}\ngid = {20000 + number}\n")
    host.start("emperor-use-clone = fs,ipc,pid,uts\nksm-trust = blog*.ini\n")
    for name in names:
        hosting.wait_for(
            lambda name=name: get(host, name, "/", 10) == "well", f"answer of {name}", 60
        )
    blogs = {pid for name in names[:TRUSTED] for pid in family(host, name)}
    banks = {pid for name in names[TRUSTED:] for pid in family(host, name)}
    # each of the trusted holds the same pages, of which one copy stays
    wanted = (TRUSTED - 1) * PAGES * 0.9
    hosting.wait_for(lambda: ksm.status().pages_sharing >= wanted, "merged pages", 60)
    assert ksm.merged(banks) == 0
    assert ksm.merged(blogs) > 0
    merging = ksm.status()
    note(
        f"{TRUSTED} of {len(names)} trusted: {merging.pages_sharing} pages saved "
        f"({merging.saved >> 20} MiB), {ksm.merged(banks)} of the other {OTHERS}"
    )
