"""Metadata keys and types, as dclab defines them."""

from __future__ import annotations

import difflib
import json
import math
from functools import lru_cache
from typing import Any

from dcorflow.dclab_parts import definitions

#: YAML 1.1 makes a number of 10:30:00 without quotes.
_CLOCK = ("experiment:time", "experiment:date")
#: What an HDF5 attribute of dclab may hold.
Value = str | int | float | bool | list[float]


def known_keys() -> list[str]:
    """Return all keys ``section:key`` that describe a measurement."""
    dfn = definitions()
    return [f"{section}:{key}" for section in dfn.CFG_METADATA for key in dfn.config_keys[section]]


def convert_value(key: str, value: object) -> Value:
    """Return `value` with the type of `key` (``section:key``).

    Raises
    ------
    ValueError
        For an unknown key (naming the nearest one) or a value of the wrong type.
    """
    return _convert(key, json.dumps(value, default=str))


@lru_cache(maxsize=65536)
def _convert(key: str, text: str) -> Value:
    """Convert a value given as JSON, so that verdicts can be remembered."""
    value = json.loads(text)
    dfn = definitions()
    section, colon, name = key.partition(":")
    editable = section == "user" or section in dfn.CFG_METADATA
    if not colon or not editable or not dfn.config_key_exists(section, name):
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else "; keys look like 'setup:medium'"
        raise ValueError(f"unknown metadata key '{key}'{hint}")
    if value is None or isinstance(value, dict) or value == "":
        raise ValueError(f"'{key}' needs a value, found {value!r}")
    if isinstance(value, list) and any(isinstance(v, (str, list, dict)) for v in value):
        raise ValueError(f"'{key}' cannot hold a list of text, found {value!r}")
    if section == "user":
        return _plain(value)
    expected = dfn.get_config_value_type(section, name)
    takes_bool = bool in (expected if isinstance(expected, tuple) else (expected,))
    if isinstance(value, bool) and not takes_bool:
        raise ValueError(f"'{key}' has the wrong type: {value!r} ({_type_words(expected)}; quote text)")
    if key in _CLOCK and isinstance(value, (int, float)):
        raise ValueError(f"'{key}' must be text, found {value!r}; put it in quotes, such as '10:30:00'")
    try:
        converted = _plain(dfn.get_config_value_func(section, name)(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"'{key}' has the wrong type: {value!r} ({_type_words(expected)})") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(f"'{key}' must be a number, found {value!r}")
    if isinstance(converted, int) and not isinstance(converted, bool):
        _refuse_lost_fraction(key, value, converted)
    return converted.strip() if isinstance(converted, str) else converted


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
    plain: Value = value if isinstance(value, (str, int, float, bool, list)) else str(value)
    return plain


def _type_words(expected: Any) -> str:
    names = expected if isinstance(expected, tuple) else (expected,)
    words = {"Integral": "whole number", "Number": "number", "str": "text", "bool": "yes or no"}
    return "expected " + " or ".join(words.get(n.__name__, n.__name__) for n in names if n)
