"""The recipes in docs/ci: what can be said of them without a runner."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from runs import REPOSITORY

from dcorflow.cli import make_parser

CI = REPOSITORY / "docs" / "ci"
RECIPES = ("github.yml", "gitlab-ci.yml")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_yaml_and_call_commands_that_exist(name):
    text = (CI / name).read_text()
    assert yaml.safe_load(text)
    called = re.findall(r'bin"?/dcorflow -d "\$WORK" (.*?)(?: [>|]|$)', text, re.MULTILINE)
    assert {"approve", "plan"} <= {words.split()[0] for words in called}
    for words in called:
        make_parser().parse_args(words.replace('"', "").split())
    assert 'pass.sh "$DCORFLOW" "$WORK" "$PWD/config.yaml" upload "$PWD/approvals.tsv"' in text


def test_one_run_at_a_time_and_uploads_from_the_protected_branch_only():
    github = yaml.safe_load((CI / "github.yml").read_text())
    jobs = github["jobs"]
    assert jobs["pass"]["concurrency"] == {"group": "dcorflow", "cancel-in-progress": False}
    # In a common group a plan that waits would cancel a pass that waits.
    assert "concurrency" not in jobs["plan"] and "concurrency" not in github
    assert "refs/heads/main" in jobs["pass"]["if"] and "fork" not in jobs["pass"]["if"]
    assert "DCOR_API_TOKEN" not in str(jobs["plan"]) and "DCOR_API_TOKEN" in str(jobs["pass"])
    gitlab = yaml.safe_load((CI / "gitlab-ci.yml").read_text())
    assert gitlab["pass"]["resource_group"] == "dcorflow"
    assert "DEFAULT_BRANCH" in str(gitlab["pass"]["rules"]) and "TOKEN" not in str(gitlab["pass"])


def test_no_secret_in_an_argument():
    for path in CI.iterdir():
        for line in path.read_text().splitlines():
            assert not re.search(r"(--token|-H |--header).*TOKEN", line), f"{path}: {line}"


def test_a_second_pass_is_refused(tmp_path):
    with (tmp_path / ".pass.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["sh", CI / "pass.sh", REPOSITORY, tmp_path, "none.yaml", "all"], capture_output=True, text=True
        )
    assert done.returncode == 75 and "another pass" in done.stderr


def test_systemd_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for name in ("dcorflow.service", "dcorflow.timer"):
        text = (CI / name).read_text().replace("/bin/sh /opt", "/bin/true /opt")
        Path(tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "dcorflow.timer", tmp_path / "dcorflow.service"],
        capture_output=True, text=True,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "dcorflow" in line]
    assert not [line for line in ours if "Unknown" in line or "Failed to parse" in line], done.stderr
