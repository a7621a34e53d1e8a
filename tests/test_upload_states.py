"""What the upload makes of what it finds on a real server, and of what is not as it should be."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from dcor import Dcor
from uploads import GROUP, Lab, altered, multiply

from dcorflow.errors import UsageError
from dcorflow.files import read_json, to_json, write_text
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.recover import Look


class TestDeciding:
    def test_all_publishes_what_is_ready(self, labs) -> None:
        made = labs(activate="all")
        assert made.upload() == dict.fromkeys(("alpha", "beta", "gamma"), "published")
        for name in ("alpha", "beta", "gamma"):
            made.assert_whole(name, "active")
            assert made.receipt(name)["dataset_id"] == made.found(name)[0]["id"]

    def test_drafts_are_never_final(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.approve("beta")
        for _ in range(2):
            assert made.upload() == {"beta": "draft"}
        made.assert_whole("beta", "draft")
        assert "activating" not in made.events()

    def test_a_change_withdraws_an_approval(self, labs) -> None:
        made = labs("beta")
        made.approve("beta")
        made.edit_task("beta", lambda task: task["dataset_dict"].update(private=False))
        assert made.upload() == {"beta": "draft"}
        assert made.assert_whole("beta", "draft")["private"] is False
        made.approve("beta")
        assert made.upload() == {"beta": "published"}
        assert made.assert_whole("beta", "active")["private"] is False

    def test_a_finding_withdraws_an_approval(self, labs) -> None:
        made = labs("beta")
        made.approve("beta")
        path = made.work.settled(GROUP)
        content = read_json(path)
        next(m for m in content["measurements"] if m["dataset"] == "beta")["alerts"] += 1
        write_text(path, to_json(content))
        assert made.upload() == {"beta": "draft"}

    def test_incomplete_only_where_accepted(self, labs) -> None:
        made = labs("alpha", "beta", activate="all")
        path = made.work.settled(GROUP)
        content = read_json(path)
        for dataset in content["datasets"]:
            dataset |= {"status": "incomplete", "accept_incomplete": dataset["dataset"] == "beta"}
        write_text(path, to_json(content))
        assert made.upload() == {"alpha": "incomplete", "beta": "published"}
        assert not made.found("alpha")

    def test_young_files_keep_a_dataset_back(self, labs, tmp_path: Path) -> None:
        made = labs("beta", activate="all", settle=1, settled_by="finished.txt")
        [dataset] = read_json(made.work.group(GROUP))["datasets"]
        [root] = {Path(r) for r in read_json(made.work.config)["input"]["root"]}
        assert made.upload() == {"beta": "unsettled"}  # their change time is that of the test
        assert "less than 1 h ago" in made.reason("beta")
        assert not made.found("beta")
        marker = root / Path(dataset["members"][0]["source"]).parent / "finished.txt"
        marker.touch()
        try:
            assert made.upload() == {"beta": "published"}
        finally:
            marker.unlink()

    def test_no_server_no_upload(self, labs) -> None:
        made = labs("beta")
        made.configure(server=None)
        with pytest.raises(UsageError, match=r"upload\.server"):
            made.upload()


class TestResuming:
    def test_nothing_to_do_asks_nothing(self, labs, monkeypatch: pytest.MonkeyPatch) -> None:
        made = labs("beta", activate="all")
        made.upload()
        monkeypatch.setattr(requests.Session, "request", None)
        monkeypatch.delenv("DCOR_API_TOKEN")
        assert made.upload() == {"beta": "published"}

    def test_receipt_lost(self, labs) -> None:
        made = labs("beta", activate="all")
        made.upload()
        (made.folder / "beta.json").unlink()
        assert made.upload() == {"beta": "published"}
        assert made.receipt("beta")["dataset_id"] == made.assert_whole("beta", "active")["id"]

    def test_id_lost_before_it_was_noted(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        task = read_json(made.work.settled(GROUP))["datasets"][0]["task_id"]
        note = f"[dcorflow: task {task} of '{made.title}', upload not finished]\n\nmore"
        made.dcor.call("package_revise", data={"match": {"id": draft["id"]}, "update": {"notes": note}})
        (made.folder / "ledger.tsv").write_text("")
        Ledger(made.folder / "ledger.tsv").add(task, "intent")
        assert made.upload() == {"beta": "draft"}
        assert made.assert_whole("beta", "draft")["id"] == draft["id"]

    def test_last_line_of_the_ledger_torn(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        path = made.folder / "ledger.tsv"
        path.write_bytes(path.read_bytes()[:-20])
        assert made.upload() == {"beta": "draft"}
        made.assert_whole("beta", "draft")
        assert Ledger(path).damaged == 1
        assert Ledger(path).lines[-1].event == "verified"

    def test_draft_deleted_by_hand(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        made.dcor.call("package_delete", data={"id": draft["id"]})
        made.configure(activate="all")
        assert made.upload() == {"beta": "published"}
        assert made.assert_whole("beta", "active")["id"] != draft["id"]

    @pytest.mark.parametrize("emptied", [False, True])
    def test_a_draft_that_the_server_gave_to_another_task(self, labs, emptied: bool) -> None:
        """It does so where two with equal titles are asked for at once; the second one's fields win."""
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        notes = f"[dcorflow: task another-0000 of '{made.title}', upload not finished]"
        change = {"notes": notes} | ({"resources": []} if emptied else {})
        made.dcor.call("package_revise", data={"match": {"id": draft["id"]}, "update": change})
        made.configure(activate="all")
        assert made.upload() == {"beta": "published"}
        there = {d["id"]: d for d in made.found("beta")}
        left = there.pop(draft["id"])
        assert (left["state"], left["notes"]) == ("draft", notes)
        assert [d["state"] for d in there.values()] == ["active"]
        made.dcor.call("package_delete", data={"id": draft["id"]})
        made.assert_whole("beta", "active")

    def test_another_user_makes_no_second_dataset(self, labs, monkeypatch: pytest.MonkeyPatch) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        monkeypatch.setenv("DCOR_API_TOKEN", made.dcor.tokens["other"])
        monkeypatch.setattr("dcorflow.upload.run.objections", lambda *_: [])
        assert made.upload() == {"beta": "upload failed"}
        assert "not to be seen with this token" in made.reason("beta")
        assert len(made.found("beta")) == 1

    def test_published_and_deleted_is_not_made_again(self, labs) -> None:
        made = labs("beta", activate="all")
        made.upload()
        [shown] = made.found("beta")
        made.dcor.call("dataset_purge", "admin", data={"id": shown["id"]})
        (made.folder / "beta.json").unlink()
        assert made.upload() == {"beta": "upload failed"}
        assert "not on the server any more" in made.reason("beta")
        assert not made.found("beta")

    def test_strange_resource_in_the_draft(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        task = read_json(made.work.datasets / "beta" / "upload_job.dcoraid-task")
        api_add(made, draft, b"not ours", "more.txt")
        assert len(made.found("beta")[0]["resources"]) == 3
        made.configure(activate="all")
        assert made.upload() == {"beta": "published"}
        assert len(made.assert_whole("beta", "active")["resources"]) == len(
            task["upload_job"]["resource_names"]
        )

    def test_changed_fields_are_sent(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        made.edit_task("beta", lambda task: task["dataset_dict"].update(notes="New", authors="C. Other"))
        made.edit_task(
            "beta", lambda task: task["upload_job"]["resource_supplements"][1].update(chip={"name": "X"})
        )
        assert made.upload() == {"beta": "draft"}
        shown = made.assert_whole("beta", "draft")
        assert (shown["id"], shown["notes"], shown["authors"]) == (draft["id"], "New", "C. Other")
        assert shown["resources"][1]["sp:chip:name"] == "X"
        made.edit_task("beta", lambda task: task["upload_job"]["resource_supplements"][1].pop("chip"))
        assert made.upload() == {"beta": "draft"}
        assert not made.assert_whole("beta", "draft")["resources"][1].get("sp:chip:name")

    def test_a_stricter_licence_needs_a_new_draft(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        made.edit_task("beta", lambda task: task["dataset_dict"].update(license_id="CC-BY-4.0"))
        assert made.upload() == {"beta": "draft"}
        shown = made.assert_whole("beta", "draft")
        assert (shown["license_id"], shown["id"] != draft["id"]) == ("CC-BY-4.0", True)

    def test_activated_by_somebody(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        made.dcor.call("package_revise", data={"match": {"id": draft["id"]}, "update": {"state": "active"}})
        assert made.upload() == {"beta": "published"}
        assert made.receipt("beta")["dataset_id"] == draft["id"]

    def test_file_altered_since_its_check(self, labs) -> None:
        made = labs("beta", activate="all")
        [first, *_] = sorted((made.work.datasets / "beta").glob("*.rtdc"))
        with altered(first):
            assert made.upload() == {"beta": "upload failed"}
        assert "altered after it was checked" in made.reason("beta")
        assert made.upload() == {"beta": "published"}

    def test_taken_over_id(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        (made.folder / "ledger.tsv").unlink()
        path = made.work.settled(GROUP)
        path.write_text(path.read_text().replace('"dataset_id": ""', f'"dataset_id": "{draft["id"]}"', 1))
        assert made.upload() == {"beta": "draft"}
        assert made.assert_whole("beta", "draft")["id"] == draft["id"]

    def test_taken_over_draft_with_other_content_is_left_alone(self, labs) -> None:
        made = labs("beta", activate="drafts")
        made.upload()
        [draft] = made.found("beta")
        api_add(made, draft, b"not ours", "more.txt")
        (made.folder / "ledger.tsv").unlink()
        path = made.work.settled(GROUP)
        path.write_text(path.read_text().replace('"dataset_id": ""', f'"dataset_id": "{draft["id"]}"', 1))
        assert made.upload() == {"beta": "upload failed"}
        assert "left as it is" in made.reason("beta")
        assert [d["id"] for d in made.found("beta")] == [draft["id"]]


def api_add(made: Lab, draft: dict[str, Any], content: bytes, name: str) -> None:
    """Add a resource to a draft, as anybody with the token could."""
    asked = {"organization_id": draft["organization"]["id"], "file_size": len(content)}
    place = made.dcor.call("resource_upload_s3_urls", **asked)
    requests.put(place["upload_urls"][0], data=content, timeout=30)
    extend = [{"id": place["resource_id"], "name": name, "s3_available": True}]
    made.dcor.call("package_revise", data={"match": {"id": draft["id"]}, "update__resources__extend": extend})


class TestKilled:
    def approved(self, labs) -> Lab:
        """Give two datasets, of which one may become final."""
        made = labs("alpha", "gamma")
        made.approve("alpha")
        return made

    def assert_done(self, made: Lab) -> None:
        assert made.upload() == {"alpha": "published", "gamma": "draft"}
        made.assert_whole("alpha", "active")
        made.assert_whole("gamma", "draft")

    def test_at_random_moments(self, labs) -> None:
        """Whatever is killed when: one dataset for each task, and none final that nobody approved."""
        start = time.monotonic()
        self.assert_done(self.approved(labs))
        whole = time.monotonic() - start
        made, killed = self.approved(labs), 0
        while killed < 30:
            if made.killed_after(whole * random.uniform(0.05, 0.7)):
                killed += 1
                continue
            self.assert_done(made)  # it had finished: the next one
            made = self.approved(labs)
        self.assert_done(made)

    def test_two_at_once(self, labs) -> None:
        made = labs(activate="all")
        children = [made.fork() for _ in range(3)]
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        assert made.upload() == dict.fromkeys(("alpha", "beta", "gamma"), "published")
        for name in ("alpha", "beta", "gamma"):
            made.assert_whole(name, "active")


class TestSearch:
    def test_a_draft_that_is_in_the_index_only(self, labs, dcor: Dcor) -> None:
        """CKAN writes the index before the database: killed in between, it shows what does not exist."""
        made = labs("beta", activate="all")
        task = read_json(made.work.settled(GROUP))["datasets"][0]["task_id"]
        fields = read_json(made.work.datasets / "beta" / "upload_job.dcoraid-task")["dataset_dict"]
        notes = f"[dcorflow: task {task} of '{made.title}', upload not finished]"
        fields |= {"title": f"ghost of {made.title}", "notes": notes, "state": "draft"}
        ghost = dcor.call("package_create", data=fields)["id"]
        documents = dcor.index(f"select?q=id:{ghost}")
        dcor.call("dataset_purge", "admin", data={"id": ghost})
        dcor.index("update", json.dumps(documents))
        Ledger(made.folder / "ledger.tsv").add(task, "intent")
        try:
            assert [d["id"] for d in dcor.datasets(fields["title"])] == [ghost]
            assert made.upload() == {"beta": "published"}
            assert made.events().count("abandoned") == 1
            shutil.rmtree(made.folder)
            found, doubtful = Look(made.work, read_json(made.work.config)).recover()
            assert (len(found), doubtful) == (1, [])
            assert made.upload() == {"beta": "published"}
        finally:
            dcor.index("update", f"<delete><query>id:{ghost}</query></delete>", "text/xml")
        assert made.assert_whole("beta", "active")["id"] != ghost


class TestMany:
    def test_equal_titles_at_once(self, labs) -> None:
        """The server makes a name of each title, and fails where two do so at the same moment."""
        made = labs("gamma", activate="all", parallel=8, retries=8)
        names = multiply(made, "gamma", 11)
        assert made.upload() == dict.fromkeys(names, "published")
        found = made.found("gamma")
        assert {d["state"] for d in found} == {"active"}
        assert sorted(d["id"] for d in found) == sorted(made.receipt(n)["dataset_id"] for n in names)

    def test_more_than_a_gibibyte_goes_in_parts(self, labs) -> None:
        made = labs("alpha", activate="all", connections=4)
        large = made.work.datasets / "alpha" / "notes.txt"
        with large.open("wb") as stream:  # a sparse file, but for both ends
            stream.write(b"begin")
            stream.seek((1 << 30) + 1000)
            stream.write(b"end")
        assert made.upload() == {"alpha": "published"}
        [etag] = [r["etag"] for r in made.receipt("alpha")["resources"] if r["name"] == "notes.txt"]
        assert etag.endswith("-2")
        [shown] = made.found("alpha")
        [stored] = [made.dcor.stored(r["id"]) for r in shown["resources"] if r["name"] == "notes.txt"]
        answer = requests.get(stored, headers={"Range": f"bytes={(1 << 30) + 998}-"}, timeout=60)
        assert answer.content == b"\0\0end"
        assert answer.headers["Content-Range"].endswith(f"/{large.stat().st_size}")


class TestStockClient:
    def test_task_is_uploaded_by_dcoraid_from_another_place(self, labs, dcor: Dcor, tmp_path: Path) -> None:
        made = labs("gamma")
        folder = tmp_path / "moved"
        shutil.move(made.work.datasets / "gamma", folder)
        command = str(Path(sys.executable).with_name("dcoraid-upload-task"))
        with dcor.working(made.title):
            done = subprocess.run(
                [command, str(folder / "upload_job.dcoraid-task"), dcor.url, dcor.token],
                capture_output=True,
                text=True,
                timeout=120,
            )
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.move(folder, made.work.datasets / "gamma")
        made.assert_whole("gamma", "active")


class TestClusterNode:
    def test_a_node_needs_the_token_file(self, labs, dcor: Dcor, tmp_path: Path) -> None:
        """On a node there is neither the variable nor the memory of the head."""
        made = labs("beta", activate="all")
        node = {"DCOR_API_TOKEN": "", "DCORFLOW_TOKEN_AT": "/proc/1/fd/987654"}
        assert "no API token" in made.start(**node).communicate(timeout=300)[0]
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(f"{dcor.token}\n")
        made.configure(token_file=str(token))
        process = made.start(**node)
        assert "published" in process.communicate(timeout=300)[0]
        assert process.returncode == 0
        made.assert_whole("beta", "active")
        holders = [
            p for p in made.work.root.rglob("*") if p.is_file() and dcor.token.encode() in p.read_bytes()
        ]
        assert not holders
