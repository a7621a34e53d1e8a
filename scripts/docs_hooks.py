"""Hooks of MkDocs: pages that are made from what the product itself says, and links out of docs/."""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dcorflow.cli import make_parser  # noqa: E402

#: Files of the repository that have a page of their own.
PAGES = {
    "config/README.md": "settings.md",
    "bench/README.md": "speed.md",
    "bench/limits.md": "limits.md",
    "CHANGELOG": "changelog.md",
}
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_FIRST_CELL = re.compile(r"<tr>\s*<td>(.*?)</td>", re.DOTALL)
_JOINT = re.compile(r"(?<=\w)([._/])(?=[\w&])")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def commands_page() -> str:
    """Return the page of all commands, from their parsers."""
    parser = make_parser()
    [subparsers] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    listed = [choice.dest for choice in subparsers._choices_actions]
    lines = ["# Commands", "", "    dcorflow [-d DIR] COMMAND ...", ""]
    lines += ["`-d` names the work directory, else it is the folder you are in.", ""]
    lines += ["| command | |", "| --- | --- |"]
    lines += [f"| [`{c.dest}`](#{c.dest}) | {c.help} |" for c in subparsers._choices_actions]
    lines += [
        "",
        "Exit codes of all: 0 good, 64 wrong usage or settings, 70 an error of dcorflow itself.",
        "",
    ]
    for name in listed:
        lines += _command(name, subparsers.choices[name])
    stages = sorted(set(subparsers.choices) - set(listed))
    lines += ["## Stages", "", "Started by the workflow, not by hand:", ""]
    lines += [f"- `{name}`: {subparsers.choices[name].description}" for name in stages]
    return "\n".join(lines) + "\n"


def _command(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the part of the page about one command."""
    lines = [f"## {name}", "", parser.description or "", "", f"    {parser.format_usage()[7:].strip()}", ""]
    rows = [
        f"| {_names(action)} | {_text(action)} |"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    lines += ["| argument | meaning |", "| --- | --- |", *rows, ""] if rows else []
    for block in (parser.epilog or "").split("\n\n"):
        title, _, text = block.partition("\n")
        lines += [f"{title.capitalize()}", "", *(f"    {line.strip()}" for line in text.splitlines()), ""]
    return lines


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = ""
    if action.nargs != 0:
        value = f" {action.metavar or '|'.join(map(str, action.choices or [action.dest.upper()]))}"
    return f"`{', '.join(action.option_strings)}{value}`".replace("|", "\\|")


def _text(action: argparse.Action) -> str:
    return action.help or ""


def included(path: str) -> str:
    """Return a file of the repository as a page."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    if path == "CHANGELOG":
        return f"# Changes\n\n```\n{text}```\n"
    language = {".yaml": "yaml", ".yml": "yaml", ".py": "python"}.get(Path(path).suffix, "")
    return f"# {path}\n\n```{language}\n{text}```\n"


def target(link: str, page: str) -> str:
    """Return the path below the repository that a link on a page of docs/ (or an included one) means."""
    folder = posixpath.dirname(source_of(page))
    return posixpath.normpath(posixpath.join(folder, link))


def source_of(page: str) -> str:
    """Return the file of the repository that a page was made from."""
    for path, name in PAGES.items():
        if name == page:
            return path
    return page.removeprefix("files/").removesuffix(".md") if page.startswith("files/") else f"docs/{page}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and one for each file that a page links to."""
    pages = {"commands.md": commands_page()}
    pages |= {name: included(path) for path, name in PAGES.items() if (ROOT / path).is_file()}
    written = {f.src_uri: f.content_string for f in files.documentation_pages()}
    for page, text in (written | pages).items():
        for match in _LINK.finditer(text):
            path = target(match[2], page)
            if "://" not in match[2] and not path.startswith("docs/") and (ROOT / path).is_file():
                pages.setdefault(PAGES.get(path, f"files/{path}.md"), included(path))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
        for link in _IMAGE.findall(text):
            if not name.startswith("files/") and "://" not in link:
                image = File.generated(config, link, abs_src_path=str(ROOT / target(link, name)))
                files.append(image)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files of the repository at the pages that show them."""
    here = page.file.src_uri

    def point(match: re.Match[str]) -> str:
        path = target(match[2], here)
        if "://" in match[2] or match[2].startswith("mailto:"):
            return match[0]
        found = (
            path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path, f"files/{path}.md")
        )
        if path.startswith("docs/") and source_of(here) == f"docs/{here}":
            return match[0]
        away = posixpath.relpath(found, posixpath.dirname(here) or ".")
        return f"[{match[1]}]({away}{match[3] or ''})"

    return _LINK.sub(point, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Let keys and paths in the first column of a table break at their joints, not within a word."""

    def joints(match: re.Match[str]) -> str:
        parts = re.split("(<[^>]*>)", match[0])
        return "".join(part if part.startswith("<") else _JOINT.sub(r"\1<wbr>", part) for part in parts)

    return _FIRST_CELL.sub(joints, html)


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Leave out of the navigation what is not there."""
    config.nav = _there(config.nav, Path(config.docs_dir))
    return config


def _there(nav: Any, docs: Path) -> Any:
    made = {"commands.md", *(name for path, name in PAGES.items() if (ROOT / path).is_file())}
    if isinstance(nav, list):
        kept = [_there(entry, docs) for entry in nav]
        return [entry for entry in kept if entry]
    if isinstance(nav, dict):
        kept_pairs = {key: _there(value, docs) for key, value in nav.items()}
        return {key: value for key, value in kept_pairs.items() if value}
    return nav if nav in made or (docs / nav).is_file() else None
