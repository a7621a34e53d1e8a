"""Requests to a DCOR server: dcoraid's, with errors of two kinds only."""

from __future__ import annotations

from typing import Any

import requests
from dcoraid.api import CKANAPI
from dcoraid.api.errors import ServerUnderMaintenanceError

from dcorflow.server import Server
from dcorflow.upload.failures import Passing, Refused

#: Activation and changes of large datasets take long (as in dcoraid).
SLOW = 500.0
_SHORT = 300
#: What CKAN calls it when its search index answers with an error, such as while it starts (status 409).
_SEARCH_DOWN = "Search Error"


class Api(CKANAPI):
    """dcoraid's API with one timeout, and errors by the status of the answer, not its wording.

    Parameters
    ----------
    server
        Where to.
    token
        API token; empty for what everybody may see.
    timeout
        Seconds of silence after which a request has failed.
    """

    def __init__(self, server: Server, token: str, timeout: float = 30) -> None:
        super().__init__(server.url, token, check_ckan_version=False, caching=False)
        self.timeout = timeout

    def copy(self) -> Api:
        """Return itself: it holds no state of a job (dcoraid copies it for each)."""
        return self

    def get(self, api_call: str, timeout: float | None = None, **query: Any) -> Any:
        """Ask; raise `Passing` or `Refused`."""
        return self._guarded(lambda: super(Api, self).get(api_call, timeout or self.timeout, **query))

    def post(self, api_call: str, data: Any, timeout: float | None = None, **options: Any) -> Any:
        """Change something; raise `Passing` (it may have happened all the same) or `Refused`."""
        return self._guarded(
            lambda: super(Api, self).post(api_call, data, timeout=timeout or self.timeout, **options)
        )

    def _guarded(self, request: Any) -> Any:
        try:
            return request()
        except ServerUnderMaintenanceError as error:
            raise Passing("the server is under maintenance") from error
        except requests.exceptions.SSLError as error:
            raise Refused(f"its certificate is not accepted: {_cause(error)}") from error
        except requests.exceptions.Timeout as error:
            raise Passing(f"no answer within {self.timeout:g} s") from error
        except requests.exceptions.RequestException as error:
            raise Passing(f"the connection failed: {_cause(error)}") from error

    def handle_response(self, req: requests.Response, api_call: str) -> dict[str, Any]:
        """Return the decoded answer; called by dcoraid for each."""
        judge(req, f"'{api_call.partition('?')[0]}'")
        try:
            data = req.json()
        except ValueError as error:
            raise Passing(f"an answer to '{api_call.partition('?')[0]}' that is no JSON") from error
        if not isinstance(data, dict) or not data.get("success"):
            raise Refused(f"'{api_call.partition('?')[0]}' did not succeed: {_short(data)}", req.status_code)
        return data


def judge(answer: requests.Response, what: str) -> None:
    """Raise `Passing` or `Refused` where the status of an answer tells of a failure."""
    status = answer.status_code
    if status < 400:
        return
    if status in (408, 425, 429) or status >= 500:
        words = "maintenance or overload" if status in (429, 503) else "an error of the server"
        raise Passing(f"{what} failed with status {status} ({words})", _retry_after(answer))
    reason, kind, about = _explain(answer)
    if kind == _SEARCH_DOWN:
        raise Passing(f"{what} failed: the server's search does not answer")
    raise Refused(f"{what} was refused ({status}): {reason}", status, kind, about)


def _retry_after(answer: requests.Response) -> float:
    try:
        return min(300.0, float(answer.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def _explain(answer: requests.Response) -> tuple[str, str, list[str]]:
    """Return what the server said, without the wrapping, what CKAN calls the error, and what it is about."""
    try:
        error = answer.json()["error"]
        if isinstance(error, dict):
            said = {k: v for k, v in error.items() if not k.startswith("_")}
            words = "; ".join(f"{k}: {v}" for k, v in said.items())
            return _short(words), str(error.get("__type", "")), list(said)
        return _short(error), "", []
    except (ValueError, KeyError, TypeError):
        return answer.reason or "no reason given", "", []


def _cause(error: Exception) -> str:
    """Return what went wrong with a connection, without the layers around it."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    words = str(inner or error)
    return _short(words.partition("): ")[2] or words if inner else words)


def _short(text: object) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= _SHORT else words[: _SHORT - 3] + "..."
