"""Made-up results for tests of the page: records, portraits, summaries."""

from __future__ import annotations

from test_report import decided, row

from dcorflow.files import to_json, write_text
from dcorflow.records import Record, SourceFile, save_record
from dcorflow.report.summary import Summary

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028\udcff"


def record_of(name, **values):
    """Return a checked record with one of everything."""
    cue = {
        "id": "metadata-wrong:setup:medium", "level": "violation", "category": "metadata wrong",
        "section": "setup", "key": "medium", "message": "Metadata: bad", "file": "prepared",
        "unfit": False, "check": "check_metadata_bad",
    }  # fmt: skip
    return Record(
        **{
            "measurement": name,
            "dataset": "a",
            "root": "raw",
            "kind": "rtdc",
            "files": [SourceFile(f"a/{name}.rtdc", 100, 1)],
            "content": "xxh3-128:00",
            "body": {
                "datasets": {
                    "events/deform": {"bytes": 400, "stored": 100, "encoding": "zstd", "digest": "x"}
                },
                "dropped": [{"what": "events/time", "why": "defective"}],
                "changed": [],
                "added": [{"what": "events/a", "how": "mean"}, {"what": "events/b", "how": "mean"}],
                "dclab": "0.73",
            },
            "edits": [
                {
                    "key": "setup:medium",
                    "old": "water",
                    "new": "PBS",
                    "kind": "sheet",
                    "where": "s.xlsx row 2",
                }
            ],
            "metadata": {"setup:medium": "PBS", "experiment:sample": HOSTILE},
            "prepared": {"name": f"{name}.rtdc", "size": 50, "mtime_ns": 1, "sha256": "00", "etag": "11"},
            "check_key": "k",
            "check": {"source": [], "prepared": [cue], "dclab": "0.73"},
            "facts": {"events": 8, "date": "2024-03-01", "time": "10:00:00"},
        }
        | values
    )


def portrait(thumbnail="UklGRg==", **values):
    svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 4'><path d='M0 0h4'/></svg>"
    picture = {"id": "scatter", "title": "Scatter", "alt": "eight events", "svg": svg}
    return {
        "format": 1, "key": "k", "events": 8, "sampled": 4, "flags": [], "missing": [],
        "thumbnail": thumbnail, "pictures": [picture],
    } | values  # fmt: skip


def some(work, count, **values):
    """Write records and portraits of `count` measurements; return the summary."""
    rows = []
    for number in range(count):
        name = f"m{number:05d}"
        save_record(work, record_of(name))
        write_text(work.portrait(name), to_json(portrait(**values)))
        rows.append(row(f"a/{name}.rtdc", measurement=name))
    return Summary(rows, [decided()])
