"""Where the API token comes from: the environment, or a file that nobody else can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dcorflow.errors import UsageError
from dcorflow.secret import PLACE, VARIABLE


def find_token(token_file: str | None) -> str:
    """Return the token of the user.

    Parameters
    ----------
    token_file
        The setting `upload.token_file`; the environment goes before it.

    Raises
    ------
    UsageError
        Where there is none, or where others could read the file.
    """
    token = os.environ.get(VARIABLE, "") or _from_head()
    if not token and token_file:
        token = _from_file(Path(token_file).expanduser())
    token = token.strip()
    if not token:
        raise UsageError(
            f"no API token: set the variable {VARIABLE}, or name a file with 'upload.token_file'; the "
            "token itself comes from your profile on the server's web page (API Tokens)"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("the API token holds blanks, line breaks or special characters; copy it again")
    return token


def _from_head() -> str:
    """Return the token that the head of the run holds in memory, where this process runs beside it."""
    place = os.environ.get(PLACE, "")
    if not place:
        return ""
    try:
        return Path(place).read_text(encoding="ascii", errors="replace")
    except OSError:  # on another machine, or the head is gone
        return ""


def _from_file(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as stream:
            seen = os.fstat(stream.fileno())
            if seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise UsageError(
                    f"{path}: others can read the token (mode {stat.S_IMODE(seen.st_mode):o}); "
                    f"say 'chmod 600 {path}'"
                )
            if seen.st_uid not in (os.geteuid(), 0):
                raise UsageError(f"{path}: the file with the token belongs to somebody else")
            return stream.read(10_000)
    except OSError as error:
        raise UsageError(
            f"{path}: the file of 'upload.token_file' cannot be read: {error.strerror}"
        ) from error
