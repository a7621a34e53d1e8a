"""Whether a dataset is finished: nothing was added to its folders for a while, or somebody says so."""

from __future__ import annotations

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
        Name of the file that says of its folder that nothing will be added.
    """
    if not hours:
        return ""
    files = [roots[m["root"]] / m["source"] for m in dataset["members"] if m["root"] in roots]
    folders = {path.parent for path in files}
    if settled_by and folders and all((folder / settled_by).is_file() for folder in folders):
        return ""
    newest, which = 0.0, ""
    for path in [*files, *(Path(c["source"]) for c in dataset["companions"])]:
        try:
            seen = path.stat()
        except OSError:
            continue  # vanished: what is missing is said elsewhere
        if (changed := max(seen.st_mtime, seen.st_ctime)) > newest:
            newest, which = changed, path.name
    waiting = newest + 3600 * hours - time.time()
    if waiting <= 0:
        return ""
    left = f"{waiting / 3600:.0f} h" if waiting > 3600 else f"{waiting / 60:.0f} min"
    return f"{which} arrived or changed less than {hours:g} h ago (upload.settle); to be uploaded in {left}"
