"""Edits and dataset fields without what is private, as the plans hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcorflow.metadata.edit import Edit
from dcorflow.privacy.redact import Redactor

#: Fields of a dataset that stay as they are: authors want to be named, the others are identifiers.
_AS_THEY_ARE = ("authors", "license_id", "owner_org", "collections", "doi")


def without_private(edit: Edit, redactor: Redactor) -> list[Any]:
    """Return an edit as the plan holds it, its value redacted; its place of origin says so."""
    key, value, mode, kind, where = edit.as_list()
    if isinstance(value, str):
        value, done = redactor.named(value, key)
        where += f" ({done.words()})" if done else ""
    return [key, value, mode, kind, where]


def with_pseudonyms(fields: dict[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    """Return the fields of a dataset, or supplements, with pseudonyms in all free text."""
    return {k: v if k in _AS_THEY_ARE else _hidden(v, hide) for k, v in fields.items()}


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_hidden(v, hide) for v in value]
    if isinstance(value, dict):
        return {k: _hidden(v, hide) for k, v in value.items()}
    return value
