"""Files into the object store: presigned addresses, in parts, several at a time, and what lies there.

dcoraid sends one resource after the other and one part after the other. Its functions for the parts are
used here, side by side.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import requests
from dcoraid.api.s3_api import (
    FilePart,
    assemble_complete_multipart_xml,
    compute_upload_part_parameters,
    get_etag_from_response,
)

from dcorflow.upload.api import Api, judge
from dcorflow.upload.failures import Passing, Patience, Refused, UploadError
from dcorflow.upload.manifest import Resource
from dcorflow.upload.progress import Meter

#: Tries of one part; what fails more often is asked for anew, with fresh addresses.
_PART_RETRIES = 3


class _CountedPart(FilePart):
    """A part of a file whose bytes are counted as they are read."""

    meter: Meter
    sent = 0

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = super().read(size)
        self.sent += len(data)
        self.meter.count(len(data))
        return data


class Transfer:
    """Sends the resources of one dataset.

    Parameters
    ----------
    api
        The server.
    connections
        Transfers at once.
    meter
        Counts the bytes.
    """

    def __init__(self, api: Api, connections: int, meter: Meter) -> None:
        self.api, self.meter, self.connections = api, meter, connections
        self._turn = threading.Semaphore(connections)

    def send(self, resource: Resource, circle_id: str) -> str:
        """Put one file into the object store and return the resource id that it got.

        Raises
        ------
        Passing
            Where it failed for now.
        UploadError
            Where the file changed meanwhile.
        """
        answer = self.api.get("resource_upload_s3_urls", organization_id=circle_id, file_size=resource.size)
        urls, parts = answer["upload_urls"], compute_upload_part_parameters(resource.size)
        if len(urls) != parts["num_parts"]:
            raise Refused(f"the server wants {len(urls)} parts, not {parts['num_parts']}: another version?")
        if len(urls) == 1:
            etags = [self._send_part(resource, 0, parts["part_size"], urls[0])]
        else:
            with ThreadPoolExecutor(min(len(urls), self.connections)) as pool:
                sent = [
                    pool.submit(self._send_part, resource, number, parts["part_size"], url)
                    for number, url in enumerate(urls)
                ]
                etags = [future.result() for future in sent]
        found = etags[0] if len(urls) == 1 else self._complete(answer["complete_url"], etags)
        if found not in ("", resource.etag):
            self.meter.count(-resource.size)
            if resource.path.stat().st_size != resource.size:
                raise UploadError(f"{resource.name} changed while it was sent; run again")
            raise Passing(f"{resource.name} arrived with the ETag {found}, expected {resource.etag}")
        return str(answer["resource_id"])

    def _send_part(self, resource: Resource, number: int, part_size: int, url: str) -> str:
        patience = Patience(_PART_RETRIES, self.meter.say, self.meter.stop)
        with self._turn:
            return patience.insist(lambda: self._try_part(resource, number, part_size, url))

    def _try_part(self, resource: Resource, number: int, part_size: int, url: str) -> str:
        what = f"{resource.name}, part {number + 1}"
        with resource.path.open("rb") as stream:
            part = _CountedPart(stream, number, part_size, resource.size)
            part.meter = self.meter
            try:
                answer = requests.put(url, data=part, timeout=self.api.timeout)
                judge_store(answer, what)
                etag = get_etag_from_response(answer)
                if etag != part.md5():
                    raise Passing(f"{what} arrived with the ETag {etag}, expected {part.md5()}")
            except requests.exceptions.RequestException as error:
                self.meter.count(-part.sent)
                raise Passing(f"{what}: the connection failed ({type(error).__name__})") from error
            except Passing:
                self.meter.count(-part.sent)
                raise
        return str(etag)

    def _complete(self, url: str, etags: list[str]) -> str:
        """Join the parts and return the ETag of the whole; empty where it was joined before."""
        body = assemble_complete_multipart_xml(etags)
        patience = Patience(_PART_RETRIES, self.meter.say, self.meter.stop)

        def ask() -> str:
            try:
                answer = requests.post(url, data=body, timeout=self.api.timeout)
                judge_store(answer, "joining the parts")
            except requests.exceptions.RequestException as error:
                raise Passing(f"joining the parts failed ({type(error).__name__})") from error
            return get_etag_from_response(answer) or ""

        try:
            return patience.insist(ask)
        except Refused as error:
            if error.status == 404:  # an earlier try got through: verification will tell
                return ""
            raise


def judge_store(answer: requests.Response, what: str) -> None:
    """Raise where the object store failed; an address that is not valid any more is replaced by a new one."""
    if answer.status_code in (400, 403):
        raise Passing(f"{what}: the object store answered {answer.status_code}")
    judge(answer, what)


def look_into_store(api: Api, dataset_id: str, resource: dict[str, Any]) -> tuple[str, int]:
    """Return ETag and size of a resource as the object store has it now.

    The server's own record of them is written by a job that may run late, and once only.

    Raises
    ------
    Passing, Refused
        Where the store does not tell.
    """
    place = f"{api.server}/dataset/{dataset_id}/resource/{resource['id']}/download/{resource['name'].lower()}"
    what = f"looking at {resource['name']}"
    try:
        led = requests.get(place, headers=api.headers, timeout=api.timeout, allow_redirects=False)
        if led.status_code == 500:
            raise Passing(f"{what} failed with status 500; if it stays so, delete the draft, and run again")
        judge(led, what)
        if led.status_code not in (301, 302, 303, 307, 308):
            raise Refused(f"{what}: the server does not lead to an object store")
        if urlsplit(led.headers["Location"]).path == urlsplit(place).path:
            # Where the store has no such object, the server leads to the address that it has noted: this one.
            raise Refused(f"{what}: it is not in the object store", 404)
        first = {"Range": "bytes=0-0"}  # the signed address is good for GET only
        with requests.get(led.headers["Location"], headers=first, timeout=api.timeout, stream=True) as answer:
            judge(answer, what)
            etag = get_etag_from_response(answer) or ""
            size = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
            return etag.removeprefix("W/").strip('"'), int(
                size[1] if size else answer.headers["Content-Length"]
            )
    except requests.exceptions.RequestException as error:
        raise Passing(f"{what}: the connection failed ({type(error).__name__})") from error
    except KeyError as error:
        raise Passing(f"{what}: the answer lacks {error}") from error
