"""What is said before, beside and after uploads: refusals, audit, recover, doctor, init."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dcor import COLLECTION, Dcor
from runs import REPOSITORY, Run
from uploads import GROUP, Lab, make_unique, records_of

from dcorflow import facts
from dcorflow.config import resolve_config
from dcorflow.facts import learned
from dcorflow.files import read_json, to_json, write_text
from dcorflow.records import save_record
from dcorflow.upload.doctor import examine
from dcorflow.workdir import Workdir


def command(made: Lab, *words: str) -> Any:
    """Run a command of dcorflow in a work directory."""
    run = Run.__new__(Run)
    run.work = made.work.root
    return run.dcorflow(*words)


def task_change(**fields: Any) -> Any:
    return lambda task: task["dataset_dict"].update(fields)


class TestRefusals:
    """Everything that the server would refuse is said before a draft is made."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (task_change(owner_org="no-circle"), "circle 'no-circle' does not exist, or uploader may not"),
            (task_change(groups=[{"name": "no-such"}]), "collection 'no-such': it does not exist"),
            (task_change(license_id="WTFPL"), "licence 'WTFPL' is not accepted; possible: CC0-1.0"),
            (task_change(title=" "), "title is empty"),
            (task_change(authors=" , "), "no authors"),
            (task_change(tags=[{"name": "a;b"}]), "tag 'a;b'"),
            (
                lambda t: t["upload_job"]["resource_supplements"][0].update(cells={"x": 1}),
                "'cells:x' is unknown",
            ),
            (
                lambda t: t["upload_job"]["resource_supplements"][0].update(cells={"fixed": "perhaps"}),
                "'cells:fixed': expected boolean, found 'perhaps'",
            ),
        ],
    )
    def test_settings(self, labs, change: Any, words: str) -> None:
        made = labs("alpha", activate="all")
        title = made.found("alpha")
        made.edit_task("alpha", change)
        assert made.upload() == {"alpha": "upload failed"}
        assert words in made.reason("alpha")
        assert made.found("alpha") == title == []
        assert not (made.folder / "ledger.tsv").exists()

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("notes?.txt", b"x", "notes?.txt: the name has characters other than"),
            ("notes.exe", b"x", "notes.exe: files of type '.exe' are not accepted; possible: .rtdc"),
            ("empty.txt", b"", "empty.txt: the file is empty"),
        ],
    )
    def test_files(self, labs, name: str, content: bytes, words: str) -> None:
        made = labs("alpha", activate="all")
        (made.work.datasets / "alpha" / name).write_bytes(content)

        def add(task: dict[str, Any]) -> None:
            job = task["upload_job"]
            job["resource_names"].append(name)
            job["resource_paths"].append(name)
            job["resource_supplements"].append({})

        made.edit_task("alpha", add)
        assert made.upload() == {"alpha": "upload failed"}
        assert words in made.reason("alpha")
        assert not made.found("alpha")

    def test_a_task_that_is_broken(self, labs) -> None:
        """The three lists of a task describe the same files."""
        made = labs("beta", activate="all")
        made.edit_task("beta", lambda task: task["upload_job"]["resource_paths"].pop())
        task = made.work.datasets / "beta" / "upload_job.dcoraid-task"
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta") == (
            f"{task}: expected as many paths and supplements as resource names (2), found 1 and 2; "
            "delete the file and run again, which writes it anew"
        )
        made.edit_task("beta", lambda task: task.pop("upload_job"))
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta") == (
            f"{task}: expected a task with 'dataset_dict' and 'upload_job', 'upload_job' is missing; "
            "delete the file and run again, which writes it anew"
        )
        task.write_text("{")
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta").startswith(f"{task}: expected JSON")

    def test_someone_elses_collection(self, labs) -> None:
        made = labs("beta", activate="all")
        name = f"other-{made.work.root.name}"
        made.dcor.call("group_create", "other", data={"name": name})
        made.edit_task("beta", task_change(groups=[{"name": COLLECTION}, {"name": name}]))
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta") == (
            f"collection '{name}': you may not add to it; create it or ask its owner, or leave it out"
        )

    def test_a_wrong_token_is_called_wrong(self, labs, monkeypatch: pytest.MonkeyPatch) -> None:
        made = labs("beta")
        monkeypatch.setenv("DCOR_API_TOKEN", "not-a-token")
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta").startswith("the API token is wrong")
        assert "not-a-token" not in made.reason("beta")
        monkeypatch.delenv("DCOR_API_TOKEN")
        assert made.upload() == {"beta": "upload failed"}
        assert made.reason("beta").startswith("no API token")

    def test_no_dcor_at_the_address(self, labs, dcor: Dcor) -> None:
        search_index = dcor.s3.replace(str(port := int(dcor.s3.rpartition(":")[2])), str(port - 1))
        made = labs("beta", url=search_index)
        assert made.upload() == {"beta": "upload failed"}
        assert "no DCOR server" in made.reason("beta")


