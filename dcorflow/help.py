"""How commands explain themselves: description, examples and exit codes, in one form for all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

USAGE, INTERNAL = 64, 70
_EVERY = {USAGE: "wrong usage or settings", INTERNAL: "an error of dcorflow itself"}


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its texts and ends with the code for usage errors."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)

    def error(self, message: str) -> Any:
        """Exit with the code for usage errors."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"dcorflow: {message}; '{self.prog} --help' tells more\n")


def add_command(
    commands: Any,
    name: str,
    summary: str,
    description: str,
    examples: Sequence[str],
    codes: Mapping[int, str] | None = None,
) -> Parser:
    """Add a command that people use.

    Parameters
    ----------
    commands
        What `add_subparsers` returned.
    name, summary, description
        Its name, half a line for the list of commands, and what it does.
    examples
        Command lines that work; `#` begins a remark.
    codes
        Exit codes beside 0 for good and those that all commands have.
    """
    shown = "\n".join(f"  {example}" for example in examples)
    known = {0: "good", **(codes or {}), **_EVERY}
    exits = "\n".join(f"  {code:<2}  {words}" for code, words in known.items())
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary} {description}".strip(),
        epilog=f"examples:\n{shown}\n\nexit codes:\n{exits}",
    )
    return parser


def add_stage(commands: Any, name: str, description: str) -> Parser:
    """Add a command that the workflow runs; the list of commands does not show it."""
    parser: Parser = commands.add_parser(name, description=description)
    return parser
