"""Everything private that one dataset would publish, and what that means for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcorflow.privacy.companions import scan_companion
from dcorflow.privacy.document import Document, Finding, is_accepted
from dcorflow.privacy.kinds import own
from dcorflow.privacy.scan import UNSEEN
from dcorflow.privacy.settings import SHIPPED_ONLY

Verdict = Literal["blocks", "warned", "accepted", "unseen"]
#: Fields of a dataset that are looked into; its authors want to be named.
_FIELDS = ("title", "notes", "references", "doi", "tags", "collections")


@dataclass(frozen=True)
class Place:
    """A finding with the file it was found in; ``dataset`` for the dataset's own fields."""

    measurement: str
    file: str
    finding: Finding
    verdict: Verdict

    def row(self) -> list[str]:
        """Return the columns of privacy.tsv behind the dataset."""
        found = self.finding
        return [
            self.measurement, self.file, found.place, found.kind, found.text, str(found.count), self.verdict
        ]  # fmt: skip


class Judge:
    """Tells what a finding means.

    Parameters
    ----------
    policy
        The settings `check`.
    private
        Whether only the circle sees the dataset.
    """

    def __init__(self, policy: Mapping[str, Any], private: bool) -> None:
        rule = policy.get("on_private", "block_public")
        self.blocks = rule == "block" or (rule == "block_public" and not private)
        self.accepted: list[str] = policy.get("accept_private", [])

    def verdict(self, finding: Finding) -> Verdict:
        """Return what is to be done about a finding."""
        if finding.kind == UNSEEN:
            return "unseen"
        if is_accepted(finding, self.accepted):
            return "accepted"
        return "blocks" if self.blocks else "warned"

    def places(self, measurement: str, file: str, found: Iterable[Finding]) -> list[Place]:
        """Return findings in a file with their verdicts."""
        return [Place(measurement, file, finding, self.verdict(finding)) for finding in found]


def scan_fields(
    dataset: Mapping[str, Any], names: Sequence[str], private: Sequence[Sequence[str]]
) -> list[Finding]:
    """Return the private text in a dataset's fields and in the names of folder and resources.

    Parameters
    ----------
    dataset
        Entry of the group plan.
    names
        Names of all resources.
    private
        Own patterns as pairs of kind and regular expression.
    """
    document = Document()
    document.add("folder", dataset["dataset"])
    for name in _FIELDS:
        value = dataset["fields"].get(name, "")
        for text in value if isinstance(value, list) else [value]:
            document.add(name, str(text), numbered=name == "notes")
    for member in dataset["members"]:
        for section, items in member["supplements"].items():
            for key, value in items.items():
                if isinstance(value, str):
                    document.add(f"{member['name']} {section}:{key}", f"{key} = {value}")
    for name in names:
        document.add("name of a resource", name)
    return document.search(own(private))


def scan_companions(
    companions: Sequence[Mapping[str, Any]], scan: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the private text in the companions of a dataset, as plain data by resource name.

    A file that was looked into before and did not change since is not opened again.
    """
    done = {}
    for companion in companions:
        state = [companion["path"], companion["size"], companion["mtime_ns"], scan["key"]]
        known = before.get(companion["name"])
        if known is None or known["state"] != state:
            found = scan_companion(Path(companion["source"]), scan["private"])
            known = {"state": state, "found": [finding.as_dict() for finding in found]}
        done[companion["name"]] = known
    return done


def scan_dataset(
    dataset: Mapping[str, Any],
    ready: Sequence[tuple[Mapping[str, Any], list[dict[str, Any]]]],
    plan: Mapping[str, Any],
    before: Mapping[str, Any],
) -> tuple[list[Place], dict[str, Any]]:
    """Look for private text in everything that a dataset would publish.

    Parameters
    ----------
    dataset
        Entry of the group plan.
    ready
        Its measurements that are published, each with what was found in the prepared file.
    plan
        The group plan: its settings ``check``, and what to ``scan`` for.
    before
        What was found in companions the last time.

    Returns
    -------
    places
        All findings with their verdicts.
    scans
        What was found in companions, for the next time.
    """
    scan = plan.get("scan", SHIPPED_ONLY)
    scans = scan_companions(dataset["companions"], scan, before)
    judge = Judge(plan["check"], dataset["fields"]["private"])
    names = [*(_resource_name(member, scan["private"]) for member, _ in ready), *scans]
    places = judge.places("", "dataset", scan_fields(dataset, names, scan["private"]))
    for member, found in ready:
        places += judge.places(member["measurement"], member["name"], [Finding(**f) for f in found])
    for name, done in scans.items():
        places += judge.places("", name, [Finding(**f) for f in done["found"]])
    return places, scans


def _resource_name(member: Mapping[str, Any], private: Sequence[Sequence[str]]) -> str:
    """Return the name that a measurement gets on DCOR; one made of its sample without marks in it."""
    name: str = member.get("resource", member["name"])
    if name != member["name"]:
        for kind, _ in private:
            name = name.replace(f"_{kind}_", "_")
    return name


def blocks(places: Sequence[Place]) -> str:
    """Say why private text keeps a dataset back, and what to do; empty where nothing does."""
    blocking = [place for place in places if place.verdict == "blocks"]
    if not blocking:
        return ""
    first = blocking[0]
    found = first.finding
    where = f"{first.file}, {found.place}".rstrip(", ")
    more = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
    return (
        f"private text would be published: {found.kind} '{found.text}' ({where}){more}, see "
        "results/privacy.tsv; replace it (prepare.redact, prepare.pseudonyms), or accept it "
        f"(check.accept_private: ['{found.id}'])"
    )
