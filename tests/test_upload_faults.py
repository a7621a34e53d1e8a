"""Uploads through a network and a server that fail at every request in turn."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from dcor import Dcor
from faults import FAULTS, Proxy, Request, proxied
from uploads import Lab

#: Requests that change something on the server, and which of their kind they are.
CHANGES = (("package_create", 0), ("package_revise", 0), ("package_revise", 1), ("PUT circle", 1))
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
    """All kinds of requests, each the first time that it is made for one resource or purpose."""
    made = labs("alpha", url=proxy.url, activate="all", timeout=2, retries=40)
    failed: set[tuple[str, str]] = set()

    def strike(request: Request) -> str:
        key = (request.method, request.path)
        if key in failed or (fault == "wrong etag" and request.kind not in ("PUT circle", "GET circle")):
            return ""
        failed.add(key)
        return fault

    proxy.fault = strike
    try:
        assert made.upload() == {"alpha": "published"}, made.outcomes
    finally:
        proxy.fault = lambda request: ""
    assert len(failed) >= (3 if fault == "wrong etag" else 12)
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


@pytest.mark.parametrize("at", ["package_create", "PUT circle", "package_revise"])
def test_server_restarted(labs, proxy: Proxy, at: str) -> None:
    """Nothing answers for a while, in the middle of an upload."""
    made = labs("beta", url=proxy.url, activate="all", retries=12, timeout=2)
    away: list[float] = []

    def strike(request: Request) -> str:
        if request.kind == at and not away:
            away.append(time.monotonic())
        return "drop" if away and time.monotonic() - away[0] < 1.5 else ""

    proxy.fault = strike
    try:
        assert made.upload() == {"beta": "published"}, made.outcomes
    finally:
        proxy.fault = lambda request: ""
    assert_one(made, "beta", "active")


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
