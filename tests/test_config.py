"""The configuration: documented, completed, and refused with messages a user can act on."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcorflow.config import SCHEMAS, load_yaml, problems, resolve_config, schema
from dcorflow.errors import UsageError
from dcorflow.files import to_json

CONFIG = SCHEMAS.parent.parent / "config"
FIELDS = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": "my-circle"}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a schema behind its reference."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        part = {**schema("fields")["$defs"][name], **part}
    return part


def keys(part: dict[str, Any], above: str = "") -> dict[str, dict[str, Any]]:
    """Return every key of a schema with its rule."""
    found: dict[str, dict[str, Any]] = {}
    for name, rule in resolved(part).get("properties", {}).items():
        full = f"{above}.{name}" if above else name
        found |= {full: rule, **keys(rule, full)}
    return found


ALL_KEYS = keys(schema("config"))
EXAMPLE = (CONFIG / "config.yaml").read_text(encoding="utf-8")


def minimal(root: Path, **changes: Any) -> dict[str, Any]:
    """Return the smallest configuration; `a__b=value` sets a.b, None removes it."""
    config: dict[str, Any] = {"input": {"root": str(root)}, "datasets": {"defaults": dict(FIELDS)}}
    for path, value in changes.items():
        *above, name = path.split("__")
        part = config
        for key in above:
            part = part.setdefault(key, {})
        part[name] = value
    return config


class TestInStep:
    @pytest.mark.parametrize("name", ["config", "fields", "folder"])
    def test_every_key_has_a_description(self, name):
        parts = [schema(name)]
        if name == "fields":
            parts = list(schema(name)["$defs"].values())
        nameless = [
            key for part in parts for key, rule in keys(part).items() if not resolved(rule).get("description")
        ]
        assert nameless == []

    @pytest.mark.parametrize("name", ["config", "fields", "folder"])
    def test_no_mapping_of_settings_takes_unknown_keys(self, name):
        parts = [schema(name)] if name != "fields" else list(schema(name)["$defs"].values())
        rules = [r for part in parts for r in [part, *keys(part).values()] if "properties" in r]
        assert rules
        assert all(r.get("additionalProperties") is False for r in rules)

    def test_the_example_names_every_key(self):
        lines = [line.strip().removeprefix("# ") for line in EXAMPLE.splitlines()]
        named = {line.partition(":")[0] for line in lines}
        assert {key.rpartition(".")[2] for key in ALL_KEYS} <= named

    def test_the_example_names_no_other_key(self):
        wrong = problems("config", yaml.safe_load(EXAMPLE))
        assert wrong == []

    def test_the_example_shows_the_defaults(self, tmp_path):
        shown = yaml.safe_load(EXAMPLE)
        shown["input"]["root"] = str(tmp_path)
        del shown["datasets"]["defaults"]["private"]
        given = resolve_config(shown, tmp_path)
        bare = resolve_config(minimal(tmp_path), tmp_path)
        assert given == bare | {"metadata": given["metadata"]}
        assert not any(given["metadata"].values())

    def test_the_readme_explains_every_key(self):
        path = CONFIG / "README.md"
        text = path.read_text(encoding="utf-8")
        leaves = [k for k in ALL_KEYS if not any(o.startswith(f"{k}.") for o in ALL_KEYS)]
        assert [k for k in leaves if f"`{k}`" not in text] == []
        for key in leaves:
            row = next(line for line in text.splitlines() if line.startswith(f"| `{key}`"))
            words = [part.strip() for part in row.strip("|").split("|")]
            assert words[2] == resolved(ALL_KEYS[key])["description"], key


class TestDefaults:
    def test_minimal(self, tmp_path):
        config = resolve_config(minimal(tmp_path), tmp_path)
        assert config["input"]["min_age"] == 120
        assert config["prepare"] == {
            "encoder": "compat",
            "logs": "keep",
            "naming": "keep",
            "redact": [],
            "pseudonyms": {},
            "settings_log": False,
        }
        assert config["check"]["on_violation"] == "accept"
        assert config["check"]["on_unfit"] == config["check"]["on_unreadable"] == "exclude"
        assert config["datasets"]["by"] == "directory"
        assert config["input"]["root"] == [str(tmp_path)]

    def test_defaults_are_not_shared_between_calls(self, tmp_path):
        resolve_config(minimal(tmp_path), tmp_path)["check"]["ignore"].append("x")
        assert resolve_config(minimal(tmp_path), tmp_path)["check"]["ignore"] == []

    def test_the_input_is_not_changed(self, tmp_path):
        given = minimal(tmp_path)
        resolve_config(given, tmp_path)
        assert given == minimal(tmp_path)

    def test_relative_roots_start_at_the_work_directory(self, tmp_path):
        (tmp_path / "raw").mkdir()
        config = resolve_config(minimal(Path("raw")), tmp_path)
        assert config["input"]["root"] == [str(tmp_path / "raw")]

    def test_mandatory_fields_may_be_left_to_folders(self, tmp_path):
        defaults = dict.fromkeys(FIELDS)
        resolve_config(minimal(tmp_path, datasets__defaults=defaults), tmp_path)


MISTAKES = {
    "wrong type": ({"input__min_age": "soon"}, "input.min_age", "expected a number"),
    "negative": ({"input__min_age": -1}, "input.min_age", "-1"),
    "too large": ({"input__max_vanished": 1.5}, "input.max_vanished", "1.5"),
    "unknown key": ({"metdata": {}}, "metdata", "did you mean 'metadata'?"),
    "unknown key inside": ({"prepare__encodr": "best"}, "prepare.encodr", "did you mean 'encoder'?"),
    "unlike any key": ({"upload__zzz": 1}, "upload.zzz", "known: server"),
    "missing section": ({"datasets": {}}, "datasets.defaults", "is missing"),
    "missing authors": (
        {"datasets__defaults": {"license_id": "CC0-1.0", "owner_org": "x"}},
        "datasets.defaults.authors",
        "is missing",
    ),
    "no folder": ({"input__root": "/nowhere/at/all"}, "input.root", "does not exist"),
    "no roots": ({"input__root": []}, "input.root", "expected"),
    "unknown home": ({"input__root": "~nobody-of-this-name/raw"}, "input.root", "~nobody-of-this-name"),
    "null section": ({"metadata": None}, "metadata", "expected a mapping"),
    "comma": ({"datasets__defaults__authors": ["Doe, Jane"]}, "datasets.defaults.authors", "comma"),
    "authors as text": ({"datasets__defaults__authors": "J. Doe"}, "datasets.defaults.authors", "authors"),
    "choice": ({"check__on_violation": "ignore"}, "check.on_violation", "accept, exclude, block"),
    "unfit accepted": ({"check__on_unfit": "accept"}, "check.on_unfit", "exclude, block"),
    "yes as text": ({"check__strict": "yes"}, "check.strict", "true or false"),
    "logs": ({"prepare__logs": {"kep": ["a"]}}, "prepare.logs", "expected"),
    "no expression": ({"datasets__by": "(?P<dataset"}, "datasets.by", "not a regular expression"),
    "no group": ({"datasets__by": "^[^/]+"}, "datasets.by", "(?P<dataset>...)"),
    "no key": ({"metadata__defaults": {"medium": "x"}}, "metadata.defaults", "section:key"),
    "batch of none": ({"batches__files": 0}, "batches.files", "0"),
    "sections swapped": ({"input": ["a"]}, "input", "expected a mapping"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_give_one_sentence_with_the_key(tmp_path, name):
    changes, key, words = MISTAKES[name]
    with pytest.raises(UsageError) as caught:
        resolve_config(minimal(tmp_path, **changes), tmp_path, "config.yaml")
    text = str(caught.value)
    assert text.startswith("config.yaml needs changes:\n")
    lines = [line for line in text.splitlines()[1:] if f"'{key}'" in line]
    assert len(lines) == 1, text
    assert words in lines[0]
    assert "Traceback" not in text and "jsonschema" not in text


def test_all_mistakes_stand_in_one_message(tmp_path):
    config = minimal(tmp_path, input__min_age="x", check__strict=1, bathes={})
    with pytest.raises(UsageError) as caught:
        resolve_config(config, tmp_path)
    assert len(str(caught.value).splitlines()) == 4


def test_two_roots_of_one_name_are_refused(tmp_path):
    for name in ("a/raw", "b/raw"):
        (tmp_path / name).mkdir(parents=True)
    config = minimal(tmp_path)
    config["input"]["root"] = [str(tmp_path / "a/raw"), str(tmp_path / "b/raw")]
    with pytest.raises(UsageError, match="same name"):
        resolve_config(config, tmp_path)


class TestYaml:
    def load(self, folder: Path, text: str) -> Any:
        path = folder / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return load_yaml(path)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("10:30:00", "10:30:00"),
            ("10:30:00.250", "10:30:00.250"),
            ("2024-03-12", "2024-03-12"),
            ("2024-03-12 10:30:00", "2024-03-12 10:30:00"),
            ("007", "007"),
            ("0x10", "0x10"),
            ("1_000", "1_000"),
            ("12", 12),
            ("-3", -3),
            ("1.5", 1.5),
            ("true", True),
            ("no", False),
            ("null", None),
            ("'12'", "12"),
        ],
    )
    def test_values(self, tmp_path, text, value):
        loaded = self.load(tmp_path, f"a: {text}\n")["a"]
        assert (loaded, type(loaded)) == (value, type(value))

    def test_a_byte_order_mark_is_no_part_of_a_key(self, tmp_path):
        assert self.load(tmp_path, "\ufeffa: 1\n") == {"a": 1}

    def test_no_yaml(self, tmp_path):
        with pytest.raises(UsageError, match=r"x\.yaml: not valid YAML: .*line 2"):
            self.load(tmp_path, "a: 1\n  b: [\n")

    def test_no_objects_of_python(self, tmp_path):
        with pytest.raises(UsageError):
            self.load(tmp_path, "a: !!python/object/apply:os.system ['true']\n")

    def test_no_file(self, tmp_path):
        with pytest.raises(UsageError, match=r"missing\.yaml"):
            load_yaml(tmp_path / "missing.yaml")

    def test_other_encoding(self, tmp_path):
        (tmp_path / "x.yaml").write_bytes("a: Müller".encode("latin-1"))
        with pytest.raises(UsageError, match=r"x\.yaml"):
            load_yaml(tmp_path / "x.yaml")


def test_dates_that_the_workflow_read_as_dates_can_be_stored(tmp_path):
    day = datetime.date(2024, 3, 12)
    config = minimal(tmp_path, metadata__defaults={"experiment:date": day})
    assert "2024-03-12" in to_json(resolve_config(config, tmp_path))


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "m: {setup:medium: water, setup:medium: water}"])
def test_a_key_that_is_there_twice(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"is there twice; keep one.*line"):
        load_yaml(tmp_path / "x.yaml")


def test_a_key_that_a_merge_brings_is_not_there_twice(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert load_yaml(tmp_path / "x.yaml")["b"] == {"x": 3, "y": 2}
