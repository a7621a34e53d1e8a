"""What a server says that it accepts: asked once a day, used where it is known."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator

import pytest

from dcorflow import facts
from dcorflow.facts import learned
from dcorflow.metadata.supplements import convert_supplement, known_supplements
from dcorflow.server import adopt_facts
from dcorflow.workdir import Workdir

SCHEMA = {
    "mood": {
        "requires": {},
        "items": [
            {"key": "weather", "type": "string", "options": ["choices fixed"], "choices": ["sun", "rain"]},
            {"key": "days", "type": "integer", "options": [">0"], "hint": "how long", "unit": "d"},
        ],
    }
}
ANSWERS = {
    "resource_schema_supplements": SCHEMA,
    "license_list": [{"id": "own-1.0", "title": "ours"}],
    "supported_resource_suffixes": [".rtdc", ".XYZ"],
}


class Server(http.server.ThreadingHTTPServer):
    """A server that answers what is asked here, and counts."""

    asked = 0
    broken = False


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        assert "Authorization" not in self.headers
        answer = {"result": ANSWERS[self.path.rpartition("/")[2]]}
        body = b"<html>" if self.server.broken else json.dumps(answer).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()
    facts.use(None)


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_the_server_decides(server, tmp_path):
    adopt_facts(url(server), Workdir(tmp_path), ask=True)
    assert set(known_supplements()) == {"mood:weather", "mood:days"}
    assert convert_supplement("mood", "days", "3") == 3
    for key, value in (("weather", "snow"), ("days", 0)):
        with pytest.raises(ValueError, match="must be"):
            convert_supplement("mood", key, value)
    assert facts.dcor()["suffixes"] == [".rtdc", ".xyz"] and list(facts.dcor()["licenses"]) == ["own-1.0"]
    adopt_facts(None, Workdir(tmp_path))
    assert "cells:organism" in known_supplements()


def test_it_is_asked_once_a_day(server, tmp_path):
    work = Workdir(tmp_path)
    adopt_facts(url(server), work, ask=True)
    adopt_facts(url(server), work, ask=True)
    assert server.asked == len(ANSWERS)
    for path in (work.state / "servers").iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    adopt_facts(url(server), work, ask=True)
    assert server.asked == 2 * len(ANSWERS)


def test_a_silent_server_is_not_asked_by_every_job(server, tmp_path):
    server.broken = True
    for _ in range(3):
        adopt_facts(url(server), Workdir(tmp_path), ask=True)
    assert server.asked == 1
    assert "cells:organism" in known_supplements(), "what is shipped holds"


def test_an_old_answer_is_better_than_none(server, tmp_path):
    work = Workdir(tmp_path)
    adopt_facts(url(server), work, ask=True)
    server.broken = True
    for path in (work.state / "servers").iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    adopt_facts(url(server), work, ask=True)
    assert set(known_supplements()) == {"mood:weather", "mood:days"}


def test_a_damaged_answer_is_not_used(tmp_path):
    path = tmp_path / "x.json"
    for text in ("", "{}", '{"supplements": {}}', "[1]"):
        path.write_text(text, encoding="utf-8")
        assert learned.load(path) is None
