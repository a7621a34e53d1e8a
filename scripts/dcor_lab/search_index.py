"""The search index of the local DCOR: the few requests that CKAN sends to Solr, answered from memory.

`search_index.py PORT SCHEMA_XML`; knows schema, update (add, delete by query) and select with queries
in Lucene's syntax as CKAN writes them: fields, phrases, ranges, wildcards, AND, OR, NOT, parentheses.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

Document = dict[str, Any]
Test = Callable[[Document], bool]
Parameters = dict[str, list[str]]

#: Fields that Solr splits into words; all others are whole strings.
WORDS = re.compile(r"text|title|notes|author|urls|.*_ngram|res_name|res_description|(res_)?extras_.*")
#: What the field `text` is made of.
IN_TEXT = re.compile(r"name|title|notes|tags|groups|organization|license|res_\w+|author|.*extras_.*|vocab_.*")
TOKEN = re.compile(
    r"""\s*(?:(?P<op>&&|\|\||AND\b|OR\b|NOT\b|[()+!-])
    |(?P<field>(?:\\.|[\w.*-])+):
    |"(?P<phrase>(?:\\.|[^"\\])*)"(?:[~^][\d.]*)?
    |[\[{](?P<low>\S+)\s+TO\s+(?P<high>[^\]}\s]+)[\]}]
    |(?P<term>(?:\\.|[^\s()"\\])+?)(?:\^[\d.]+)?(?=[\s)]|$))""",
    re.VERBOSE,
)


def values(document: Document, field: str) -> list[str]:
    """Return what a document holds in a field, as text."""
    if field == "text":
        return [v for key in document if IN_TEXT.fullmatch(key) for v in values(document, key)]
    found = document.get(field)
    listed = found if isinstance(found, list) else [found]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in listed if v is not None]


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def range_test(field: str, low: str, high: str) -> Test:
    """Return a test whether a value lies between two others; `*` is no limit."""

    def test(document: Document) -> bool:
        inside = (
            (low in ("*", min(low, v))) and (high in ("*", max(high, v))) for v in values(document, field)
        )
        return any(inside)

    return test


def phrase_test(field: str, phrase: str) -> Test:
    """Return a test for words in a row, or for the whole value of a plain field."""
    if not WORDS.fullmatch(field):
        return lambda document: phrase in values(document, field)
    wanted = f" {' '.join(words(phrase))} "
    return lambda document: any(wanted in f" {' '.join(words(v))} " for v in values(document, field))


def term_test(field: str, term: str) -> Test:
    """Return a test for a single term."""
    if field == "*" and term == "*":
        return lambda document: True
    if "*" in term or "?" in term:
        return lambda document: any(
            fnmatch.fnmatchcase(w, term.lower())
            for v in values(document, field)
            for w in [v.lower(), *words(v)]
        )
    if not WORDS.fullmatch(field):
        return lambda document: term in values(document, field)
    wanted = set(words(term))
    return lambda document: any(wanted <= set(words(v)) for v in values(document, field))


class Query:
    """A query in Lucene's syntax; what stands side by side must all be true, which CKAN asks for."""

    def __init__(self, text: str) -> None:
        self.tokens, self.at, start = [], 0, 0
        text = text.strip()
        while start < len(text):
            match = TOKEN.match(text, start)
            if not match:
                raise ValueError(f"cannot read '{text}' at {start}")
            self.tokens.append(match)
            start = match.end()

    def test(self) -> Test:
        """Return the test that the whole query stands for."""
        test = self._any_of("text")
        if self.at != len(self.tokens):
            raise ValueError("cannot read the query: a parenthesis too many")
        return test

    def _next(self, *operators: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at]["op"] in operators
        self.at += found
        return found

    def _any_of(self, field: str) -> Test:
        tests = [self._all_of(field)]
        while self._next("OR", "||"):
            tests.append(self._all_of(field))
        return lambda document: any(test(document) for test in tests)

    def _all_of(self, field: str) -> Test:
        tests: list[Test] = []
        while self.at < len(self.tokens) and self.tokens[self.at]["op"] not in (")", "OR", "||"):
            if not self._next("AND", "&&", "+"):
                tests.append(self._one(field))
        return lambda document: all(test(document) for test in tests)

    def _one(self, field: str) -> Test:
        if self._next("-", "!", "NOT"):
            inner = self._one(field)
            return lambda document: not inner(document)
        token = self.tokens[self.at]
        self.at += 1
        if token["field"] is not None:
            return self._one(token["field"].replace("\\", ""))
        if token["op"] == "(":
            inner = self._any_of(field)
            if not self._next(")"):
                raise ValueError("cannot read the query: a parenthesis is missing")
            return inner
        if token["low"] is not None:
            return range_test(field, token["low"].strip('"'), token["high"].strip('"'))
        if token["phrase"] is not None:
            return phrase_test(field, re.sub(r"\\(.)", r"\1", token["phrase"]))
        return term_test(field, re.sub(r"\\(.)", r"\1", token["term"]))


class Index:
    """All documents, by their id."""

    def __init__(self, schema: bytes) -> None:
        self.schema = schema
        self.documents: dict[str, Document] = {}
        self.lock = threading.Lock()

    def update(self, body: bytes, is_json: bool) -> dict[str, Any]:
        """Add documents (JSON), or delete those that a query finds (XML)."""
        with self.lock:
            if is_json:
                self.documents |= {made["index_id"]: made for made in json.loads(body)}
            else:
                for query in ElementTree.fromstring(body).iter("query"):
                    test = Query(query.text or "").test()
                    self.documents = {k: d for k, d in self.documents.items() if not test(d)}
        return {"responseHeader": {"status": 0, "QTime": 0}}

    def select(self, asked: Parameters) -> dict[str, Any]:
        """Return the documents that fit, sorted, and how often values occur."""

        def first(name: str, default: str) -> str:
            return asked.get(name, [default])[0]

        query = first("q", "*:*")
        if first("defType", "").endswith("dismax") and query != "*:*" and ":" not in query:
            tests = [phrase_test("text", word) for word in words(query)]
        else:
            tests = [Query(query).test()]
        tests += [Query(text).test() for text in asked.get("fq", []) if text.strip()]
        with self.lock:
            hits = [d for d in self.documents.values() if all(test(d) for test in tests)]
        for order in reversed(first("sort", "").split(",")):
            field, _, direction = order.strip().partition(" ")
            if field and field != "score":
                hits.sort(key=lambda d: values(d, field)[:1], reverse=direction.strip() == "desc")
        start, rows = int(first("start", "0")), int(first("rows", "10"))
        shown = re.split(r"[,\s]+", first("fl", "*"))
        made = [d if "*" in shown else {k: d[k] for k in shown if k in d} for d in hits[start : start + rows]]
        facets: dict[str, list[Any]] = {}
        if first("facet", "false").lower() == "true":
            limit = int(first("facet.limit", "100"))
            for field in asked.get("facet.field", []):
                count = Counter(v for d in hits for v in set(values(d, field)))
                top = count.most_common(limit if limit >= 0 else None)
                facets[field] = [part for pair in top for part in pair]
        return {
            "responseHeader": {"status": 0, "QTime": 0},
            "response": {"numFound": len(hits), "start": start, "docs": made},
            "facet_counts": {"facet_queries": {}, "facet_fields": facets},
        }


class Handler(BaseHTTPRequestHandler):
    """Answers CKAN."""

    protocol_version = "HTTP/1.1"
    index: Index

    def do_GET(self) -> None:
        """Answer a request of any kind; Solr takes queries by GET and POST alike."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        action = url.path.rstrip("/").rpartition("/")[2]
        if action == "schema":
            self.reply(200, self.index.schema, "text/xml")
            return
        try:
            if action == "select":
                query = f"{url.query}&{body.decode()}" if "form" in kind else url.query
                self.reply(200, json.dumps(self.index.select(parse_qs(query))).encode())
            elif action == "update":
                self.reply(200, json.dumps(self.index.update(body, "json" in kind)).encode())
            else:
                self.reply(404, b"{}")
        except (ValueError, KeyError, IndexError) as error:
            self.reply(400, json.dumps({"error": {"msg": repr(error), "code": 400}}).encode())

    do_POST = do_GET

    def reply(self, code: int, body: bytes, kind: str = "application/json") -> None:
        """Send an answer."""
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


if __name__ == "__main__":
    Handler.index = Index(Path(sys.argv[2]).read_bytes())
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