def await_checksums(made: Lab, dataset: str, key: str = "sha256") -> None:
    """Wait until the server's worker has looked at all measurements of a dataset."""

    def done() -> bool:
        [found] = made.found(dataset)
        return all(r.get(key) for r in found["resources"] if r["name"].endswith(".rtdc"))

    made.dcor.await_worker(done)


class TestDuplicates:
    def test_same_content_under_another_title(self, labs, dcor: Dcor) -> None:
        made = labs("beta", activate="all")
        with dcor.working(made.title, "job_set_sha256"):
            made.upload()
            await_checksums(made, "beta")
        there = made.found("beta")[0]["id"]
        again = labs("beta", activate="all", duplicates="block")
        assert again.upload() == {"beta": "upload failed"}
        assert "is on the server already (same content)" in again.reason("beta")
        assert not again.found("beta")
        lines = command(again, "audit").stdout
        assert f"{there} (active, not uploaded from here)" in lines
        again.configure(duplicates="warn")
        assert again.upload() == {"beta": "published"}

    def test_same_measurement_with_other_content(self, labs, dcor: Dcor) -> None:
        """Uploaded by other means: date, time, run index, event count and setup tell it."""
        made = labs("gamma", activate="drafts")
        with dcor.working(made.title, "job_set_dc_config"):
            made.upload()
            await_checksums(made, "gamma", "dc:experiment:date")
        [draft] = made.found("gamma")
        again = labs("gamma", activate="all", duplicates="block")
        for record in records_of(again):
            record.prepared |= {"sha256": "0" * 64, "etag": "0" * 32}
            save_record(again.work, record)
        assert f"same measurement as five.rtdc in {dcor.url}/dataset/{draft['id']} (draft" in (
            command(again, "audit").stdout
        )
        assert again.upload() == {"gamma": "upload failed"}
        assert "same measurement" in again.reason("gamma")
        dcor.call("package_delete", data={"id": draft["id"]})
        assert draft["id"] not in command(again, "audit").stdout

    def test_ledger_lost_before_the_server_has_computed_checksums(self, labs) -> None:
        """Neither a draft that is complete nor what is final carries a mark; its files are compared."""
        made = labs("alpha", "beta", activate="approved", duplicates="block")
        make_unique(made, "alpha", "beta")
        made.approve("beta")
        assert made.upload() == {"alpha": "draft", "beta": "published"}
        made.configure(activate="all")
        shutil.rmtree(made.folder)
        assert made.upload() == dict.fromkeys(("alpha", "beta"), "upload failed")
        for name, state in (("alpha", "draft"), ("beta", "active")):
            [there] = made.found(name)
            assert "is on the server already (same content)" in made.reason(name)
            assert f"{there['id']} ('{there['title']}', {state}); if that is this dataset, say 'dcorflow" in (
                made.reason(name)
            )
            assert f"{there['id']} ({state}, not uploaded from here)" in command(made, "audit").stdout
        assert command(made, "recover").code == 0
        assert made.upload() == dict.fromkeys(("alpha", "beta"), "published")

    def test_own_dataset_is_no_duplicate(self, labs, dcor: Dcor) -> None:
        made = labs("beta", activate="drafts", duplicates="block")
        make_unique(made, "beta")
        with dcor.working(made.title):
            assert made.upload() == {"beta": "draft"}
            await_checksums(made, "beta")
        made.configure(activate="all")
        assert made.upload() == {"beta": "published"}


class TestRecover:
    def test_draft_and_published(self, labs) -> None:
        made = labs("alpha", "beta", activate="approved")
        made.approve("beta")
        assert made.upload() == {"alpha": "draft", "beta": "published"}
        ids = {name: made.found(name)[0]["id"] for name in ("alpha", "beta")}
        for path in made.folder.rglob("*"):
            if path.is_file():
                path.unlink()
        done = command(made, "recover")
        assert done.code == 0, done.text
        assert "2 datasets found; the next" in done.stdout
        assert "0 datasets found; the ledger lacks none" in command(made, "recover").stdout
        assert made.upload() == {"alpha": "draft", "beta": "published"}
        for name, state in (("alpha", "draft"), ("beta", "active")):
            assert made.assert_whole(name, state)["id"] == ids[name]

    def test_unfinished_draft_stops_an_upload_without_ledger(self, labs) -> None:
        made = labs("beta", activate="all")
        task = read_json(made.work.settled(GROUP))["datasets"][0]["task_id"]
        fields = read_json(made.work.datasets / "beta" / "upload_job.dcoraid-task")["dataset_dict"]
        notes = f"[dcorflow: task {task} of '{made.title}', upload not finished]"
        draft = made.dcor.call("package_create", data=fields | {"state": "draft", "notes": notes})
        assert made.upload() == {"beta": "upload failed"}
        assert "dcorflow recover" in made.reason("beta")
        assert command(made, "recover").code == 0
        assert made.upload() == {"beta": "published"}
        assert made.assert_whole("beta", "active")["id"] == draft["id"]


