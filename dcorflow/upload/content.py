"""Whether the resources of a dataset on the server have the content of the files here."""

from __future__ import annotations

from typing import Any

from dcorflow.upload.api import Api
from dcorflow.upload.failures import Passing, Refused
from dcorflow.upload.manifest import Resource
from dcorflow.upload.transfer import look_into_store


class Content:
    """Compares resources with files; what was seen to be equal in the object store is not looked at again.

    Parameters
    ----------
    api
        The server.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self._equal: set[tuple[str, str]] = set()  # (resource id, ETag)

    def difference(self, dataset_id: str, wanted: Resource, resource: dict[str, Any]) -> str:
        """Return what is different about a resource in words, nothing where it is equal.

        Parameters
        ----------
        dataset_id, resource
            The resource as the server shows it, and in which dataset.
        wanted
            The file here.

        Raises
        ------
        Passing
            Where neither server nor object store tell for now.
        """
        claims = {
            "sha256": (resource.get("sha256"), wanted.sha256),
            "ETag": (resource.get("etag"), wanted.etag),
            "size": (resource.get("size"), wanted.size),
        }
        for what, (found, expected) in claims.items():
            if found and found != expected:
                return f"{wanted.name} has {what} {found} there, {expected} here"
        if (resource["id"], wanted.etag) in self._equal:
            return ""
        try:
            etag, size = self._stored(dataset_id, wanted, resource)
        except Refused as error:
            if error.status == 404:
                return f"{wanted.name} is not in the object store"
            if not resource.get("etag"):
                raise Passing(f"the server has not computed the checksum of {wanted.name} yet") from error
            etag, size = wanted.etag, wanted.size  # the server's own record was compared above
        if (etag, size) != (wanted.etag, wanted.size):
            what = f"ETag {etag} and {size} bytes there, {wanted.etag} and {wanted.size} bytes here"
            return f"{wanted.name} has {what}"
        self._equal.add((resource["id"], wanted.etag))
        return ""

    def _stored(self, dataset_id: str, wanted: Resource, resource: dict[str, Any]) -> tuple[str, int]:
        """Return ETag and size in the object store; what is wrong is not believed at once."""
        seen = look_into_store(self.api, dataset_id, resource)
        if seen != (wanted.etag, wanted.size):
            seen = look_into_store(self.api, dataset_id, resource)
        return seen
