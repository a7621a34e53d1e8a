"""`dcorflow doctor`: is everything there that an upload needs?"""

from __future__ import annotations

import platform
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dcorflow import __version__
from dcorflow.config import load_yaml, resolve_config
from dcorflow.errors import UsageError
from dcorflow.files import read_json
from dcorflow.server import find_server
from dcorflow.upload.failures import Passing, Patience, Refused
from dcorflow.upload.token import find_token
from dcorflow.workdir import Workdir

#: What Snakemake reads where no other file is named.
CONFIG = Path("config/config.yaml")
_PACKAGES = ("dclab", "dcoraid", "h5py", "hdf5plugin", "snakemake")
#: Less free disk space than this is worth a word (bytes).
_LITTLE = 10 << 30


@dataclass
class Finding:
    """One line of the report: what, whether it is fine, and what was found or is to be done."""

    what: str
    good: bool
    words: str


def read_config(work: Workdir, path: Path | None) -> tuple[dict[str, Any], str]:
    """Return the configuration and where it comes from.

    Parameters
    ----------
    work
        Work directory.
    path
        A configuration; None for `config/config.yaml`, which Snakemake reads without `--configfile`, else
        for that of the last run.

    Raises
    ------
    UsageError
        Where there is none, or it needs changes.
    """
    usual = work.root / CONFIG
    if path is None and usual.is_file():
        path = usual
    if path is not None:
        return resolve_config(load_yaml(path) or {}, work.root, str(path)), str(path)
    try:
        return read_json(work.config), "that of the last run"
    except (OSError, ValueError) as error:
        raise UsageError(
            f"neither {usual} nor a run in {work.root} yet; say 'dcorflow init', or name a file "
            "with --configfile"
        ) from error


def examine(work: Workdir, path: Path | None) -> Iterator[Finding]:
    """Yield what was found, from the machine to the collections on the server; stop where nothing follows."""
    yield Finding("Python", True, f"{platform.python_version()}, dcorflow {__version__}")
    for name in _PACKAGES:
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed; install the project's requirements again")
    place = next(p for p in (work.root, *work.root.parents) if p.is_dir())  # it may be still to be made
    free = shutil.disk_usage(place).free
    more = "" if free > _LITTLE else "; prepared files need as much as the sources at most: make room"
    yield Finding("disk", free > _LITTLE, f"{free / 1e9:.1f} GB free in {place}{more}")
    try:
        config, origin = read_config(work, path)
    except UsageError as error:
        yield Finding("config", False, str(error))
        return
    yield Finding("config", True, origin)
    try:
        server = find_server(config["upload"].get("server"))
    except UsageError as error:
        yield Finding("server", False, str(error))
        return
    try:
        token = find_token(config["upload"].get("token_file"))
    except UsageError as error:
        yield Finding("token", False, str(error))
        token = ""
    from dcorflow.upload.api import Api
    from dcorflow.upload.preflight import learn

    api = Api(server, token, config["upload"]["timeout"])
    try:
        status = api.get("status_show")
    except (Passing, Refused) as error:
        yield Finding("server", False, f"{server.url}: {error.reason}; is the address right, is it online?")
        return
    schemes = "encrypted" if server.url.startswith("https") else "not encrypted, on this machine only"
    yield Finding("server", True, f"{server.url}, CKAN {status['ckan_version']}, {schemes}")
    if "dcor_schemas" not in status["extensions"]:
        yield Finding("server", False, "it is a CKAN without DCOR's extensions; is the address right?")
        return
    if not token:
        return
    try:
        facts = learn(api, Patience(0, print, threading.Event()))
    except (UsageError, Passing) as error:
        yield Finding("token", False, str(error))
        return
    yield Finding("user", True, facts.user_name)
    yield from _permissions(config["datasets"]["defaults"], facts)


def _permissions(fields: dict[str, Any], facts: Any) -> Iterator[Finding]:
    circles = sorted(name for name, circle_id in facts.circles.items() if name != circle_id)
    circle = fields.get("owner_org")
    if circle and circle not in facts.circles:
        possible = ", ".join(circles) or "none; ask for one, or make one on the web page"
        yield Finding("circle", False, f"you may not upload to '{circle}'; possible: {possible}")
    elif circle:
        yield Finding("circle", True, circle)
    for name in fields.get("collections", []):
        good = name in facts.collections
        words = name if good else f"'{name}' does not exist, or you may not add to it"
        yield Finding("collection", good, words)
    licence = fields.get("license_id")
    if licence and licence not in facts.licences:
        yield Finding("licence", False, f"'{licence}' is not accepted; possible: {', '.join(facts.licences)}")