class TestDoctor:
    def test_all_fine(self, labs) -> None:
        done = command(labs("beta"), "doctor")
        assert done.code == 0, done.text
        for words in ("CKAN 2.11", "uploader", "my-circle", "everything is fine"):
            assert words in done.stdout

    def test_what_is_wrong(self, labs, monkeypatch: pytest.MonkeyPatch) -> None:
        made = labs("beta")
        config = read_json(made.work.config)
        config["datasets"]["defaults"] |= {"owner_org": "nowhere", "collections": ["none"]}
        write_text(made.work.config, to_json(config))
        done = command(made, "doctor")
        assert done.code == 1
        assert "BAD  circle" in done.stdout
        assert "BAD  collection" in done.stdout
        monkeypatch.setenv("DCOR_API_TOKEN", "wrong")
        assert "BAD  token" in command(made, "doctor").stdout
        made.configure(server="http://127.0.0.1:9")
        assert "BAD  server" in command(made, "doctor").stdout

    def test_which_configuration(self, tmp_path: Path) -> None:
        """That which the next run would read; its mistakes are one line of the report."""
        work = Workdir(tmp_path)

        def look() -> dict[str, Any]:
            return {finding.what: finding for finding in examine(work, None)}

        assert look()["config"].words.startswith("neither")
        [disk] = [f for f in examine(Workdir(tmp_path / "to be" / "made"), None) if f.what == "disk"]
        assert disk.words.endswith(f"GB free in {tmp_path}") or not disk.good
        path = tmp_path / "config" / "config.yaml"
        datasets = {"defaults": {"authors": ["A"], "license_id": "CC0-1.0", "owner_org": "my-circle"}}
        config = {
            "input": {"root": "."},
            "datasets": datasets,
            "upload": {"server": "http://nowhere.example.org", "settle": "never"},
        }
        write_text(path, to_json(config))
        found = look()
        assert (found["Python"].good, found["config"].good, "server" in found) == (True, False, False)
        assert f"{path} needs changes" in found["config"].words
        assert "settle" in found["config"].words
        config["upload"]["settle"] = 3
        write_text(path, to_json(config))
        found = look()
        assert (found["config"].good, found["config"].words) == (True, str(path))
        assert (found["server"].good, "token" in found) == (False, False)


class TestInit:
    ANSWERS = ("--root", "data: raw", "--authors", "A. Name, B. Näme", "--license-id", "CC0-1.0")

    def run(self, folder: Path, *words: str) -> Any:
        run = Run.__new__(Run)
        run.work = folder
        return run.dcorflow("init", *words)

    def test_writes_a_configuration_that_is_valid(self, tmp_path: Path) -> None:
        (tmp_path / "data: raw").mkdir()
        done = self.run(tmp_path, *self.ANSWERS, "--owner-org", "my-circle", "--server", "playground")
        assert done.code == 0, done.text
        path = tmp_path / "config" / "config.yaml"
        config = resolve_config(yaml.safe_load(path.read_text(encoding="utf-8")), tmp_path)
        assert config["input"]["root"] == [str(tmp_path / "data: raw")]
        assert config["datasets"]["defaults"]["authors"] == ["A. Name", "B. Näme"]
        assert config["datasets"]["namespace"].startswith("my-circle-")
        assert config["upload"]["server"] == "playground"
        assert path.read_text(encoding="utf-8").count("#") >= (
            (REPOSITORY / "config" / "config.yaml").read_text(encoding="utf-8").count("#") - 1
        )
        again = self.run(tmp_path, *self.ANSWERS, "--owner-org", "other")
        assert (again.code, "exists" in again.stderr) == (64, True)
        assert f"Next: 'dcorflow doctor --configfile {path}'" in done.stdout

    def test_without_a_server_the_workflow_comes_next(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, *self.ANSWERS, "--owner-org", "my-circle")
        assert f"Next: 'snakemake -s {REPOSITORY}/Snakefile -d {tmp_path} " in done.stdout

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, *self.ANSWERS)
        assert done.code == 64
        assert "--owner-org" in done.stderr


def test_shipped_facts_are_those_of_the_server(dcor: Dcor, tmp_path: Path) -> None:
    """What is validated without a network is what a real server would say."""
    facts.use(None)
    shipped = facts.dcor()
    assert learned.refresh(dcor.url, tmp_path / "facts.json")
    said = learned.load(tmp_path / "facts.json")
    assert said is not None
    assert set(said["suffixes"]) == set(shipped["suffixes"])
    assert set(said["licenses"]) <= set(shipped["licenses"])

    def rules(found: dict[str, Any]) -> dict[str, Any]:
        names = ("type", "positive", "fixed", "choices", "requires")
        return {
            f"{section}:{key}": [part.get("requires", {}), *(rule.get(n) for n in names)]
            for section, part in found["supplements"].items()
            for key, rule in part["items"].items()
        }

    assert rules(said) == rules(shipped)
