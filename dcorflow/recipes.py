"""Keys that stand for settings and recipes: a record holds as long as they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcorflow.facts import privacy
from dcorflow.files import key_of
from dcorflow.records import Record

#: Recipe numbers per stage, raised when the same input would give another output than before.
#: Package versions do not count: an upgrade redoes nothing by itself.
CONVERT, COMPRESS, EDITS, CHECK, SCAN, PORTRAIT = 1, 5, 1, 1, 2, 1


def body_key(prepare: Mapping[str, Any]) -> str:
    """Stand for everything but the source that decides over the bytes of a body."""
    parts = ["body", CONVERT, COMPRESS, prepare["encoder"], prepare["logs"]]
    redact, pseudonyms = prepare.get("redact") or [], prepare.get("pseudonyms") or {}
    if redact or pseudonyms:
        kinds = {name: privacy()[name] for name in redact if isinstance(name, str) and name in privacy()}
        parts += [redact, kinds, pseudonyms]
    return key_of(*parts)


def tail_key(edits: list[Any]) -> str:
    """Stand for the edits asked for (lists of key, value, mode, kind, where); where does not count."""
    return key_of("tail", EDITS, [edit[:4] for edit in edits])


def check_key(body: str, content: str) -> str:
    """Stand for the state that was checked: the body's settings and the source's content."""
    return key_of("check", CHECK, body, content)


def portrait_key(content: str) -> str:
    """Stand for the data that pictures are made of, and for how; settings of a body do not count."""
    return key_of("portrait", PORTRAIT, content)


def is_merged(record: Record, edits: list[Any]) -> bool:
    """Return whether a prepared file has the tail that these edits ask for, and was checked with it."""
    return record.tail_key == tail_key(edits) and "sha256" in record.prepared
