"""What a real server gives back of a dataset, compared with the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dclab
import numpy as np
import pytest
import recipes
import requests
from dclab.definitions import CFG_METADATA
from dclab.rtdc_dataset.fmt_dcor import RTDC_DCOR
from dcor import Dcor
from demo_data import write_measurement
from runs import aged
from test_upload import UploadRun, new_run

from dcorflow.watch import Watch
from dcorflow.workdir import Workdir


@pytest.fixture(scope="module")
def run(started_dcor: Dcor | str, tmp_path_factory: pytest.TempPathFactory) -> UploadRun | None:
    """Publish a dataset with all kinds of data; the server needs no worker to give it back."""
    if isinstance(started_dcor, str):
        return None
    folder = tmp_path_factory.mktemp("read_back")
    source = folder / "source" / "all"
    source.mkdir(parents=True)
    number = {"experiment:run index": 4, "experiment:time": "13:00:00"}
    write_measurement(source / "full.rtdc", 9, seed=5, roi=recipes.ROI, metadata=number)
    recipes.contours(source / "contours.rtdc")
    recipes.file_basin(source / "derived.rtdc")
    aged(folder / "source")
    settings = {"datasets.title": f"{{directory}} of {folder.name}", "upload.activate": "all"}
    made = new_run(folder, started_dcor, folder / "source", **settings)
    result = made.upload()
    assert result.code == 0, result.text
    return made


def resources(run: UploadRun) -> list[dict[str, Any]]:
    """Return the resources of the published dataset as the server shows them."""
    return run.server.call("package_show", id=run.receipt("all")["dataset_id"])["resources"]


@contextmanager
def opened(run: UploadRun, name: str) -> Iterator[tuple[Any, Any, Any]]:
    """Give a measurement three times: its source, the prepared file, and through the server's API."""
    [resource] = [r["id"] for r in resources(run) if r["name"] == name]
    host = run.server.url.removeprefix("http://")
    with (
        dclab.new_dataset(run.source / "all" / name) as source,
        dclab.new_dataset(run.results / "datasets" / "all" / name) as prepared,
        RTDC_DCOR(resource, host=host, use_ssl=False, api_key=run.server.token) as there,
    ):
        yield source, prepared, there


def flat(feature: str, data: Any) -> Iterator[tuple[str, Any]]:
    """Give the arrays of a feature with their names: traces and contours have several."""
    if feature == "trace":
        for name in sorted(data):
            yield name, data[name][:]
    elif feature == "contour":
        for event in range(len(data)):
            yield str(event), data[event]
    else:
        yield feature, data[:]


def same_features(here: Any, there: Any) -> set[str]:
    """Insist on equal events; return the names of the features that were compared."""
    assert len(here) == len(there)
    assert set(here.features_innate) <= set(there.features)
    for feature in here.features_innate:
        ours, theirs = (dict(flat(feature, d[feature])) for d in (here, there))
        assert ours.keys() == theirs.keys(), feature
        for name, values in ours.items():
            assert values.shape == theirs[name].shape, (feature, name)
            assert np.array_equal(values, theirs[name], equal_nan=values.dtype.kind == "f"), (feature, name)
    return set(here.features_innate)


def metadata(dataset: Any) -> dict[str, Any]:
    return {
        f"{section}:{key}": value
        for section in [*CFG_METADATA, "user"]
        for key, value in dict(dataset.config.get(section, {})).items()
    }


def same_tables(here: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Insist on equal tables; the server gives each value of a column in a list of its own."""
    assert set(here) == set(there)
    for name in here:
        assert list(here[name].keys()) == list(there[name].keys())
        for column in here[name].keys():  # noqa: SIM118  (a table of dclab has no other way)
            values = np.ravel(there[name][column])
            assert np.array_equal(here[name][column], values, equal_nan=True), (name, column)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("full.rtdc", {"image", "image_bg", "mask", "trace", "deform", "fl1_max"}),
        ("contours.rtdc", {"image", "mask", "contour"}),
        ("derived_neighbour.rtdc", {"image", "mask"}),
    ],
)
def test_the_server_gives_back_the_source(dcor: Dcor, run: UploadRun, name: str, kinds: set[str]) -> None:
    """All images, masks, contours and traces, scalar features, logs, tables and metadata."""
    with opened(run, name) as (source, prepared, there):
        assert kinds <= same_features(source, there)
        assert metadata(prepared) == metadata(there)
        changed = {k for k, v in metadata(source).items() if metadata(there).get(k) != v}
        assert changed <= {"setup:software version"}, "which names the programs that wrote the file"
        # Where its worker has been at work, the server adds a log about its own excerpt of the file.
        logs = {log: list(there.logs[log]) for log in there.logs if log != "dclab-condense"}
        assert logs == {log: list(prepared.logs[log]) for log in prepared.logs}
        assert {log: logs[log] for log in source.logs} == {log: list(source.logs[log]) for log in source.logs}
        same_tables(source.tables, there.tables)
        assert len(source.logs) > 0
        assert len(source.tables) == (name == "full.rtdc")


def test_a_basin_between_two_stored_files(dcor: Dcor, run: UploadRun, tmp_path: Path) -> None:
    """Downloaded into one folder, the file that lacks images finds those of the other."""
    shown = resources(run)
    names = [r["name"] for r in shown]
    assert sorted(names) == ["contours.rtdc", "derived.rtdc", "derived_neighbour.rtdc", "full.rtdc"]
    assert names.index("derived_neighbour.rtdc") < names.index("derived.rtdc")
    derived = tmp_path / "derived.rtdc"
    for resource in shown:
        answer = requests.get(dcor.stored(resource["id"]), timeout=60)
        (tmp_path / resource["name"]).write_bytes(answer.content)
    with (
        dclab.new_dataset(derived) as here,
        dclab.new_dataset(run.source / "all" / "derived_neighbour.rtdc") as source,
    ):
        assert {"image", "mask"}.isdisjoint(here.features_innate)
        for feature in ("image", "mask"):
            assert np.array_equal(here[feature][:], source[feature][:]), feature
    (tmp_path / "derived_neighbour.rtdc").unlink()
    with dclab.new_dataset(derived) as here:
        assert "image" not in here, "neither from the source's folder nor from elsewhere"


def test_the_run_told_how_far_the_upload_was(dcor: Dcor, run: UploadRun) -> None:
    stage = Watch(Workdir(run.work)).look().stages[-1]
    size = sum(r["size"] for r in run.receipt("all")["resources"])
    assert (stage.name, stage.done, stage.total, stage.failed) == ("upload", 1, 1, 0)
    assert (stage.bytes_done, stage.bytes_total, stage.moved) == (size, size, size)
