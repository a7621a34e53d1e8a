"""What lies on the server is compared again, before anything becomes final and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from dcor import Dcor
from uploads import GROUP, Lab

from dcorflow.files import read_json
from dcorflow.upload import preflight
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.manifest import Manifest, Resource
from dcorflow.upload.preflight import Facts, objections
from dcorflow.upload.recover import Look


def alter(made: Lab, dataset: str, number: int = 0) -> str:
    """Put something else into the object store, behind the server's back; return the id of the dataset."""
    [shown] = made.found(dataset)
    answer = requests.put(made.dcor.stored(shown["resources"][number]["id"]), data=b"other", timeout=30)
    assert answer.status_code == 200
    return str(shown["id"])


def test_objects_altered_and_lost_in_the_store(labs) -> None:
    made = labs("alpha", "gamma", activate="drafts")
    made.upload()
    first = alter(made, "alpha", 1)
    [second] = made.found("gamma")
    lost = second["resources"][0]["id"]
    answer = requests.delete(made.dcor.stored(lost), timeout=30)
    assert answer.status_code == 204
    # The server's worker notes where a resource is to be had, so that this route leads to itself.
    address = f"{made.dcor.url}/dataset/{second['id']}/resource/{lost}/download/five.rtdc"
    noted = {"match": {"id": second["id"]}, f"update__resources__{lost}": {"url": address}}
    made.dcor.call("package_revise", "admin", data=noted)
    made.configure(activate="all")
    assert made.upload() == dict.fromkeys(("alpha", "gamma"), "published")
    assert made.assert_whole("alpha", "active")["id"] != first
    assert made.assert_whole("gamma", "active")["id"] != second["id"]
    reasons = sorted(line[5] for line in made.ledger() if line[3] == "abandoned")
    assert reasons[0] == "five.rtdc is not in the object store"
    assert reasons[1].startswith("two.rtdc has ETag")


def test_an_object_lost_before_the_worker_has_seen_it(labs) -> None:
    """The server only fails then, as it does where the store is out of reach: somebody has to look."""
    made = labs("gamma", activate="drafts")
    made.upload()
    [draft] = made.found("gamma")
    requests.delete(made.dcor.stored(draft["resources"][0]["id"]), timeout=30)
    made.configure(activate="all")
    assert made.upload() == {"gamma": "upload failed"}
    assert made.reason("gamma").endswith("status 500; if it stays so, delete the draft, and run again")
    made.dcor.call("package_delete", data={"id": draft["id"]})
    assert made.upload() == {"gamma": "published"}
    made.assert_whole("gamma", "active")


def test_a_draft_that_may_become_final_any_moment_is_not_given_up(labs) -> None:
    """A killed process has asked for it; a second draft beside it could make two datasets of one task."""
    made = labs("beta", activate="drafts")
    made.upload()
    task = read_json(made.work.settled(GROUP))["datasets"][0]["task_id"]
    draft = alter(made, "beta")
    Ledger(made.folder / "ledger.tsv").add(task, "activating", draft)
    made.configure(activate="all")
    assert made.upload() == {"beta": "upload failed"}
    assert "it may be about to become final; run again in half an hour" in made.reason("beta")
    assert [(d["id"], d["state"]) for d in made.found("beta")] == [(draft, "draft")]


def test_altered_after_it_became_final(labs) -> None:
    """Without a receipt nothing is believed; and what is final cannot be uploaded again."""
    made = labs("beta", activate="all")
    made.upload()
    final = alter(made, "beta")
    (made.folder / "beta.json").unlink()
    assert made.upload() == {"beta": "upload failed"}
    assert f"dataset {final} is final on the server with another" in made.reason("beta")
    assert [d["id"] for d in made.found("beta")] == [final]
    assert not (made.folder / "beta.json").exists()


def test_a_draft_whose_making_was_never_answered_is_found_and_deleted(labs, dcor: Dcor) -> None:
    """The server made it late, after a second one had been asked for."""
    made = labs("beta", activate="drafts")
    decision = read_json(made.work.settled(GROUP))["datasets"][0]
    ledger = Ledger(made.folder / "ledger.tsv")
    ledger.add(decision["task_id"], "intent")
    made.upload()
    [kept] = made.found("beta")
    fields = read_json(made.work.datasets / "beta" / "upload_job.dcoraid-task")["dataset_dict"]
    notes = f"[dcorflow: task {decision['task_id']} of '{made.title}', upload not finished]"
    late = dcor.call("package_create", data=fields | {"state": "draft", "notes": notes})
    assert late["id"] != kept["id"]
    made.configure(activate="all")
    assert made.upload() == {"beta": "published"}
    assert made.assert_whole("beta", "active")["id"] == kept["id"]


def test_recover_leaves_doubtful_ones_to_a_person(labs) -> None:
    """Two equal datasets of one title: nobody but their owner knows which one is meant."""
    one, other = (labs("gamma", activate="all") for _ in range(2))
    title = f"gamma {one.title}"
    other.edit_task("gamma", lambda task: task["dataset_dict"].update(title=title))
    assert (one.upload(), other.upload()) == ({"gamma": "published"}, {"gamma": "published"})
    ids = {d["id"] for d in one.found("gamma")}
    assert len(ids) == 2
    for path in (one.folder / "ledger.tsv", one.folder / "gamma.json"):
        path.unlink()
    found, [doubtful] = Look(one.work, read_json(one.work.config)).recover()
    assert not found
    assert all(dataset_id in doubtful for dataset_id in ids)
    assert not (one.folder / "ledger.tsv").exists()


FACTS = Facts(
    "id", "me", {"circle": "c"}, set(), set(), ["CC0-1.0"], [".rtdc", ".txt"],
    {"sp:cells:fixed": {"key": "fixed", "type": "boolean"}},
)  # fmt: skip


def resource(name: str, size: int = 1, **supplements: Any) -> Resource:
    return Resource(name, Path(name), size, "", "", supplements)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([resource("M1.rtdc")], []),
        ([resource("a.txt")], ["it has no measurement (.rtdc)"]),
        ([resource("M1.rtdc"), resource("M1.rtdc")], ["M1.rtdc: the name is there 2 times"]),
        (
            [resource("M1.rtdc", preflight._LARGEST + 1)],
            ["M1.rtdc: the file is larger than the 10,000 GiB that DCOR takes"],
        ),
        (
            [resource("M1.rtdc"), resource("a.txt", **{"sp:cells:fixed": True})],
            ["a.txt: only measurements have supplements"],
        ),
    ],
)
def test_what_a_server_would_refuse_about_files(resources: list[Resource], words: list[str]) -> None:
    fields = {"title": "A", "authors": "B", "license_id": "CC0-1.0", "owner_org": "circle"}
    assert objections(Manifest("a", "a-1", "", fields, resources, Path("task")), FACTS) == words
