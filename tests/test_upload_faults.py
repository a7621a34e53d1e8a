"""Uploads through a network and a server that fail at every request in turn."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest
from dcor import Dcor
from faults import FAULTS, Proxy, Request, proxied
from uploads import Lab, make_unique

#: Requests that change something on the server, and which of their kind they are.
CHANGES = (("package_create", 0), ("package_revise", 0), ("package_revise", 1), ("PUT circle", 1))
#: Faults that only some kinds of requests have, and how many of them an upload has at least.
ONLY = {"wrong etag": ("PUT circle", "GET circle"), "no search": ("package_search",)}
FEWER = {"wrong etag": 3, "no search": 1}
#: After all others the server is as after one of these.
DIFFERENT = ("drop", "drop after", "500 after", "truncate after", "reset")


@pytest.fixture(scope="module")
def proxy(started_dcor: Dcor | str) -> Iterator[Proxy | None]:
    if isinstance(started_dcor, str):
        yield None
        return
    with proxied(started_dcor.url, started_dcor.s3) as made:
        yield made


def assert_one(lab: Lab, dataset: str, state: str) -> None:
    shown = lab.assert_whole(dataset, state)
    assert lab.receipt(dataset)["dataset_id"] == shown["id"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_fails_once(labs, proxy: Proxy, fault: str) -> None:
    """All kinds of requests, each the first time that it is made for one resource or purpose.

    A draft is changed more than once, so each change fails once.
    """
    made = labs("alpha", url=proxy.url, activate="all", timeout=2, retries=40, duplicates="block")
    make_unique(made, "alpha")
    failed: set[tuple[str, str, str]] = set()

    def strike(request: Request) -> str:
        purpose = made.events()[-1] if request.kind == "package_revise" else ""  # that the ledger tells
        key = (request.method, request.path, purpose)
        if key in failed or request.kind not in ONLY.get(fault, (request.kind,)):
            return ""
        failed.add(key)
        return fault

    proxy.fault = strike
    try:
        assert made.upload() == {"alpha": "published"}, made.outcomes
    finally:
        proxy.fault = lambda request: ""
    purposes = {purpose for *_, purpose in failed}
    assert fault in ONLY or purposes >= {"sent", "activating"}, purposes
    assert len(failed) >= FEWER.get(fault, 13)
    assert_one(made, "alpha", "active")


@pytest.mark.parametrize("fault", DIFFERENT)
@pytest.mark.parametrize(("kind", "nth"), CHANGES)
def test_given_up_and_started_again(labs, proxy: Proxy, kind: str, nth: int, fault: str) -> None:
    """A change fails, nothing works afterwards; the next run finds one draft, and finishes it."""
    made = labs("alpha", url=proxy.url, activate="all", timeout=2, retries=0)
    proxy.seen.clear()

    def strike(request: Request) -> str:
        number = sum(r.kind == kind for r in proxy.seen) - 1
        if request.kind == kind and number == nth:
            return fault
        return "drop" if number >= nth else ""

    proxy.fault = strike
    try:
        assert made.upload() == {"alpha": "upload failed"}
        assert made.reason("alpha")
    finally:
        proxy.fault = lambda request: ""
    made.configure(timeout=60, retries=3)
    assert made.upload() == {"alpha": "published"}
    assert_one(made, "alpha", "active")


def test_no_server_at_all(labs, proxy: Proxy) -> None:
    made = labs("alpha", "beta", url=proxy.url, activate="all", retries=1, timeout=2)
    proxy.fault = lambda request: "503"
    try:
        assert made.upload() == dict.fromkeys(("alpha", "beta"), "upload failed")
        assert "maintenance" in made.reason("beta")
    finally:
        proxy.fault = lambda request: ""


def test_one_fails_the_others_do_not(labs, proxy: Proxy) -> None:
    made = labs(url=proxy.url, activate="all", retries=1, timeout=2)
    stuck: list[str] = []

    def strike(request: Request) -> str:
        if request.kind != "PUT circle":
            return ""
        if not stuck:
            stuck.append(request.path)
        return "500" if request.path in stuck else ""

    proxy.fault = strike
    try:
        statuses = made.upload()
    finally:
        proxy.fault = lambda request: ""
    assert list(statuses.values()).count("published") >= 2
    assert made.upload() == dict.fromkeys(("alpha", "beta", "gamma"), "published")
    for name in ("alpha", "beta", "gamma"):
        assert_one(made, name, "active")


@pytest.mark.parametrize("settings", [{}, {"notes": "New"}])
def test_final_by_a_request_of_before(labs, proxy: Proxy, settings: dict[str, str]) -> None:
    """A process was killed when it had asked for it, and the server does it while the next one is at work."""
    made = labs("beta", url=proxy.url, activate="drafts")
    assert made.upload() == {"beta": "draft"}
    [draft] = made.found("beta")
    made.edit_task("beta", lambda task: task["dataset_dict"].update(settings))
    late = [{"match": {"id": draft["id"]}, "update": {"state": "active", **settings}}]

    def strike(request: Request) -> str:
        if request.kind == "package_revise" and late:
            made.dcor.call("package_revise", data=late.pop())
        return ""

    made.configure(activate="all")
    proxy.fault = strike
    try:
        assert made.upload() == {"beta": "published"}, made.outcomes
    finally:
        proxy.fault = lambda request: ""
    assert not late
    assert_one(made, "beta", "active")
    assert [d["id"] for d in made.found("beta")] == [draft["id"]]


def test_server_killed_and_started_again(labs, dcor: Dcor) -> None:
    """CKAN itself, while it makes one draft, and others are filled or become final."""
    with dcor.another() as ckan, proxied(ckan.url, dcor.s3) as proxy:
        made = labs(url=proxy.url, activate="all", parallel=3, retries=200, timeout=20)
        killed: list[threading.Thread] = []

        def strike(request: Request) -> None:
            with proxy.lock:
                if request.kind == "package_revise" and not killed:
                    ckan.kill()
                    killed.append(threading.Thread(target=ckan.start))
                    killed[0].start()

        proxy.passed_on = strike
        assert made.upload() == dict.fromkeys(("alpha", "beta", "gamma"), "published"), made.outcomes
        killed[0].join()
    for name in ("alpha", "beta", "gamma"):
        assert_one(made, name, "active")


def test_duplicates_are_found_on_a_bad_line(labs, proxy: Proxy) -> None:
    """Before the server has checksums, the files of a dataset with the same title are looked at."""
    there = labs("beta", activate="all")
    assert there.upload() == {"beta": "published"}
    made = labs("beta", url=proxy.url, activate="all", timeout=2, retries=40, duplicates="block")
    made.edit_task("beta", lambda task: task["dataset_dict"].update(title=f"beta {there.title}"))
    failed: set[str] = set()

    def strike(request: Request) -> str:
        if request.path in failed:
            return ""
        failed.add(request.path)
        return "503"

    proxy.fault = strike
    try:
        assert made.upload() == {"beta": "upload failed"}
    finally:
        proxy.fault = lambda request: ""
    assert "is on the server already (same content)" in made.reason("beta")
    assert any(path.startswith("/dataset/") for path in failed)


def test_nothing_is_final_without_approval(labs, proxy: Proxy) -> None:
    """Whatever fails on the way, a draft stays a draft."""
    made = labs("beta", url=proxy.url, activate="approved", retries=40, timeout=2)
    chance = random.Random(7)
    faults = [f for f in FAULTS if f not in ("wrong etag", "delay after")]
    proxy.fault = lambda request: chance.choice(faults) if chance.random() < 0.3 else ""
    try:
        assert made.upload() == {"beta": "draft"}, made.outcomes
    finally:
        proxy.fault = lambda request: ""
    made.assert_whole("beta", "draft")
    assert not {"activating", "active"} & set(made.events())
    assert not (made.folder / "beta.json").exists()
