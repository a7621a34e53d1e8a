"""A week of nightly passes as docs/ci recommends them, and what somebody finds each morning."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import recipes
import yaml
from dcor import CIRCLE, Dcor
from faults import proxied
from runs import REPOSITORY, Run, aged

CI = REPOSITORY / "docs" / "ci"


class Lab(Run):
    """The archive of a lab, its work directory and its repository of metadata."""

    dcor: Dcor
    title: str

    def night(self) -> int:
        """Run the script of the recipes; return its exit code."""
        secret = {"DCOR_API_TOKEN": self.dcor.token, "DCORFLOW_PYTHON": sys.executable, "DCORFLOW_CORES": "2"}
        arguments = [REPOSITORY, self.work, self.configfile, "upload", self.approvals]
        done = subprocess.run(
            ["sh", CI / "pass.sh", *arguments], env=os.environ | secret, capture_output=True,
            text=True, timeout=300, cwd=self.work.parent,
        )  # fmt: skip
        self.output = done.stdout + done.stderr
        assert self.dcor.token not in self.output
        return done.returncode

    @property
    def approvals(self) -> Path:
        return self.work.parent / "approvals.tsv"

    def measured(self, name: str, seed: int, **metadata: Any) -> Path:
        path = recipes.small_measurement(
            self.source / f"{name}.rtdc", seed=seed, metadata={"setup:medium": "CellCarrier"} | metadata
        )
        return aged(path)

    def morning(self) -> dict[str, str]:
        """Return the status of each dataset by its folder."""
        return {source.partition("/")[0]: row["dataset_status"] for source, row in self.rows().items()}

    def on_server(self) -> dict[str, str]:
        """Return state and number of resources of each dataset of this lab on the server."""
        found = [d for d in self.dcor.datasets() if d["title"].endswith(self.title)]
        return {d["title"].split()[0]: f"{d['state']} {len(d['resources'])}" for d in found}

    def junit(self) -> Counter[str]:
        cases = ElementTree.parse(self.results / "junit.xml").getroot().iter("testcase")
        return Counter("".join(child.tag for child in case) or "passed" for case in cases)


def test_a_week_of_passes(dcor: Dcor, tmp_path: Path) -> None:
    """Play it: what each night's pass finds, and the state of each morning, here and on the server."""
    with proxied(dcor.url, dcor.s3) as proxy:
        lab = Lab(
            tmp_path / "work",
            tmp_path / "source",
            **{
                "datasets.defaults.owner_org": CIRCLE,
                "datasets.namespace": tmp_path.name,
                "datasets.title": f"{{directory}} of {tmp_path.name}",
                "upload": {"server": proxy.url, "settle": 0, "retries": 1, "duplicates": "allow"},
            },
        )
        lab.dcor, lab.title = dcor, f"of {tmp_path.name}"
        _first_half(lab, proxy)
        _second_half(lab)


def _first_half(lab: Lab, proxy: Any) -> None:
    lab.measured("monday/M1", 1)
    writing = lab.measured("monday/M2", 2)
    os.utime(writing)
    lab.measured("tuesday/M1", 3)
    bad = lab.measured("tuesday/M2", 4)
    good = bad.read_bytes()
    bad.write_bytes(bytes(len(good)))  # as a copy that was cut off: its size is reserved, nothing is in it
    aged(bad)
    assert lab.night() == 0, lab.output
    assert lab.row("monday/M2.rtdc")["status"] == "in progress"
    assert lab.row("tuesday/M2.rtdc")["status"] == "failed"
    assert lab.morning() == {"monday": "incomplete", "tuesday": "incomplete"}
    assert lab.junit() == {"passed": 2, "skipped": 1, "failure": 1}
    assert lab.on_server() == {}

    # the recording is finished, the bad file copied again; the server is down
    aged(writing)
    bad.write_bytes(good)
    os.utime(bad, (1_700_000_100, 1_700_000_100))
    proxy.fault = lambda request: "503"
    assert lab.night() == 1, lab.output
    assert lab.morning() == {"monday": "upload failed", "tuesday": "upload failed"}
    assert lab.junit() == {"passed": 4}
    assert lab.on_server() == {}

    proxy.fault = lambda request: ""
    assert lab.night() == 0, lab.output
    assert lab.morning() == {"monday": "draft", "tuesday": "draft"}
    assert lab.on_server() == {"monday": "draft 2", "tuesday": "draft 2"}


def _second_half(lab: Lab) -> None:
    # both are approved by review, then the metadata of one are corrected: that approval is void
    told = lab.dcorflow("approve", "--digests")
    assert told.code == 0 and told.stdout.count("\ttuesday\t") == 1, told.text
    lab.approvals.write_text(told.stdout, encoding="utf-8")
    before = lab.row("tuesday/M1.rtdc")["sha256"]
    fix = {"metadata": {"override": {"setup:medium": "water"}}}
    aged(lab.source / "tuesday").joinpath("dcorflow.yaml").write_text(yaml.safe_dump(fix))
    assert lab.night() == 0, lab.output
    assert lab.morning() == {"monday": "published", "tuesday": "draft"}
    assert lab.on_server() == {"monday": "active 2", "tuesday": "draft 2"}
    assert lab.row("tuesday/M1.rtdc")["sha256"] != before

    # a file comes late into what is final; only it is prepared
    lab.measured("monday/M3", 5)
    others = {path: seen for path, seen in lab.measurements().items() if "M3" not in path}
    assert lab.night() == 0, lab.output
    assert lab.morning() == {"monday": "late", "tuesday": "draft"}
    assert lab.on_server() == {"monday": "active 2", "tuesday": "draft 2"}
    assert {path: seen for path, seen in lab.measurements().items() if "M3" not in path} == others

    # the corrected dataset is reviewed again
    lab.approvals.write_text(lab.dcorflow("approve", "--digests").stdout, encoding="utf-8")
    assert lab.night() == 0, lab.output
    assert lab.morning() == {"monday": "late", "tuesday": "published"}
    assert lab.on_server() == {"monday": "active 2", "tuesday": "active 2"}
