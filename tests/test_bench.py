"""Tables and plot of the benchmark."""

import argparse
import json
import xml.etree.ElementTree as ElementTree

import bench_edit
import bench_measure
import bench_plot
import bench_upload
import pytest
from demo_data import write_measurement

import bench

RUN = bench_measure.Run


def engine_rows():
    """Return figures of one file, as `bench_engine.py` gives them."""
    figures = {"wall": 2.0, "cpu": 3.0, "less_cpu": 1.5, "rss": 90.0, "size": 10**8, "random": 0.3}
    peer = {
        "file": "raw & blood",
        "program": "dclab-compress",
        "threads": 1,
        "faster": 1.0,
        "size_ratio": 1.0,
    }
    own = [
        {"program": name, "threads": threads, "faster": 5.0, "size_ratio": 0.95, "file": "raw & blood"}
        for name in ("compat", "best")
        for threads in (1, 2)
    ]
    eight = {
        "file": "raw & blood",
        "program": "compat, extrapolated",
        "threads": 8,
        "wall": 0.5,
        "faster": 20.0,
    }
    return [figures | peer, *(figures | row for row in own), eight]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a project folder with the marks for the figures in its README."""
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "BENCH", tmp_path / "bench")
    (tmp_path / "bench").mkdir()
    text = f"before\n\n{bench.MARKS[0]}\n\nold\n\n{bench.MARKS[1]}\n\nafter\n"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    return tmp_path


def test_figures_go_into_both_readmes(folder):
    rows = json.loads(json.dumps(engine_rows()))
    bench.write({"engine": {"machine": "a machine", "rows": rows}})
    bench.write({"engine": {"machine": "a machine", "rows": rows}})
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old" not in readme
    assert "| raw & blood | 5.0 | 0.950 | 5.0 | 0.950 |" in readme
    full = (folder / "bench" / "README.md").read_text(encoding="utf-8")
    assert "| raw & blood | compat, extrapolated | 8 | 0.50 | 20.00 |" in full
    assert len({line.count("|") for line in full.splitlines() if line.startswith("|")}) == 1


def test_a_file_measured_again_replaces_its_figures_only(folder, monkeypatch):
    """Parts can be run file by file; the others keep what they have."""
    old = [{"file": f"{name}, 1 GB", "program": "compat", "wall": 9} for name in bench.FILES]
    results = {"engine": {"machine": "a machine", "rows": old}}
    sizes = {"many": 1, "measurements": 1, "scale": [1], "page": [1], "eight": 0, "large": 0, "small": 1}
    arguments = argparse.Namespace(files=["raw blood"], size=1000, turns=1, **sizes)
    new = [{"file": "raw blood, 1 GB", "program": p, "wall": 1} for p in ("compat", "best")]
    commands = []
    monkeypatch.setattr(bench, "run", lambda command: commands.append(command) or new)
    bench.measure_part("engine", arguments, results)
    assert len(commands) == 1 and "raw" in commands[0] and "blood" in commands[0]
    assert json.loads((folder / "bench" / "results.json").read_text(encoding="utf-8")) == results
    rows = results["engine"]["rows"]
    assert [row["file"].partition(",")[0] for row in rows] == ["raw blood", *bench.FILES]
    assert [row["wall"] for row in rows[:3]] == [1, 1, 9]


def test_uploads_have_a_table(folder):
    rows = [
        bench_upload.row("each of 50 small datasets", 2.0, 9.0),
        bench_upload.row("large", 10.0, 35.0, curl=12.0),
    ]
    bench.write({"upload": {"machine": "a machine", "rows": rows}})
    full = (folder / "bench" / "README.md").read_text(encoding="utf-8")
    assert "| each of 50 small datasets | 2.00 | 9.00 | 4.5 |  |" in full
    assert "| large | 10.00 | 35.00 | 3.5 | 12.00 |" in full


def test_an_edit_is_timed_beside_preparing_anew(folder, tmp_path):
    source = write_measurement(tmp_path / "source" / "M1.rtdc", 8)
    rows = [{"how": "copied", **row} for row in bench_edit.child(source, tmp_path / "work", 1, 1)]
    assert [row["what"] for row in rows] == ["prepared anew", "edit", "SHA256 and ETag alone"]
    assert rows[0]["faster"] == 1 and all(row["wall"] > 0 and row["size"] > 10_000 for row in rows)
    bench.write({"edit": {"machine": "a machine", "rows": rows}})
    full = (folder / "bench" / "README.md").read_text(encoding="utf-8")
    assert f"| copied | edit | {rows[1]['size'] / 1e6:.1f} | " in full


def test_plot_shows_every_file():
    root = ElementTree.fromstring(bench_plot.figure(engine_rows(), 2))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "raw & blood" in texts and texts.count("5.0  (0.950)") == 2


def test_eight_cores_share_only_what_two_shared():
    one, two = [RUN(10.0, 10.0, 1.0, 1)] * 3, [RUN(6.0, 10.0, 1.0, 1)] * 3
    assert bench_measure.eight_cores(one, two) == pytest.approx(10 - 8 + 1)
    assert bench_measure.eight_cores(two, one) == 6
    assert bench_measure.times_better(one, two, "wall") == pytest.approx(10 / 6)


def test_the_projects_readme_has_the_marks():
    text = (bench.ROOT / "README.md").read_text(encoding="utf-8")
    assert all(mark in text for mark in bench.MARKS)


def test_uploads_that_are_not_measured_again_keep_their_figures(folder, monkeypatch):
    old = [{"what": "many small", "wall": 1.0}, {"what": "eight", "wall": 2.0}]
    monkeypatch.setattr(bench, "run", lambda command: [{"what": "eight", "wall": 3.0}])
    for small, kept in ((0, [1.0, 3.0]), (50, [3.0])):
        results = {"upload": {"rows": old}}
        args = argparse.Namespace(
            turns=5,
            size=1,
            files=None,
            many=1,
            measurements=1,
            scale=[1],
            page=[1],
            eight=1,
            large=1,
            small=small,
        )
        bench.measure_part("upload", args, results)
        assert [row["wall"] for row in results["upload"]["rows"]] == kept
