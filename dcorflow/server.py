"""A DCOR server: its name and its address."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dcorflow import facts
from dcorflow.errors import UsageError
from dcorflow.facts import learned
from dcorflow.workdir import Workdir

KNOWN = {"dcor": "https://dcor.mpl.mpg.de", "playground": "https://dcor-dev.mpl.mpg.de"}


@dataclass(frozen=True)
class Server:
    """Where to upload to.

    Parameters
    ----------
    name
        ``dcor``, ``playground``, or made of host and port; names the folder of ledger and receipts.
    url
        Without a slash at the end.
    """

    name: str
    url: str

    @property
    def is_playground(self) -> bool:
        """Whether what is uploaded there proves nothing and may vanish."""
        return self.name == "playground"

    def folder(self, work: Workdir) -> Path:
        """Return the folder of ledger and receipts."""
        return work.results / "uploads" / self.name


def find_server(setting: str | None) -> Server:
    """Return the server that the setting `upload.server` means.

    Raises
    ------
    UsageError
        Where there is none, it is no address of a server, or plain http would leave this machine.
    """
    if not setting:
        raise UsageError(
            "'upload.server' is not set; write dcor, playground (for trying) or the URL of a server"
        )
    if setting in KNOWN:
        return Server(setting, KNOWN[setting])
    if re.fullmatch(r"[\w-]+", setting) and setting != "localhost":
        raise UsageError(f"'upload.server': expected dcor, playground or a URL, found {setting}")
    text = setting if "//" in setting else f"https://{setting}"
    try:
        url = urlsplit(text)
        host, port = (url.hostname or "").rstrip("."), url.port
    except ValueError as error:
        raise UsageError(f"'upload.server': {setting} is no address: {error}") from error
    plain = url.path in ("", "/") and not (url.query or url.fragment or url.username or url.password)
    if not host or url.scheme not in ("https", "http") or not plain:
        raise UsageError(
            f"'upload.server': expected dcor, playground or a URL such as https://dcor.mpl.mpg.de, "
            f"found {setting}"
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise UsageError(f"'upload.server': {setting} would send the token unencrypted; write https://")
    if port == {"https": 443, "http": 80}[url.scheme]:
        port = None
    address = f"{url.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    for name, known in KNOWN.items():
        if address == known:
            return Server(name, known)
    return Server(re.sub(r"[^a-z0-9.]+", "-", f"{host.lower()}-{port}" if port else host.lower()), address)


def adopt_facts(setting: str | None, work: Workdir, ask: bool = False) -> None:
    """Validate by what the configured server says of itself, where that is known; else by what is shipped.

    Parameters
    ----------
    setting
        The setting `upload.server`.
    work
        Where the answer is kept.
    ask
        Ask the server where the answer is older than a day; it may be out of reach.
    """
    if not setting:
        facts.use(None)
        return
    server = find_server(setting)
    if ask:
        learned.refresh(server.url, work.learned(server.name))
    facts.use(learned.load(work.learned(server.name)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
