"""Metadata keys, types and ranges, as dclab defines them."""

from __future__ import annotations

import datetime
import difflib
import json
import math
import re
from functools import lru_cache
from typing import Any

from dcorflow.dclab_parts import definitions, known_media

#: YAML 1.1 makes a number of 10:30:00 without quotes.
_CLOCK = ("experiment:time", "experiment:date")
#: What an HDF5 attribute of dclab may hold.
Value = str | int | float | bool | list[float]
#: Keys that the data themselves decide; see `dcorflow.compress.edits.data_facts`.
DATA_KEYS = (
    "experiment:event count",
    "fluorescence:samples per event",
    "imaging:roi size x",
    "imaging:roi size y",
)  # fmt: skip
#: Keys that must be above zero (dclab.rtdc_dataset.check.IntegrityChecker.check_metadata_bad_greater_zero).
_POSITIVE = ("imaging:frame rate", "imaging:pixel size", "setup:channel width", "setup:flow rate")
#: Keys for which dclab's definitions name all possible values.
FIXED = {"setup:chip region": ("channel", "reservoir")}
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})$")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+$")
#: How spreadsheets write booleans, in English and German.
_TRUE, _FALSE = ("true", "yes", "1", "wahr", "ja"), ("false", "no", "0", "falsch", "nein")


def known_keys() -> list[str]:
    """Return all keys ``section:key`` that describe a measurement."""
    dfn = definitions()
    return [f"{section}:{key}" for section in dfn.CFG_METADATA for key in dfn.config_keys[section]]


def meaning(key: str) -> str:
    """Return what a key means, with its unit, in dclab's words; empty for a user's own key."""
    section, _, name = key.partition(":")
    dfn = definitions()
    if section == "user" or not dfn.config_key_exists(section, name):
        return ""
    return str(dfn.get_config_value_descr(section, name))


def choices(key: str) -> tuple[list[str], bool]:
    """Return the usual values of a key, and whether these are the only ones."""
    if key in FIXED:
        return list(FIXED[key]), True
    if key == "setup:medium":
        return list(known_media()), False
    return [], False


def convert_value(key: str, value: object) -> Value:
    """Return `value` with the type of `key` (``section:key``).

    Raises
    ------
    ValueError
        For an unknown key (naming the nearest one) or a value of the wrong type, form or range.
    """
    return _convert(key, json.dumps(value, default=str))


def convert_cell(key: str, text: str) -> Value:
    """Return the text of a table's cell with the type of `key`.

    Dates may have the form 17.05.2024, booleans any that spreadsheets write; lists are JSON.

    Raises
    ------
    ValueError
        As `convert_value`, and for numbers with a decimal comma.
    """
    if text.startswith("["):
        try:
            return convert_value(key, json.loads(text))
        except json.JSONDecodeError:
            pass
    return convert_value(key, text)


@lru_cache(maxsize=65536)
def _convert(key: str, text: str) -> Value:
    """Convert a value given as JSON, so that verdicts can be remembered."""
    value = json.loads(text)
    dfn = definitions()
    section, colon, name = key.partition(":")
    editable = section == "user" or section in dfn.CFG_METADATA
    if not colon or not editable or not dfn.config_key_exists(section, name):
        near = nearest(key, known_keys())
        hint = f"; did you mean '{near}'?" if near else "; keys look like 'setup:medium'"
        raise ValueError(f"unknown metadata key '{key}'{hint}")
    if value is None or isinstance(value, dict) or value == "":
        raise ValueError(f"'{key}' needs a value, found {value!r}")
    if isinstance(value, list) and any(isinstance(v, (str, list, dict)) for v in value):
        raise ValueError(f"'{key}' cannot hold a list of text, found {value!r}")
    if section == "user":
        return _plain(value)
    typed = _typed(key, section, name, value)
    return _in_range(key, typed)


def _typed(key: str, section: str, name: str, value: Any) -> Value:
    dfn = definitions()
    expected = dfn.get_config_value_type(section, name)
    types = expected if isinstance(expected, tuple) else (expected,)
    if isinstance(value, bool) and bool not in types:
        raise ValueError(f"'{key}' has the wrong type: {value!r} ({_type_words(expected)}; quote text)")
    if key in _CLOCK and isinstance(value, (int, float)):
        raise ValueError(f"'{key}' must be text, found {value!r}; put it in quotes, such as '10:30:00'")
    if isinstance(value, str) and str not in types:
        value = _from_words(key, value.strip(), bool in types)
    try:
        converted = _plain(dfn.get_config_value_func(section, name)(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"'{key}' has the wrong type: {value!r} ({_type_words(expected)})") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(f"'{key}' must be a number, found {value!r}")
    if isinstance(converted, int) and not isinstance(converted, bool):
        _refuse_lost_fraction(key, value, converted)
    return converted.strip() if isinstance(converted, str) else converted


def _from_words(key: str, text: str, takes_bool: bool) -> Any:
    """Return a boolean for its words; refuse decimal commas and words that are no boolean."""
    if _DECIMAL_COMMA.match(text):
        raise ValueError(f"'{key}': decimal comma in '{text}'; write {text.replace(',', '.')}")
    if not takes_bool:
        return text
    word = text.lower()
    if word in (*_TRUE, *_FALSE):
        return word in _TRUE
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{key}' must be yes or no, found '{text}'") from None


def _in_range(key: str, value: Value) -> Value:
    """Return the value, dates in ISO form; raise where it lies outside of what is possible."""
    if key in _POSITIVE and isinstance(value, (int, float)) and value <= 0:
        raise ValueError(f"'{key}' must be greater than zero, found {value!r}")
    if key.endswith(("count", "run index")) and isinstance(value, int) and value < 0:
        raise ValueError(f"'{key}' must not be negative, found {value!r}")
    fixed = FIXED.get(key)
    if fixed and value not in fixed:
        raise ValueError(f"'{key}' must be one of {', '.join(fixed)}, found {value!r}")
    if key == "experiment:date":
        return _date(key, str(value))
    if key == "experiment:time" and not _TIME.match(str(value)):
        raise ValueError(f"'{key}' must be a time such as 10:30:00, found {value!r}")
    return value


def _date(key: str, text: str) -> str:
    dotted = _DOTTED.match(text)
    iso = "{2}-{1:0>2}-{0:0>2}".format(*dotted.groups()) if dotted else text
    try:
        if len(iso) != 10:
            raise ValueError(iso)
        return datetime.date.fromisoformat(iso).isoformat()
    except ValueError:
        raise ValueError(f"'{key}' must be a date such as 2024-05-17, found '{text}'") from None


def nearest(name: str, known: list[str]) -> str:
    """Return the most similar of the known names, empty where none is similar."""
    full = {k.rpartition(":")[2]: k for k in reversed(known)}
    if name.lower() in full:
        return full[name.lower()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return near[0] if near else ""


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
