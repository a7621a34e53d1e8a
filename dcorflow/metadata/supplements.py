"""Supplementary resource metadata: checked here, since a server refuses it only after the upload."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from dcorflow.facts import dcor

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}$")
_TRUE, _FALSE = ("true", "yes", "1", "wahr", "ja"), ("false", "no", "0", "falsch", "nein")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*$")


def known_supplements() -> list[str]:
    """Return all supplements that DCOR knows, ``section:key``."""
    return [f"{s}:{k}" for s, rule in dcor()["supplements"].items() for k in rule["items"]]


def supplement_rule(name: str) -> dict[str, Any]:
    """Return what is known about a supplement ``section:key``: type, choices, unit, meaning."""
    section, _, key = name.partition(":")
    rule: dict[str, Any] = dcor()["supplements"][section]["items"][key]
    return rule


def unmet_requirements(supplements: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where a supplement needs another one to have certain values, as DCOR's schema says.

    Parameters
    ----------
    supplements
        Section -> key -> value.
    """
    found = []
    for section, values in supplements.items():
        rule = dcor()["supplements"][section]
        needs = [(section, rule.get("requires", {}))]
        needs += [(f"{section}:{key}", rule["items"][key].get("requires", {})) for key in values]
        for name, required in needs:
            for other, keys in required.items():
                for key, allowed in keys.items():
                    value = supplements.get(other, {}).get(key)
                    if value not in allowed:
                        words = " or ".join(f"'{a}'" for a in allowed)
                        seen = f"found '{value}'" if value is not None else "it is missing"
                        found.append(f"'sp:{name}' makes sense where 'sp:{other}:{key}' is {words}; {seen}")
    return list(dict.fromkeys(found))


def convert_supplement(section: str, key: str, value: Any) -> Any:
    """Return `value` with the type that DCOR wants for a supplement.

    Raises
    ------
    ValueError
        For an unknown section or key (naming the nearest) or a value that DCOR would refuse, or
        store as something else (it stores ``perhaps`` as False without a word).
    """
    sections = dcor()["supplements"]
    name = f"{section}:{key}"
    known = known_supplements()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else f"; sections: {', '.join(sections)}"
        raise ValueError(f"unknown supplement '{name}'{hint}")
    rule = sections[section]["items"][key]
    converted = _CONVERTERS[rule["type"]](name, value)
    if rule.get("positive") and not converted > 0:
        raise ValueError(f"supplement '{name}' must be greater than zero, found {value!r}")
    if "fixed" in rule and converted not in rule["fixed"]:
        raise ValueError(f"supplement '{name}' must be one of {', '.join(rule['fixed'])}, found {value!r}")
    return converted


def _text(name: str, value: Any) -> str:
    if isinstance(value, (dict, list)) or value is None or not str(value).strip():
        raise ValueError(f"supplement '{name}' must be text, found {value!r}")
    return str(value).strip()


def _number(name: str, value: Any) -> float:
    if isinstance(value, str) and _DECIMAL_COMMA.match(value):
        raise ValueError(f"supplement '{name}': decimal comma in '{value}'; write {value.replace(',', '.')}")
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"supplement '{name}' must be a number, found {value!r}")
    return number


def _integer(name: str, value: Any) -> int:
    number = _number(name, value)
    if number != int(number):
        raise ValueError(f"supplement '{name}' must be a whole number, found {value!r}")
    return int(number)


def _boolean(name: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError(f"supplement '{name}' must be yes or no, found {value!r}")
    return word in _TRUE


def _date(name: str, value: Any) -> str:
    if not _DATE.match(str(value)):
        raise ValueError(f"supplement '{name}' must be a date such as 2024-05-17, found {value!r}")
    return str(value)


def _list(name: str, value: Any) -> str:
    """Return the words joined by blanks, which is how DCOR stores lists."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(w, (str, int)) for w in words):
        raise ValueError(f"supplement '{name}' must be a list of words, found {value!r}")
    return " ".join(str(w) for w in words)


_CONVERTERS: dict[str, Any] = {
    "text": _text,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "date": _date,
    "list": _list,
}
