"""Numbers, sizes and times as a person reads them."""

from __future__ import annotations

import contextlib
import struct


def number(count: int, what: str, several: str = "") -> str:
    """Return `1 file`, `2 files`, or with `several` its plural."""
    return f"{count:,} {what if count == 1 else several or f'{what}s'}"


def short_number(value: float) -> str:
    """Return single precision as people write it: 0.34, not 0.3400000035762787; double precision in full."""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    with contextlib.suppress(OverflowError):
        for digits in range(1, 10):
            text = f"{value:.{digits}g}"
            if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
                return text
    return str(value)


def size_text(count: float) -> str:
    """Return bytes with three digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def duration(seconds: float) -> str:
    """Return seconds, minutes, or hours and minutes."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
