"""What an upload job tells of how far it is; without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_upload
import pytest

from dcorflow.files import read_json, to_json, write_text
from dcorflow.ticker import progress_lines
from dcorflow.upload import run
from dcorflow.upload.failures import Passing, UploadError
from dcorflow.watch import Progress, Watch
from dcorflow.workdir import Workdir


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """Give a work directory with two datasets, of 1500 and 300 bytes, and a server that takes them."""
    monkeypatch.setenv("DCOR_API_TOKEN", "token")
    for name, answer in (("Api", None), ("learn", None), ("objections", [])):
        monkeypatch.setattr(run, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(run._GroupUpload, "_find_drafts", lambda *_: None)
    files = []
    for name, size in (("one", 1000), ("two", 500), ("three", 300)):
        files.append(tmp_path / f"{name}.rtdc")
        files[-1].write_bytes(bytes(size))
    datasets = {"alpha": files[:2], "beta": files[2:]}
    url = "http://127.0.0.1:9"
    work = bench_upload.write_work(Workdir(tmp_path / "work"), url, datasets, parallel=1, activate="drafts")
    todo = {"found": "3 measurements known", "problems": 0, "batches": {}, "groups": {"g1": 2}}
    write_text(work.todo, to_json(todo))
    write_text(work.state / "plan.json", to_json({"batches": [], "groups": {"g1": []}, "warnings": []}))
    return work


def upload(
    work: Workdir, monkeypatch: pytest.MonkeyPatch, steps: dict[str, Callable[[Any], None]]
) -> tuple[dict[str, Any], list[Progress]]:
    """Upload with given steps instead of requests; return what became of it, and what is seen after each."""
    job, seen = run._GroupUpload(work, "g1"), []

    class Upload:
        def __init__(self, *given: Any) -> None:
            self.manifest, self.meter = given[3], given[5]

        def run(self) -> dict[str, Any]:
            try:
                steps[self.manifest.dataset](self.meter)
            finally:
                job.progress._write()
                seen.append(Watch(work).look())
            return {"id": "id", "state": "draft"}

    monkeypatch.setattr(run, "DatasetUpload", Upload)
    return job.run(), seen


def test_datasets_and_bytes(ready: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    def alpha(meter: Any) -> None:
        meter.skip(500)
        meter.count(400)
        meter.count(-300)

    def beta(meter: Any) -> None:
        meter.count(100)
        raise UploadError("refused")

    outcomes, seen = upload(ready, monkeypatch, {"alpha": alpha, "beta": beta})
    assert {name: o.status for name, o in outcomes.items()} == {"alpha": "draft", "beta": "upload failed"}
    told = [(p.stages[-1], p.now) for p in [*seen, Watch(ready).look()]]
    assert {stage.name for stage, _ in told} == {"upload"}
    assert [(s.done, s.total, s.bytes_done, s.bytes_total, s.moved, s.failed) for s, _ in told] == [
        (0, 2, 600, 1800, 100, 0),
        (1, 2, 1600, 1800, 200, 0),
        (2, 2, 1800, 1800, 200, 1),
    ]
    assert [now for _, now in told] == [[("upload", "alpha")], [("upload", "beta")], []]
    assert Watch(ready).look().failures == [("upload", "beta", "refused")]
    [line] = [line for line in progress_lines(seen[0]) if line.startswith("upload ")]
    assert "0 of 2 datasets  600 B of 1.8 kB" in line


def test_a_server_that_is_down(ready: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise Passing("no answer")

    monkeypatch.setattr(run, "learn", down)
    outcomes, _ = upload(ready, monkeypatch, {})
    assert {o.reason for o in outcomes.values()} == {"no answer"}
    stage = Watch(ready).look().stages[-1]
    assert (stage.done, stage.failed, stage.bytes_done, stage.moved) == (2, 2, 1800, 0)


def test_an_upload_goes_on_where_nothing_can_be_noted(
    ready: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready.progress("", "").parent
    folder.write_text("a file where the folder should be")
    done = {name: (lambda meter: meter.count(10)) for name in ("alpha", "beta")}
    outcomes, _ = upload(ready, monkeypatch, done)
    assert {o.status for o in outcomes.values()} == {"draft"}


def test_nothing_is_told_where_nothing_is_due(ready: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    content = read_json(ready.settled("g1"))
    for decision in content["datasets"]:
        decision["status"] = "incomplete"
    write_text(ready.settled("g1"), to_json(content))
    outcomes, seen = upload(ready, monkeypatch, {})
    assert {o.status for o in outcomes.values()} == {"incomplete"}
    assert not seen
    assert "upload" not in [s.name for s in Watch(ready).look().stages]
