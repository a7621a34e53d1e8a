"""Metadata keys and types, as dclab defines them."""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from dcorflow.files import read_json, to_json, write_if_changed

#: What an HDF5 attribute of dclab may hold.
Value = str | int | float | bool | list[float]


class KeyTypes:
    """Checks and types metadata values; remembers verdicts so that dclab is imported rarely.

    Importing dclab takes more than a second; a run without new values must not pay it.

    Parameters
    ----------
    cache_path
        JSON file with earlier verdicts; made where it is missing, ignored where it is damaged or
        was made by another version of dclab.
    """

    def __init__(self, cache_path: Path | None = None) -> None:
        self.path = cache_path
        self.known: dict[str, Any] = {}
        self.changed = False
        if cache_path is not None:
            try:
                stored = read_json(cache_path)
                if stored.get("dclab") == _dclab_version():
                    self.known = stored["values"]
            except (OSError, ValueError, KeyError, AttributeError):
                self.known = {}

    def convert(self, key: str, value: object) -> Value:
        """Return `value` with the type of `key` (``section:key``).

        Raises
        ------
        ValueError
            For an unknown key (naming the nearest one) or a value of the wrong type.
        """
        token = json.dumps([key, value], default=str)
        if token not in self.known:
            self.known[token] = _convert(key, value)
            self.changed = True
        converted: Value = self.known[token]
        return converted

    def save(self) -> None:
        """Keep the verdicts for the next run."""
        if self.path is not None and self.changed:
            write_if_changed(self.path, to_json({"dclab": _dclab_version(), "values": self.known}))


@cache
def _dclab_version() -> str:
    from importlib.metadata import version

    return version("dclab")


def known_keys() -> list[str]:
    """Return all keys ``section:key`` that describe a measurement."""
    from dclab import definitions as dfn

    return [f"{section}:{key}" for section in dfn.CFG_METADATA for key in dfn.config_keys[section]]


def _convert(key: str, value: object) -> Value:
    from dclab import definitions as dfn

    section, colon, name = key.partition(":")
    editable = section == "user" or section in dfn.CFG_METADATA
    if not colon or not editable or not dfn.config_key_exists(section, name):
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else "; keys look like 'setup:medium'"
        raise ValueError(f"unknown metadata key '{key}'{hint}")
    if value is None or isinstance(value, (dict, set)) or value == "":
        raise ValueError(f"'{key}' needs a value, found {value!r}")
    if section == "user":
        return _plain(value)
    expected = dfn.get_config_value_type(section, name)
    try:
        converted = _plain(dfn.get_config_value_func(section, name)(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"'{key}' has the wrong type: {value!r} ({_type_words(expected)})") from error
    if isinstance(converted, int) and not isinstance(converted, bool):
        _refuse_lost_fraction(key, value, converted)
    if isinstance(converted, str):
        return str(value).strip() if converted == str(value) else converted
    return converted


def _refuse_lost_fraction(key: str, value: object, converted: int) -> None:
    try:
        exact = float(str(value)) == converted
    except ValueError:
        exact = True
    if not exact or isinstance(value, bool):
        raise ValueError(f"'{key}' must be a whole number, found {value!r}")


def _plain(value: Any) -> Value:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, (str, int, float, bool, list)):
        value = str(value)  # YAML gives dates and times their own types
    plain: Value = value
    return plain


def _type_words(expected: Any) -> str:
    names = expected if isinstance(expected, tuple) else (expected,)
    words = {"Integral": "whole number", "Number": "number", "str": "text", "bool": "yes or no"}
    return "expected " + " or ".join(words.get(n.__name__, n.__name__) for n in names if n)
