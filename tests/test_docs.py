"""The documentation says what the product does: commands, settings, outputs, statuses, messages, links."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from runs import REPOSITORY

from dcorflow.cli import make_parser
from dcorflow.report.summary import STATUSES
from dcorflow.report.tables import COLUMNS
from dcorflow.workdir import Workdir

DOCS = REPOSITORY / "docs"
OUTPUTS = (DOCS / "outputs.md").read_text(encoding="utf-8")
PROGRAMS = ("dcorflow ", "snakemake ", "make ")


def all_pages() -> dict[str, str]:
    """Return the pages that are written by hand, by name."""
    paths = [
        *DOCS.glob("*.md"),
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")),
    ]
    return {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in paths}


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = make_parser()
    [found] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def people_use() -> list[str]:
    parser = make_parser()
    [found] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [choice.dest for choice in found._choices_actions]


def parse(line: str) -> None:
    """Parse a command line of dcorflow, without remarks and redirections."""
    words = shlex.split(line.partition(" #")[0].partition(" > ")[0])
    assert words.pop(0) == "dcorflow"
    try:
        make_parser().parse_args(words)
    except SystemExit as end:
        pytest.fail(f"'{line}' ends with code {end.code}")


@pytest.mark.parametrize("name", people_use())
def test_help_has_examples_that_parse_and_exit_codes(name: str) -> None:
    epilog = commands()[name].epilog or ""
    examples, codes = epilog.split("\n\n")
    lines = [line.strip() for line in examples.splitlines()[1:]]
    assert lines
    for line in lines:
        parse(line)
    assert re.search(r"^  0 +\w", codes, re.MULTILINE)
    assert re.search(r"^  64 ", codes, re.MULTILINE)


def test_commands_in_the_pages_exist() -> None:
    known = commands()
    for page, text in all_pages().items():
        for line in re.findall(r"(?:^    |`)((?:dcorflow) [^`\n]+)", text, re.MULTILINE):
            words = line.removeprefix("dcorflow ").split()
            while words and words[0] == "-d":
                words = words[2:]
            name = words[0].rstrip(",.;:") if words else ""
            if name.isupper() or name.startswith(("[", "-", "COMMAND")):
                continue
            assert name in known, f"{page}: {line}"
            for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", line):
                assert option in known[name]._option_string_actions, f"{page}: {line}"


def test_every_command_that_people_use_is_in_a_page() -> None:
    text = "\n".join(all_pages().values())
    for name in people_use():
        assert re.search(rf"`?dcorflow (-d \S+ )?{name}\b", text), name


def test_every_output_is_in_the_table() -> None:
    work = Workdir(Path("/w"))
    listed = set(re.findall(r"`((?:results|logs)/[^`]+)`", OUTPUTS))
    named = {
        work.inventory, work.records, work.record_index, work.summary, work.junit, work.companions,
        work.privacy, work.deleted, work.page, work.state, work.record("<measurement>"),
        *(work.template(name, suffix) for name in ("metadata", "datasets") for suffix in (".tsv", ".xlsx")),
        work.datasets / "<dataset>" / "upload_job.dcoraid-task",
        work.results / "uploads" / "<server>" / "ledger.tsv",
        work.results / "uploads" / "<server>" / "<dataset>.json",
    }  # fmt: skip
    for path in named:
        text = str(path.relative_to(work.root))
        assert any(text == entry.rstrip("/") or entry.startswith(f"{text}/") for entry in listed), text
    # Whatever the layout yields directly in results/ is among them.
    yields = [name for name, value in vars(Workdir).items() if isinstance(value, property)]
    public = {p for name in yields if ".state" not in str(p := getattr(work, name)) and p != work.results}
    for path in public - {work.root}:
        text = str(path.relative_to(work.root))
        assert any(text in entry for entry in listed), f"{text} is not in docs/outputs.md"


def test_every_column_and_status_is_described() -> None:
    for column in COLUMNS:
        assert f"`{column}`" in OUTPUTS, column
    table = OUTPUTS.partition("## Statuses of measurements")[2].partition("## Statuses of datasets")
    assert set(re.findall(r"^\| `([^`]+)`", table[0], re.MULTILINE)) == set(STATUSES)
    told = set(re.findall(r"^\| `([^`]+)`", table[2].partition("## ")[0], re.MULTILINE))
    contract = ["ready", "incomplete", "blocked", "unsettled", "draft", "published", "changed", "late"]
    assert told == {*contract, "upload failed"}


def literals() -> str:
    """Return all text in the code, one after the other; what is filled in is left out."""
    found = []
    for path in [*(REPOSITORY / "dcorflow").rglob("*.py"), REPOSITORY / "Snakefile"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.suffix == ".py" else []:
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n\n".join([*found, (REPOSITORY / "Snakefile").read_text(encoding="utf-8")])


def test_messages_in_troubleshooting_exist() -> None:
    said = literals()
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \|", text, re.MULTILINE)
    messages = [m for row in rows for m in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 40
    for message in messages:
        if message.endswith("Exception"):
            continue  # Snakemake's own
        for part in filter(lambda p: len(p) > 3, re.split(r"\s*…\s*", message)):
            assert part.strip(" :;'().") in said, f"no message says '{part}'"


def test_settings_named_in_the_pages_exist() -> None:
    table = (REPOSITORY / "config" / "README.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `([a-z_.]+)`", table, re.MULTILINE))
    tops = {key.partition(".")[0] for key in known}
    for page, text in all_pages().items():
        for key in re.findall(rf"`((?:{'|'.join(tops)})\.[a-z_]+(?:\.[a-z_]+)?)(?:: [^`]*)?`", text):
            inside = any(k == key or k.startswith(f"{key}.") for k in known)
            assert inside or key.endswith((".tsv", ".xlsx", ".yaml", ".py")), f"{page}: {key}"


class _Loads(HTMLParser):
    """Collects what a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "link") and values.get("rel") != "canonical":
            self.found += [v for k in ("src", "href", "srcset") if (v := values.get(k))]


def test_site_builds_without_warnings_and_asks_no_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    pages = sorted((tmp_path / "site").rglob("*.html"))
    names = {page.name for page in pages}
    assert {f"{path.stem}.html" for path in DOCS.glob("*.md")} | {"settings.html", "commands.html"} <= names
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found
        assert [link for link in loads.found if "//" in link] == [], page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), (
            sheet
        )
    shown = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in shown for name in people_use())


def test_catalog_and_citation_are_valid() -> None:
    catalog = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert set(catalog["usage"]) == {"mandatory-flags", "software-stack-deployment", "report"}
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    from dcorflow import __version__

    assert citation["version"] == __version__
