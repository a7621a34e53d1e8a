"""Text datasets without what is private: logs line by line, tables column by column."""

from __future__ import annotations

import h5py
import numpy as np

from dcorflow.privacy.redact import Redacted, Redactor

#: Shortest fixed length of a line, as dclab writes logs.
_LINE = 100


def redact_rows(source: h5py.Dataset, redactor: Redactor) -> tuple[np.ndarray | None, Redacted]:
    """Return the rows of a text dataset or table, redacted, and what was replaced.

    Parameters
    ----------
    source
        Any dataset; None is returned where it holds no text or nothing private.
    redactor
        What replaces private text.

    Returns
    -------
    rows
        Array of any shape to write instead; text has a fixed length then.
    done
        What was replaced.
    """
    done = Redacted()
    kind = source.dtype
    fields = [n for n in kind.names or () if h5py.check_string_dtype(kind[n])]
    if not fields and h5py.check_string_dtype(kind) is None:
        return None, done
    if source.shape is None or not source.size:
        return None, done
    rows = np.atleast_1d(source[()])
    if not fields:
        made = _redact_text(rows, kind, redactor, done, _LINE)
        return (made if done else None), done
    columns = {name: _redact_text(rows[name], kind[name], redactor, done, 1, name) for name in fields}
    if not done:
        return None, done
    table = np.zeros(rows.shape, [(n, columns[n].dtype if n in columns else kind[n]) for n in kind.names])
    for name in kind.names:
        table[name] = columns.get(name, rows[name])
    return table, done


def _redact_text(
    values: np.ndarray, kind: np.dtype, redactor: Redactor, done: Redacted, least: int, name: str = ""
) -> np.ndarray:
    """Return text redacted, with one fixed length of at least `least` bytes."""
    texts = []
    for value in values.reshape(-1).tolist():
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
        text, found = redactor.raw(raw, name)
        done.update(found)
        texts.append(text)
    length = h5py.check_string_dtype(kind).length or least
    text_type = h5py.string_dtype(
        h5py.check_string_dtype(kind).encoding, max([length, least, *map(len, texts)])
    )
    return np.array(texts, text_type).reshape(values.shape)
