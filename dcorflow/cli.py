"""The command line: `dcorflow COMMAND`."""

from __future__ import annotations

import argparse
import gc
import io
import json
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dcorflow import __version__
from dcorflow.errors import MeasurementError, UsageError
from dcorflow.help import INTERNAL, USAGE, Parser, add_command, add_stage
from dcorflow.patience import patience
from dcorflow.upload.commands import add_upload_commands
from dcorflow.wording import number
from dcorflow.workdir import Workdir

#: Exit codes of `dcorflow check`, as those of `dclab-verify-dataset`.
CLEAN, ALERTS, VIOLATIONS, BOTH, UNREADABLE = range(5)

Command = Callable[[argparse.Namespace, Workdir], int]


def _discover(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.discover.run import discover, found_words
    from dcorflow.files import to_json, write_text

    found = discover(_config(work), work)
    if args.stamp:
        write_text(args.stamp, to_json({"unfinished": found.unfinished}))
    print(f"discover: {found_words(found.items, found.changes)}")
    return 0


def _config(work: Workdir) -> dict[str, Any]:
    from dcorflow.files import read_json

    try:
        loaded: dict[str, Any] = read_json(work.config)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no settings in {work.state} ({error}); start with 'snakemake', which validates and stores them"
        ) from error
    from dcorflow.server import adopt_facts

    adopt_facts(loaded["upload"].get("server"), work)
    return loaded


