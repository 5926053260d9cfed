"""What is kept between runs on the host."""

import machine


def test_what_a_killed_maker_left_is_removed_by_the_next_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("DONJON_TEST_CACHE", str(tmp_path))
    for name in ("making-root-dead", "making-kernel-alive"):
        (tmp_path / name / "root").mkdir(parents=True)
    with machine.workshop("root") as place:
        assert sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir()) == [
            "making-kernel",
            "making-root",
        ]
        assert place.startswith(f"{tmp_path}/making-root-")
    assert [path.name for path in tmp_path.iterdir()] == ["making-kernel-alive"]
