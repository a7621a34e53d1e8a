"""The configuration: read, validated with messages a user can act on, completed with defaults."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dcorflow import facts
from dcorflow.errors import UsageError

#: The schemas are files of the workflow, so that editors and Snakemake find them.
SCHEMAS = Path(__file__).resolve().parent.parent / "workflow" / "schemas"
#: Name of the file with settings in a source folder.
FOLDER_FILE = "dcorflow.yaml"

Config = dict[str, Any]


class PlainLoader(yaml.SafeLoader):
    """YAML without dates, times and base-60 numbers: '10:30:00' stays what was written.

    Of a key that is there twice, YAML's readers keep the last value without a word: here it is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; raise where a key is there twice."""
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and seen.setdefault(key.value, key) is not key:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' is there twice; keep one", key.start_mark
                )
        return super().construct_mapping(node, deep)


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag not in _TAGS]
    for _TAGS in [{f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def load_yaml(path: Path) -> Any:
    """Read a YAML file; raise `UsageError` naming file and line where it is none."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=PlainLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the schema `<name>.schema.yaml`."""
    text = (SCHEMAS / f"{name}.schema.yaml").read_text("utf-8")
    loaded: dict[str, Any] = facts.load_yaml(text)
    return loaded


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    fields = Resource.from_contents(schema("fields"))
    registry: Any = Registry().with_resource("fields.schema.yaml", fields)
    return Draft202012Validator(schema(name), registry=registry)


def problems(name: str, data: object) -> list[str]:
    """Return one sentence per violation of a schema, each with the key it is about."""
    errors = sorted(_validator(name).iter_errors(data), key=lambda e: [str(p) for p in e.path])
    return [sentence for error in errors for sentence in _sentences(error)]


def _sentences(error: Any) -> Iterable[str]:
    key = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        for name in error.instance:
            if name not in allowed:
                near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(allowed) or 'none'}"
                yield f"unknown key '{f'{key}.' if key else ''}{name}'; {hint}"
    elif error.validator == "required":
        name = error.message.split("'")[1]  # one error for each missing key
        yield f"'{f'{key}.' if key else ''}{name}' is missing; {_describe(error.schema, name)}"
    else:
        yield f"'{key or 'the file'}': {_expected(error)}, found {_short(error.instance)}"


def _describe(schema_part: Mapping[str, Any], name: str) -> str:
    properties = schema_part.get("properties") or schema("fields")["$defs"]["fields"]["properties"]
    return str(properties.get(name, {}).get("description", "it has no default"))


def _expected(error: Any) -> str:
    rule, value = error.validator, error.validator_value
    if rule == "type":
        names = value if isinstance(value, list) else [value]
        words = {
            "object": "a mapping",
            "array": "a list",
            "string": "text",
            "boolean": "true or false",
        }
        return "expected " + " or ".join(words.get(n, f"a {n}") for n in names)
    if rule == "enum":
        return f"expected one of {', '.join(map(str, value))}"
    if rule == "oneOf":
        return f"expected: {error.schema.get('description', 'another form')}"
    if rule == "pattern" and value == "^[^,]*$":
        return "a name must not hold a comma (DCOR would split it); write 'A. Name'"
    return str(error.message).replace(_short(error.instance), "value")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _fill_defaults(part: Mapping[str, Any], data: dict[str, Any]) -> None:
    for name, rule in part.get("properties", {}).items():
        if name not in data and "default" in rule:
            default = rule["default"]
            data[name] = default.copy() if isinstance(default, (dict, list)) else default
        if isinstance(data.get(name), dict) and "properties" in rule:
            _fill_defaults(rule, data[name])


def resolve_config(data: Mapping[str, Any], workdir: Path, origin: str = "the configuration") -> Config:
    """Validate settings and complete them with defaults.

    Parameters
    ----------
    data
        The settings as read.
    workdir
        Relative paths in the settings start here.
    origin
        Named in messages.

    Raises
    ------
    UsageError
        One message with all problems, each with its key.
    """
    from copy import deepcopy

    config: Config = deepcopy(dict(data))
    found = problems("config", config)
    if not found:
        _fill_defaults(schema("config"), config)
        roots = config["input"]["root"]
        config["input"]["root"] = [
            str((workdir / os.path.expanduser(r)).absolute())  # noqa: PTH111 (leaves an unknown user alone)
            for r in ([roots] if isinstance(roots, str) else roots)
        ]
        for part in ("metadata", "datasets"):
            if sheet := config[part]["sheet"]:
                config[part]["sheet"] = str((workdir / os.path.expanduser(sheet)).absolute())  # noqa: PTH111
        found = _beyond_schema(config)
    if found:
        raise UsageError(f"{origin} needs changes:\n" + "\n".join(f"  - {line}" for line in found))
    return config


def _beyond_schema(config: Config) -> list[str]:
    found = []
    for root in config["input"]["root"]:
        if not Path(root).is_dir():
            found.append(
                f"'input.root': the folder {root} does not exist; is the path right and the share mounted?"
            )
    names = [Path(r).name for r in config["input"]["root"]]
    if len(set(names)) < len(names):
        found.append("'input.root': two of the folders have the same name; they cannot be told apart")
    for part in ("metadata", "datasets"):
        sheet = config[part]["sheet"]
        if sheet and not Path(sheet).is_file():
            found.append(f"'{part}.sheet': there is no file {sheet}; save the filled template there")
    by = config["datasets"]["by"]
    if by != "directory":
        try:
            if "dataset" not in re.compile(by).groupindex:
                found.append(f"'datasets.by': '{by}' has no group (?P<dataset>...); or write 'directory'")
        except re.error as error:
            found.append(f"'datasets.by': not a regular expression: {error}")
    found += _metadata_problems(config["metadata"])
    return found


def _metadata_problems(metadata: Mapping[str, Any]) -> list[str]:
    return [
        f"'metadata.{part}': '{key}' is no 'section:key'"
        for part in ("defaults", "override", "supplements")
        for key in metadata.get(part, {})
        if ":" not in str(key)
    ]
