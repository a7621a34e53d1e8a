"""The commands about uploads: parsers and what they call."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dcorflow.errors import UsageError
from dcorflow.files import read_json
from dcorflow.workdir import Workdir


def add_upload_commands(commands: Any) -> None:
    """Add the commands to those of the command line."""
    sub = commands.add_parser("upload", help="Stage of the workflow: upload the datasets of a group.")
    sub.add_argument("group", metavar="GROUP")
    sub.set_defaults(function=_upload)
    text = "Show what will be final on the server, and approve it; the next upload makes it so."
    sub = commands.add_parser("approve", help="Approve datasets for publication.", description=text)
    sub.add_argument(
        "datasets", metavar="DATASET", nargs="*", help="as in the column 'dataset' of the summary"
    )
    sub.add_argument("--all", action="store_true", help="all that are ready and not approved yet")
    sub.set_defaults(function=_approve)


def _config(work: Workdir) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read_json(work.config)
    except (OSError, ValueError) as error:
        raise UsageError(f"no run in {work.root} yet ({error}); start with 'snakemake'") from error
    return config


def _upload(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.run import run_group

    counts = run_group(work, args.group)
    print(f"upload {args.group}: {', '.join(f'{n} {s}' for s, n in sorted(counts.items()))}")
    return 0


def _approve(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.approve import describe, to_approve
    from dcorflow.upload.receipts import approve
    from dcorflow.upload.server import find_server

    if bool(args.datasets) == args.all:
        raise UsageError("name the datasets to approve, or say --all")
    config = _config(work)
    server = find_server(config["upload"].get("server"))
    manifests = to_approve(work, config, server, args.datasets)
    for manifest in manifests:
        print(describe(manifest, server))
    if not manifests:
        print("nothing to approve")
        return 0
    if sys.stdin.isatty():
        answer = input(
            f"{len(manifests)} to approve; what is final cannot be changed or taken back. Approve? [y/N] "
        )
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing approved")
            return 1
    for manifest in manifests:
        approve(work, server, manifest)
    print(f"{len(manifests)} approved; the next 'snakemake upload' makes them final")
    return 0
