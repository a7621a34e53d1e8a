"""Whether a dataset is finished: nothing was added to its folders for a while, or somebody says so."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any


def unsettled(dataset: dict[str, Any], roots: dict[str, Path], hours: float, settled_by: str) -> str:
    """Return why a dataset may still grow, nothing where it does not.

    Parameters
    ----------
    dataset
        Its entry in the group plan.
    roots
        Root folders of the source tree by name.
    hours
        How long nothing may have changed; both the time of a file and that of its arrival count, since
        a copy may keep the time of its original.
    settled_by
        Name of the file that says of its folder that nothing will be added; of late measurements it
        says so only where it is newer than they are.
    """
    if not hours:
        return ""
    files = [roots[m["root"]] / m["source"] for m in dataset["members"] if m["root"] in roots]
    folders = {path.parent for path in files}
    newest, which = 0.0, ""
    for path in [*files, *(Path(c["source"]) for c in dataset["companions"])]:
        if (changed := _changed(path)) > newest:
            newest, which = changed, path.name
    needed = newest if dataset.get("part") else 1.0
    if settled_by and folders and all(_changed(folder / settled_by) >= needed for folder in folders):
        return ""
    waiting = newest + 3600 * hours - time.time()
    if waiting <= 0:
        return ""
    left = f"{waiting / 3600:.0f} h" if waiting > 3600 else f"{waiting / 60:.0f} min"
    return f"{which} arrived or changed less than {hours:g} h ago (upload.settle); to be uploaded in {left}"


def _changed(path: Path) -> float:
    """Return when a file arrived or changed; 0 where there is none, which is said elsewhere."""
    try:
        seen = path.stat()
    except OSError:
        return 0.0
    return max(seen.st_mtime, seen.st_ctime) if stat.S_ISREG(seen.st_mode) else 0.0
