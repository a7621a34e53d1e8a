"""What is final on a server, as the receipts say: read by several stages, written by the upload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcorflow.files import read_mapping
from dcorflow.server import Server
from dcorflow.workdir import Workdir


def receipt_path(work: Workdir, server: Server, dataset: str) -> Path:
    """Return where the receipt of a dataset lies."""
    return server.folder(work) / f"{dataset}.json"


def read_receipt(work: Workdir, server: Server, dataset: str) -> dict[str, Any] | None:
    """Return the receipt of a dataset; None where it has not been published."""
    return read_mapping(receipt_path(work, server, dataset))


class Publications:
    """The receipts of one server, each read once.

    Parameters
    ----------
    work, server
        Where they lie.
    """

    def __init__(self, work: Workdir, server: Server) -> None:
        self.work, self.server = work, server
        folder = server.folder(work)
        self.datasets = {path.stem for path in folder.glob("*.json")} if folder.is_dir() else set()
        self._resources: dict[str, list[dict[str, Any]]] = {}

    def _of(self, dataset: str) -> list[dict[str, Any]]:
        if dataset not in self.datasets:
            return []
        if dataset not in self._resources:
            receipt = read_receipt(self.work, self.server, dataset) or {}
            self._resources[dataset] = receipt.get("resources", [])
        return self._resources[dataset]

    def names(self, dataset: str) -> set[str]:
        """Return the names of all resources of a published dataset, in lower case."""
        return {r["name"].lower() for r in self._of(dataset)}

    def holds(self, dataset: str, measurement: str, name: str, as_on_disk: bool) -> bool:
        """Return whether a measurement is in a published dataset; in doubt it is.

        Parameters
        ----------
        dataset
            Its identifier.
        measurement, name
            Identifier of the measurement, and the name of its prepared file.
        as_on_disk
            Whether measurements are published under the names of the prepared files.
        """
        ids = [r.get("measurement") for r in self._of(dataset) if r["name"].endswith(".rtdc")]
        if measurement in ids or name.lower() in self.names(dataset):
            return True
        return None in ids and not as_on_disk  # a receipt that names no measurements