def _batch(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.batch import run_batch

    counts = run_batch(work, args.stage, args.batch, args.threads, args.memory)
    words = f", {counts.failed} failed" if counts.failed else ""
    print(f"{args.stage} {args.batch}: {counts.worked} of {counts.measurements} measurements{words}")
    return 0


def _task(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.task import run_group

    _config(work)
    count, ready = run_group(work, args.group)
    print(f"task {args.group}: {ready} of {count} datasets ready")
    return 0


def _report(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.report.page import write_page
    from dcorflow.report.summary import exit_code
    from dcorflow.report.tables import write_report
    from dcorflow.report.words import last_lines
    from dcorflow.templates import write_templates

    config = _config(work)
    summary = write_report(work)
    told = write_templates(work, config, summary)
    write_page(work, config, summary)
    print("\n".join([*last_lines(summary, work), *(f"next: {words}" for words in told)]))
    return exit_code(summary, config["check"]["strict"])


def _status(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.status import Status

    status = Status(work)
    if args.json:
        print(json.dumps(status.as_json(), indent=1))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(status.lines(width)))
    return 0


def _plan(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.config import load_yaml, resolve_config
    from dcorflow.discover.run import check_settings, discover, found_words
    from dcorflow.discover.words import as_markdown, state_word
    from dcorflow.files import printable

    if args.configfile:
        data = load_yaml(args.configfile)
        if not isinstance(data, dict):
            raise UsageError(f"{args.configfile}: expected a mapping of settings")
        config = resolve_config(data, work.root, str(args.configfile))
        from dcorflow.server import adopt_facts

        adopt_facts(config["upload"].get("server"), work)
    else:
        if not work.config.is_file():
            raise UsageError(f"no run in {work.root} yet: say 'dcorflow -d DIR plan --configfile FILE'")
        config = _config(work)
    found = discover(check_settings(config, work.root), work, dry=True)
    if args.markdown:
        print(as_markdown(found))
        return 0
    print(f"discover: {found_words(found.items, found.changes)}")
    pending = found.pending
    waiting = [i for i in found.items if i.state == "in progress"]
    problems = [i for i in found.items if i.state == "problem"]
    print(f"to prepare: {number(len(pending.prepare), 'measurement')}")
    print(f"to edit without compressing: {number(len(pending.edit), 'measurement')}")
    if pending.draw:
        print(f"pictures to draw: {number(len(pending.draw), 'measurement')}")
    if pending.tasks:
        print(f"tasks or companions to restore: {number(len(pending.tasks), 'dataset')}")
    if not (pending.prepare or pending.edit or pending.tasks or pending.written):
        print("nothing to do")
    for item in waiting + problems:
        print(f"  {state_word(item.state):12} {printable(item.source)}: {printable(item.reason)}")
    for text in found.warnings:
        print(f"  warning      {printable(text)}")
    return 0


def _compress(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.compress.single import compress_file
    from dcorflow.processes import end_cleanly

    end_cleanly()
    with patience(args.input.stat().st_size if args.input.is_file() else 0):
        record = compress_file(args.input, args.output, args.encoder, args.strip_logs, args.threads)
    before, after = args.input.stat().st_size, args.output.stat().st_size
    print(f"{args.output}: {before} -> {after} bytes, {record.facts.get('events', 0)} events")
    return 0


def _convert(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.compress.single import compress_file
    from dcorflow.processes import end_cleanly

    end_cleanly()
    if args.input.suffix.lower() != ".tdms":
        raise UsageError(f"{args.input}: expected a .tdms file; 'dcorflow compress' takes .rtdc files")
    record = compress_file(args.input, args.output, args.encoder, args.strip_logs, args.threads)
    print(f"{args.output}: {record.facts.get('events', 0)} events")
    return 0


def _check(args: argparse.Namespace, work: Workdir) -> int:
    from dataclasses import asdict

    from dcorflow.compress.single import look_closely
    from dcorflow.integrity import read_cues

    try:
        look_closely(args.file)
        cues = read_cues(args.file, "source")
        if stopped := [c for c in cues if c.id == "check:failed"]:
            raise MeasurementError(stopped[0].message)
    except MeasurementError as error:
        if args.json:
            print(json.dumps({"file": str(args.file), "unreadable": error.reason, "cues": []}))
        else:
            print(f"unreadable: {error.reason}")
        return UNREADABLE
    cues = sorted(cues, key=lambda c: (c.level != "violation", c.level != "alert", c.id))
    if args.json:
        print(json.dumps({"file": str(args.file), "cues": [asdict(c) for c in cues]}, indent=1))
    else:
        for cue in cues:
            print(f"{cue.level:10} {cue.id}\n           {cue.message}")
    levels = {c.level for c in cues}
    return ALERTS * ("alert" in levels) + VIOLATIONS * ("violation" in levels)


def _verify(args: argparse.Namespace, work: Workdir) -> int:
    from dcorflow.compress.verify import explained, verify, verify_results

    if args.prepared is None:
        count, problems = verify_results(work)
        print("\n".join([*problems, f"{count} prepared files verified, {len(problems)} problems"]))
        return int(bool(problems))
    for path in filter(None, (args.prepared, args.source)):
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
    with patience(sum(path.stat().st_size for path in filter(None, (args.prepared, args.source)))):
        problems = verify(args.prepared, args.source)
    for problem in problems:
        print(problem)
    if problems:
        return 1
    if args.source is None:
        print("all checksums are right")
    else:
        print(f"identical, but for what its history names: {explained(args.prepared)}")
    return 0


def _add_single(
    commands: Any, name: str, summary: str, kind: str, function: Command, examples: list[str]
) -> None:
    text = "Takes what a run does with one measurement, its check excepted; the input is only read."
    parser = add_command(commands, name, summary, text, examples, {1: "it could not be read or written"})
    parser.add_argument("input", metavar="IN", type=Path, help=f"{kind} file; it is only read")
    parser.add_argument("output", metavar="OUT", type=Path, help=".rtdc file to write")
    parser.add_argument(
        "--encoder", choices=["compat", "best"], default="compat",
        help="compat: dclab's filters; best: shuffle before compressing where it pays",
    )  # fmt: skip
    parser.add_argument("--strip-logs", action="store_true", help="leave all logs out")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads (default: 1)")
    parser.set_defaults(function=function)


def _add_files(commands: Any) -> None:
    """Add the commands about single files."""
    _add_single(
        commands, "compress", "Compress and repack one .rtdc file.", ".rtdc", _compress,
        [
            "dcorflow compress M1_data.rtdc small.rtdc",
            "dcorflow compress M1_data.rtdc small.rtdc --encoder best --threads 4",
        ],
    )  # fmt: skip
    _add_single(
        commands, "convert", "Convert one .tdms measurement to a compressed .rtdc file.", ".tdms", _convert,
        ["dcorflow convert M1_data.tdms M1_data.rtdc"],
    )  # fmt: skip
    sub = add_command(
        commands, "check", "Run dclab's integrity check on a file.", "Prints one finding after the other.",
        ["dcorflow check M1_data.rtdc", "dcorflow check M1_data.rtdc --json > findings.json"],
        {0: "clean", 1: "alerts", 2: "violations", 3: "both", 4: "unreadable"},
    )  # fmt: skip
    sub.add_argument("file", metavar="FILE", type=Path, help=".rtdc or .tdms file")
    sub.add_argument("--json", action="store_true", help="print all findings as JSON")
    sub.set_defaults(function=_check)
    sub = add_command(
        commands, "verify", "Verify checksums, or compare with a source.",
        "With a source, all decoded content is compared; what the history of the file names may differ. "
        "Without a file, all prepared files of the work directory are compared with their records.",
        ["dcorflow verify small.rtdc", "dcorflow verify small.rtdc M1_data.rtdc", "dcorflow -d work verify"],
        {1: "different or damaged"},
    )  # fmt: skip
    words = "file to verify (default: all of the work directory)"
    sub.add_argument("prepared", metavar="PREPARED", type=Path, nargs="?", help=words)
    sub.add_argument("source", metavar="SOURCE", type=Path, nargs="?", help="file it was made from")
    sub.set_defaults(function=_verify)


def _add_runs(commands: Any) -> None:
    """Add the commands that look at a work directory."""
    sub = add_command(
        commands, "plan", "Say what a run would do, without writing anything.",
        "Walks the source tree as a run does.",
        ["dcorflow plan --configfile my.yaml", "dcorflow -d work plan"],
    )  # fmt: skip
    sub.add_argument("--configfile", type=Path, help="configuration (default: that of the last run)")
    sub.add_argument("--markdown", action="store_true", help="as Markdown, for a comment on a merge request")
    sub.set_defaults(function=_plan)
    sub = add_command(
        commands, "status", "Say how far a run is, or how it ended.",
        "Only reads; may be called at any time, while a run is going on, too.",
        ["dcorflow -d work status", "dcorflow -d work status --json"],
    )  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print it as JSON")
    sub.set_defaults(function=_status)
    add_command(
        commands, "report", "Write the report again and print its last lines.",
        "Nothing is prepared; a run does the same at its end.", ["dcorflow -d work report"],
        {1: "as a run would end: something failed because of the machine, or check.strict finds fault"},
    ).set_defaults(function=_report)  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="dcorflow",
        description="From raw deformability cytometry measurements to published DCOR datasets.\n"
        "The workflow is started with 'snakemake -s <repository>/Snakefile --cores all'; these\n"
        "commands look at it, upload, or handle single files.",
        epilog="'dcorflow COMMAND --help' has examples and exit codes.\n\n"
        "The workflow itself runs: discover, batch, task, upload.\n\n"
        "examples:\n  dcorflow init\n  dcorflow -d work plan --configfile my.yaml\n  dcorflow -d work status",
    )
    parser.add_argument("--version", action="version", version=f"dcorflow {__version__}")
    parser.add_argument(
        "-d", "--directory", type=Path, default=Path(), metavar="DIR", help="work directory (default: here)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_runs(commands)
    add_upload_commands(commands)
    _add_files(commands)
    _add_stages(commands)
    return parser


def _add_stages(commands: Any) -> None:
    """Add the commands that the workflow's rules run."""
    sub = add_stage(commands, "discover", "Find measurements and plan batches.")
    sub.add_argument("stamp", metavar="STAMP", type=Path, nargs="?", help="file to write when done")
    sub.set_defaults(function=_discover)
    stages = ["compress", "check", "merge_metadata"]
    sub = add_stage(commands, "batch", "Compress, check or merge_metadata for one batch.")
    sub.add_argument("stage", choices=stages)
    sub.add_argument("batch", metavar="BATCH")
    sub.add_argument("threads", metavar="THREADS", type=int, nargs="?", default=1)
    sub.add_argument("memory", metavar="MB", type=int, nargs="?", default=0)
    sub.set_defaults(function=_batch)
    sub = add_stage(commands, "task", "Write the tasks of a group of datasets.")
    sub.add_argument("group", metavar="GROUP")
    sub.set_defaults(function=_task)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # file names may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = make_parser().parse_args(arguments)
    if args.function in (_discover, _plan, _report, _status):
        gc.disable()  # all of it lives to the end: looking for garbage again and again finds none
    try:
        code: int = args.function(args, Workdir(args.directory.absolute()))
        return code
    except UsageError as error:
        print(f"dcorflow: {error}", file=sys.stderr)
        return USAGE
    except MeasurementError as error:
        print(f"dcorflow: {error.reason}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except Exception:
        traceback.print_exc()
        print("dcorflow: internal error; please report it with the lines above", file=sys.stderr)
        return INTERNAL
    finally:
        gc.enable()
