"""Runs with nothing, or little, to do: what they may open, import and start, however many files there are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bench_scale
import pytest
import scale_data
from runs import Comparison, Run, snapshot


class Made(Run):
    """A work directory that `scale_data` made, with the settings that it wrote."""

    @property
    def configfile(self) -> Path:
        return self.work / "config.yaml"

    def configure(self, changes):
        return self


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    work = tmp_path_factory.mktemp("scale") / "work"
    scale_data.prepare(work, measurements=6, datasets=3)
    return work


@pytest.fixture(scope="module")
def made(real):
    kept = real.rename(real.with_name("kept"))
    scale_data.multiply(kept, real, measurements=6, datasets=3)
    return kept, Made(real, real / "source")


def test_a_multiplied_work_directory_is_like_one_prepared_for_real(made):
    kept, run = made
    parts = ("source", "results", ".snakemake/metadata")
    wanted, found = ({p: set(snapshot(work / p)) for p in parts} for work in (kept, run.work))
    wanted["results"].discard(".state/attempts")  # empty: marks of what is being worked on
    assert found == wanted
    assert (run.results / "summary.tsv").read_text().count("\tready\t") == 6 * 2
    sizes = [
        sum(p.stat().st_size for p in (w / "results").rglob("*") if p.is_file()) for w in (kept, run.work)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_a_multiplied_work_directory_has_nothing_to_do(made):
    run = made[1]
    with Comparison(run) as rerun:
        result = run.good()
    assert result.jobs == set() and rerun.files == set()
    assert "nothing to do" in run.dcorflow("plan").stdout


def test_the_start_of_a_job_is_measured_with_the_command_of_a_job(made):
    command = bench_scale.job(made[1].work)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "compress b000001: 0 of 6 measurements" in done.stdout


def test_exponents_are_those_of_the_growth_without_the_start():
    rows = [{"what": "x", "measurements": n, "cpu": 2 + 3e-4 * n**1.05} for n in (1000, 10_000, 100_000)]
    [found] = bench_scale.exponents(rows)
    assert found["exponent"] == pytest.approx(1.05)
    assert bench_scale.exponents(rows[:2]) == []
