"""What the server would refuse, said before the first byte is sent."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dcoraid.upload.job import VALID_RESOURCE_REGEXP

from dcorflow.errors import UsageError
from dcorflow.upload.api import Api
from dcorflow.upload.failures import Patience, Refused
from dcorflow.upload.manifest import Manifest, Resource

#: S3 takes 10,000 parts, DCOR makes them 1 GiB each; a single part may have 5 GiB at most.
_LARGEST = 10_000 << 30
#: Of CKAN's database, title and name of a dataset.
_LONGEST_TITLE = 100_000


@dataclass
class Facts:
    """What a server allows this user.

    Parameters
    ----------
    user_id, user_name
        Whose token it is.
    circles
        Id by name of the circles in which the user may create datasets (ids stand for themselves).
    collections
        Names and ids of the collections to which the user may add datasets.
    all_collections
        Names of those that exist.
    licences, suffixes
        What the server accepts.
    supplements
        Type of each supplement by ``sp:section:key``.
    """

    user_id: str
    user_name: str
    circles: dict[str, str]
    collections: set[str]
    all_collections: set[str]
    licences: list[str]
    suffixes: list[str]
    supplements: dict[str, dict[str, Any]] = field(default_factory=dict)


def learn(api: Api, patience: Patience) -> Facts:
    """Ask the server what it allows.

    Raises
    ------
    UsageError
        Where the token is not accepted, or there is no DCOR at the address.
    Passing
        Where the server does not answer.
    """
    ask = patience.insist
    try:
        ask(lambda: api.get("status_show"))
    except Refused as error:
        raise UsageError(f"{api.server} is no DCOR server: {error.reason}") from error
    try:
        user = ask(lambda: api.get("user_show"))
    except Refused as error:
        raise UsageError(
            f"the API token is wrong: {api.server} does not accept it "
            "(is it complete, of this server, and not expired?)"
        ) from error
    try:
        circles = ask(lambda: api.get("organization_list_for_user", permission="create_dataset"))
        collections = ask(lambda: api.get("group_list_authz"))
        schema = ask(api.get_supplementary_resource_schema)
        return Facts(
            user["id"],
            user["name"],
            {c[key]: c["id"] for c in circles for key in ("name", "id")},
            {c[key] for c in collections for key in ("name", "id")},
            set(ask(lambda: api.get("group_list"))),
            [x["id"] for x in ask(api.get_license_list) if x["id"] != "none"],
            ask(api.get_supported_resource_suffixes),
            {f"sp:{name}:{item['key']}": item for name, part in schema.items() for item in part["items"]},
        )
    except (Refused, KeyError, TypeError) as error:
        raise UsageError(f"{api.server} does not say what it allows: {error}") from error


def objections(manifest: Manifest, facts: Facts) -> list[str]:
    """Return one sentence for everything that the server would refuse about a dataset."""
    fields, found = manifest.fields, []
    circle = fields.get("owner_org", "")
    if circle not in facts.circles:
        known = ", ".join(sorted({name for name in facts.circles if not _is_id(name)})) or "none"
        found.append(
            f"circle '{circle}' does not exist, or {facts.user_name} may not upload to it; possible: {known}"
        )
    for group in fields.get("groups", []):
        name = group["name"]
        if name not in facts.collections:
            why = "you may not add to it" if name in facts.all_collections else "it does not exist"
            found.append(f"collection '{name}': {why}; create it or ask its owner, or leave it out")
    if fields.get("license_id") not in facts.licences:
        found.append(
            f"licence '{fields.get('license_id')}' is not accepted; possible: {', '.join(facts.licences)}"
        )
    title = str(fields.get("title", "")).strip()
    if not title or len(title) > _LONGEST_TITLE:
        found.append("the title is empty or too long")
    if not [a for a in str(fields.get("authors", "")).split(",") if a.strip()]:
        found.append("no authors")
    for tag in fields.get("tags", []):
        if not re.fullmatch(r"[\w \-.]{2,100}", tag["name"]):
            found.append(
                f"tag '{tag['name']}': only letters, digits, blanks and -_. are accepted, 2 to 100 of them"
            )
    if not any(r.name.endswith(".rtdc") for r in manifest.resources):
        found.append("it has no measurement (.rtdc)")
    for name, count in Counter(r.name for r in manifest.resources).items():
        if count > 1:
            found.append(f"{name}: the name is there {count} times")
    for resource in manifest.resources:
        found += [f"{resource.name}: {why}" for why in _about(resource, facts)]
    return found


def _about(resource: Resource, facts: Facts) -> list[str]:
    found = []
    if not re.match(VALID_RESOURCE_REGEXP, resource.name):
        found.append("the name has characters other than a-z, A-Z, 0-9 and .,-_+()[]")
    suffix = "." + resource.name.rpartition(".")[2]
    if suffix not in facts.suffixes:
        found.append(f"files of type '{suffix}' are not accepted; possible: {', '.join(facts.suffixes)}")
    if resource.size == 0:
        found.append("the file is empty")
    if resource.size > _LARGEST:
        found.append("the file is larger than the 10,000 GiB that DCOR takes")
    if resource.supplements and suffix != ".rtdc":
        found.append("only measurements have supplements")
    for key, value in resource.supplements.items():
        if key not in facts.supplements:
            found.append(f"supplement '{key.removeprefix('sp:')}' is unknown to this server")
        elif not _fits(facts.supplements[key]["type"], value):
            kind = facts.supplements[key]["type"]
            found.append(f"supplement '{key.removeprefix('sp:')}': expected {kind}, found {value!r}")
    return found


def _fits(kind: str, value: Any) -> bool:
    """Return whether a value has the type that the server wants (its own check is lax)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {
        "boolean": isinstance(value, bool),
        "integer": number and value == int(value),
        "float": number,
    }.get(kind, isinstance(value, str))


def _is_id(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name) is not None
