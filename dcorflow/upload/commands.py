"""The commands about uploads: parsers and what they call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcorflow.errors import UsageError
from dcorflow.files import read_json
from dcorflow.help import add_command, add_stage
from dcorflow.wording import number
from dcorflow.workdir import Workdir

#: What `init` asks for.
_QUESTIONS = {
    "root": "folder with the raw measurements; it is only read",
    "authors": "authors, separated by commas",
    "license_id": "licence: CC0-1.0, CC-BY-4.0, CC-BY-SA-4.0 or CC-BY-NC-4.0",
    "owner_org": "circle on DCOR that will own the datasets",
    "server": "server: dcor, playground, or a URL; may stay empty until you upload",
    "namespace": "name of your lab for task ids; empty: one is made up",
}
_OPTIONAL = ("server", "namespace")


def add_upload_commands(commands: Any) -> None:
    """Add the commands to those of the command line."""
    sub = add_stage(commands, "upload", "Upload the datasets of a group.")
    sub.add_argument("group", metavar="GROUP")
    sub.add_argument("turn", metavar="TURN", type=int, nargs="?", default=0)
    sub.set_defaults(function=_upload)
    sub = add_command(
        commands, "approve", "Approve datasets for publication.",
        "Shows what will be final on the server; the next upload makes it so.",
        ["dcorflow -d work approve --all", "dcorflow -d work approve 2024-05-17-blood"],
    )  # fmt: skip
    sub.add_argument(
        "datasets", metavar="DATASET", nargs="*", help="as in the column 'dataset' of the summary"
    )
    sub.add_argument("--all", action="store_true", help="all that are ready and not approved yet")
    sub.add_argument("--digests", action="store_true", help="approve nothing: print the lines of a FILE")
    sub.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="approve what stands in FILE, and no more"
    )
    sub.set_defaults(function=_approve)
    add_command(
        commands, "audit", "List which of the measurements here are on the server already.",
        "Compares content, then date, time, run index, event count and setup; changes nothing.",
        ["dcorflow -d work audit"],
    ).set_defaults(function=_audit)  # fmt: skip
    add_command(
        commands, "recover", "Find the datasets of a lost ledger.",
        "Rebuilds it from what the server has; nothing is changed there.", ["dcorflow -d work recover"],
    ).set_defaults(function=_recover)  # fmt: skip
    sub = add_command(
        commands, "doctor", "Say whether an upload would find what it needs.",
        "Looks at Python, packages, configuration, disk, server, token, circle and collections.",
        ["dcorflow -d work doctor", "dcorflow doctor --configfile my.yaml"], {1: "something is not fine"},
    )  # fmt: skip
    sub.add_argument("--configfile", type=Path, help="default: config/config.yaml, else that of the last run")
    sub.set_defaults(function=_doctor)
    _add_init(commands)


def _add_init(commands: Any) -> None:
    sub = add_command(
        commands, "init", "Write a commented configuration.", "What is not given is asked for on a terminal.",
        [
            "dcorflow init",
            "dcorflow init --root /data/rtdc --authors 'A. Name' --license-id CC0-1.0 --owner-org my-circle",
        ],
    )  # fmt: skip
    for name, meaning in _QUESTIONS.items():
        sub.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="TEXT", help=meaning)
    sub.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="file to write")
    sub.set_defaults(function=_init)


def _config(work: Workdir) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read_json(work.config)
    except (OSError, ValueError) as error:
        raise UsageError(f"no run in {work.root} yet ({error}); start with 'snakemake'") from error
    return config


def _upload(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.failures import Stopped
    from dcorflow.upload.run import run_group

    try:
        counts = run_group(work, args.group, args.turn)
    except Stopped:
        print("dcorflow: stopped; run again to go on", file=sys.stderr)
        return 1
    print(f"upload {args.group}: {', '.join(f'{n} {s}' for s, n in sorted(counts.items()))}")
    return 0


def _approve(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.server import find_server
    from dcorflow.upload.approvals import approve_from, to_review
    from dcorflow.upload.approve import describe, to_approve
    from dcorflow.upload.receipts import approve

    if sum(map(bool, (args.datasets, args.all, args.digests, args.file))) != 1:
        raise UsageError("name the datasets to approve, or say --all, --digests, or --from FILE")
    config = _config(work)
    server = find_server(config["upload"].get("server"))
    if args.digests:
        print(to_review(to_approve(work, config, server, []), server), end="")
        return 0
    if args.file:
        print("\n".join(approve_from(args.file, work, config, server)))
        return 0
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


def _audit(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.recover import audit_lines

    lines = _looking(work, audit_lines)
    print("\n".join(lines) or "nothing of what is prepared here is on the server")
    return 0


def _recover(args: argparse.Namespace, work: Workdir) -> int:
    found, doubtful = _looking(work, lambda look: look.recover())
    for line in found:
        print(f"found     {line}")
    for line in doubtful:
        print(f"doubtful  {line}")
    after = "the next 'snakemake upload' goes on with them" if found else "the ledger lacks none of them"
    print(f"{number(len(found), 'dataset')} found; {after}")
    return 1 if doubtful else 0


def _looking(work: Workdir, ask: Callable[[Any], Any]) -> Any:
    """Return what `ask` makes of a look at the server; a failure there is no internal error."""
    from dcorflow.upload.failures import Passing, Refused
    from dcorflow.upload.recover import Look

    try:
        return ask(Look(work, _config(work)))
    except Passing as error:
        raise UsageError(f"the server does not answer: {error.reason}; try again later") from error
    except Refused as error:
        raise UsageError(error.reason) from error


def _doctor(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.doctor import examine

    good = True
    for finding in examine(work, args.configfile):
        good &= finding.good
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.what:11} {finding.words}")
    print("everything is fine" if good else "see what is BAD above")
    return 0 if good else 1


def _init(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.upload.init import EXAMPLE, write_config

    answers = {}
    for name, meaning in _QUESTIONS.items():
        given = getattr(args, name)
        if given is None and sys.stdin.isatty():
            given = input(f"{meaning}: ")
        answers[name] = (given or "").strip()
        if not answers[name] and name not in _OPTIONAL:
            raise UsageError(f"no {name}: give it with --{name.replace('_', '-')}")
    path = work.root / args.configfile
    write_config(path, answers)
    snakefile = EXAMPLE.parent.parent / "Snakefile"
    after = f"snakemake -s {snakefile} -d {work.root} --configfile {path} --cores all"
    if answers["server"]:
        after = f"dcorflow doctor --configfile {path}"
    print(f"{path} is written; every key is explained in it. Next: '{after}'")
    return 0
