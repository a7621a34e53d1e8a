"""Approvals that are reviewed in a file, and the plan as a comment."""

from __future__ import annotations

import html
import re

import pytest
from runs import Run

from dcorflow.cli import main
from dcorflow.discover.plan import Pending
from dcorflow.discover.run import Discovery
from dcorflow.discover.words import as_markdown
from dcorflow.errors import UsageError
from dcorflow.files import read_json, to_json, write_text
from dcorflow.report.page import write_page
from dcorflow.report.summary import gather
from dcorflow.server import find_server
from dcorflow.source.identity import Changes
from dcorflow.source.inventory import Item
from dcorflow.upload.approvals import approve_from, read_approvals, to_review
from dcorflow.upload.approve import describe, to_approve
from dcorflow.upload.receipts import is_approved
from dcorflow.workdir import TASK_NAME, Workdir

PLAYGROUND, PRODUCTION = find_server("playground"), find_server("dcor")


class TestApprovals:
    @pytest.fixture
    def work(self, lab: Run):
        return Workdir(lab.work)

    def waiting(self, work):
        return {m.dataset: m for m in to_approve(work, read_json(work.config), PLAYGROUND, [])}

    def approved(self, work, server=PLAYGROUND):
        found = to_approve(work, read_json(work.config), server, ["alpha", "beta", "gamma"])
        return [m.dataset for m in found if is_approved(work, server, m)]

    def write(self, work, *names, server=PLAYGROUND):
        path = work.root / "approvals.tsv"
        path.write_text(to_review([m for n, m in self.all(work).items() if n in names], server))
        return path

    def all(self, work):
        names = ["alpha", "beta", "gamma"]
        return {m.dataset: m for m in to_approve(work, read_json(work.config), PLAYGROUND, names)}

    def take(self, work, path, server=PLAYGROUND):
        return approve_from(path, work, read_json(work.config), server)

    def test_only_what_the_file_says(self, work):
        told = self.take(work, self.write(work, "alpha", "beta"))
        assert told[:2] == ["approved   alpha", "approved   beta"] and told[2].startswith("waits      gamma")
        assert self.approved(work) == ["alpha", "beta"]

    def test_the_page_says_whether_there_is_one(self, work):
        config = read_json(work.config)
        config["upload"]["server"] = "playground"

        def said():
            written = write_page(work, config, gather(work))
            words = re.findall("<dt>Approval</dt><dd>(.*?)</dd>", work.page.read_text(encoding="utf-8"))
            return written, [html.unescape(w) for w in words]

        assert said()[1] == [
            f"none yet: <code>dcorflow approve {name}</code>" for name in ("alpha", "beta", "gamma")
        ]
        path = self.write(work, "alpha", "beta")
        self.take(work, path)
        task = work.datasets / "beta" / TASK_NAME
        task.write_text(task.read_text().replace('"title": "beta', '"title": "another'))
        written, words = said()
        assert written
        assert words[0].startswith("given by ") and words[0].endswith(": the next upload makes it final")
        assert words[1].startswith("given by ") and words[1].endswith("look at it and approve it again")
        assert words[2] == "none yet: <code>dcorflow approve gamma</code>"
        assert not said()[0]
        config["upload"]["activate"] = "all"
        assert said()[1] == ["not needed: upload.activate is 'all', what is ready becomes final"] * 3
        config["upload"].pop("server")
        assert said()[1] == []

    def test_what_is_taken_out_of_the_file_is_withdrawn(self, work):
        self.take(work, self.write(work, "alpha", "beta"))
        assert any(t.startswith("withdrawn  alpha") for t in self.take(work, self.write(work, "beta")))
        assert self.approved(work) == ["beta"]

    def test_another_digest_is_no_approval(self, work):
        path = self.write(work, "alpha")
        path.write_text(path.read_text().replace(self.all(work)["alpha"].digest, "0" * 64))
        assert "differs from what was approved" in self.take(work, path)[0]
        assert self.approved(work) == []

    def test_an_approval_for_one_server_is_none_for_another(self, work):
        self.take(work, self.write(work, "alpha", server=PLAYGROUND), server=PRODUCTION)
        assert self.approved(work, PRODUCTION) == []

    @pytest.mark.parametrize("text", ["alpha\n", "playground\talpha\tyes\n", "playground alpha beta gamma\n"])
    def test_lines_that_are_none(self, tmp_path, text):
        (tmp_path / "a.tsv").write_text(text)
        with pytest.raises(UsageError, match=r"line 1: expected server, dataset and digest"):
            read_approvals(tmp_path / "a.tsv")


def test_a_plan_as_markdown_escapes_what_files_are_called():
    item = Item("m", "raw", "a|b/<img src=x>@all*.rtdc", "rtdc", state="problem", reason="`x`")
    text = as_markdown(Discovery([item], Changes(), Pending(prepare=["m"]), [], ["[link](http://x)"]))
    assert "| to prepare | 1 |" in text
    [row] = [line for line in text.split("\n") if "img" in line]
    assert row == "| failed | a\\|b/&lt;img src=x\\>@\u200ball\\*.rtdc | \\`x\\` |"
    assert "](" not in text


@pytest.mark.parametrize(("answer", "approved"), [("n", False), ("", False), ("YES", True)])
def test_on_a_terminal_somebody_is_asked(lab: Run, monkeypatch, capsys, answer: str, approved: bool) -> None:
    """After all that becomes final was shown; silence is no approval."""
    work = Workdir(lab.work)
    config = read_json(work.config)
    config["upload"]["server"] = "playground"
    write_text(work.config, to_json(config))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    shown = []
    monkeypatch.setattr("builtins.input", lambda text: shown.append(capsys.readouterr().out + text) or answer)
    assert main(["-d", str(lab.work), "approve", "alpha"]) == (0 if approved else 1)
    assert "title        alpha" in shown[0]
    assert "cannot be changed or taken back" in shown[0]
    [manifest] = to_approve(work, config, PLAYGROUND, ["alpha"])
    assert is_approved(work, PLAYGROUND, manifest) == approved


def test_all_that_becomes_final_is_shown_and_bound(lab: Run) -> None:
    work = Workdir(lab.work)
    config = read_json(work.config)
    [before] = to_approve(work, config, PLAYGROUND, ["alpha"])
    path = work.datasets / "alpha" / TASK_NAME
    task = read_json(path)
    more = {"notes": "Two\nlines", "doi": "10.1/2", "references": "https://a.b", "tags": [{"name": "blood"}]}
    task["dataset_dict"] |= more
    write_text(path, to_json(task))
    group = next(
        g for g in read_json(work.state / "plan.json")["groups"] if "alpha" in work.settled(g).read_text()
    )
    settled = read_json(work.settled(group))
    settled["datasets"][0]["private"] = [["m", "one.rtdc", "logs/a:1", "user", "jdoe", "1", verdict]
                                         for verdict in ("warned", "accepted")]  # fmt: skip
    settled["datasets"][0]["warnings"] = ["something odd"]
    write_text(work.settled(group), to_json(settled))
    [after] = to_approve(work, config, PLAYGROUND, ["alpha"])
    told = describe(after, PLAYGROUND)
    for words in ("Two lines", "10.1/2", "https://a.b", "blood", "PRIVATE TEXT 1 place,", "something odd"):
        assert words in told
        assert words not in describe(before, PLAYGROUND)
    assert after.digest != before.digest
