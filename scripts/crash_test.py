#!/usr/bin/env python3
"""Kill runs of the workflow at random moments, start them again, and compare with undisturbed ones.

    crash_test.py [--trials 100] [--seed N] [--small] [--source FOLDER] [--stage NAME] [--kill NAME]

Each trial lays out a work directory, starts the plain command, and kills at a random operation on a
file of a random stage, or up to 0.2 s after it: the head, a job, a worker, all processes, or the power
of the disk. Nothing counts that hit nothing. The same command is then started again, and everything
must be as after an undisturbed run: SHA256 of all results, nothing made again whose record held,
nothing left over, exit code 0, nothing left to do. Uploads go to a DCOR server that is started here;
then it must hold exactly one dataset for each task, with the same files, and there must be receipts.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crash_disk import Disk
from crash_run import KINDS, Bench, Scenario, Trial, as_json
from crash_server import Server
from demo_data import set_times, write_measurement, write_tree

#: What is killed when: a scenario, its stage, and the kind of kill.
Combination = tuple[Scenario, str, str]
STAGES = ("head", "discover", "compress", "check", "merge_metadata", "task", "upload", "handlers")


@contextmanager
def bench(args: argparse.Namespace) -> Iterator[Bench]:
    """Give a place for trials, with measurements; say so where there is no disk to cut the power of."""
    with tempfile.TemporaryDirectory(prefix="crash-", dir=args.place) as name:
        folder = Path(name)
        if args.small:
            for number in range(3):
                write_measurement(folder / "source" / f"day{number % 2}" / f"M{number}_data.rtdc", 20, number)
            set_times(folder / "source")
        else:
            write_tree(folder / "source", scale=0.1)
            (folder / "source" / "dcorflow.yaml").write_text("accept_incomplete: yes\n")
        disk = server = None
        try:
            disk = Disk(folder / "disk.img", folder / "disk")
        except OSError as error:
            print(f"no power loss here: {error}", flush=True)
        made = None
        try:
            if "upload" in args.stage:
                server = started(folder)
            roots = [folder / "source", *(s.resolve() for s in args.source)]
            made = Bench(folder, roots, disk, server)
            yield made
        finally:
            for thing in filter(None, (made and made.watch, disk, server)):
                thing.remove()


def started(folder: Path) -> Server | None:
    """Start a server; say so where that cannot be done."""
    try:
        folder.chmod(0o711)  # the database runs as a user of its own
        return Server(folder / "server")
    except OSError as error:
        print(f"no uploads here: {error}", flush=True)
        return None


def scenarios(made: Bench, stages: list[str]) -> list[Scenario]:
    """Run what is killed later once undisturbed; a settled work directory is the base of later ones."""
    first = Scenario("first run", None, {}, ("discover", "compress", "check"))
    made.reference(first)
    base = first.expected
    override = {"metadata": {"override": {"setup:medium": "water"}}}
    edit = Scenario("values edited", base, override, ("merge_metadata",))
    check = {"check": {"on_violation": "exclude"}}
    policy = Scenario("policy changed", base, check, ("head", "discover", "task", "handlers"))
    found = [first, edit, policy]
    if made.server:
        upload = {"server": made.server.url, "activate": "all", "settle": 0}
        found.append(Scenario("upload", base, {"upload": upload}, ("upload",), upload=True))
    found = [scenario for scenario in found if set(scenario.stages) & set(stages)]
    for scenario in found:
        if scenario is not first:
            made.reference(scenario)
    return found


def combinations(found: list[Scenario], stages: list[str], kinds: list[str]) -> list[Combination]:
    """Return each stage with each kind of kill that can hit it."""
    whole = {"job": ("head", "handlers"), "worker": ("head", "handlers", "discover", "task", "upload")}
    return [
        (scenario, stage, kill)
        for scenario in found
        for stage in scenario.stages
        for kill in kinds
        if stage in stages and stage not in whole.get(kill, ())
    ]


def in_turn(found: list[Combination]) -> list[Combination]:
    """Return combinations in an order in which all stages come before one comes again."""
    before: Counter[tuple[str, str]] = Counter()
    rounds = []
    for scenario, stage, _ in found:
        before[scenario.name, stage] += 1
        rounds.append(before[scenario.name, stage])
    return [found[n] for n in sorted(range(len(found)), key=rounds.__getitem__)]


def trials(made: Bench, args: argparse.Namespace) -> Iterator[Trial]:
    """Do trials, stages and kinds in turn, moments at random."""
    chance = random.Random(args.seed)
    kinds = [k for k in args.kill if k != "power" or made.disk]
    todo = combinations(scenarios(made, args.stage), args.stage, kinds)
    order: list[Combination] = []
    done = misses = 0
    while done < args.trials:
        if not order:
            order = in_turn(chance.sample(todo, len(todo)))
        scenario, stage, kill = order.pop(0)
        moment = scenario.moment(stage, chance)
        while kill == "worker" and not moment.kind.endswith("worker"):
            moment = scenario.moment(stage, chance)
        trial = made.trial(scenario, moment, kill, at_once=chance.random() < 0.5)
        if trial is None:
            misses += 1
            if misses > 20 + args.trials:
                raise SystemExit("the moments come too late again and again")
            order.insert(0, (scenario, stage, kill))
            continue
        done += 1
        yield trial


def table(done: list[Trial]) -> str:
    """Return stage by kind of kill: how many of how many trials ended as an undisturbed run."""
    all_of = Counter((t.moment.stage, t.kill) for t in done)
    good = Counter((t.moment.stage, t.kill) for t in done if not t.problems)
    kinds = [k for k in KINDS if any(kill == k for _, kill in all_of)]
    lines = ["| stage | " + " | ".join(kinds) + " |", "| --- |" + " --- |" * len(kinds)]
    for stage in STAGES:
        cells = [f"{good[stage, k]} of {all_of[stage, k]}" if all_of[stage, k] else "" for k in kinds]
        if any(cells):
            lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the command line; exit code 1 where a trial ended otherwise than an undisturbed run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--source", type=Path, action="append", default=[], help="more measurements")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only these")
    parser.add_argument("--kill", choices=KINDS, action="append", help="only these")
    parser.add_argument("--small", action="store_true", help="three measurements instead of the demo tree")
    parser.add_argument("--place", type=Path, help="folder to work in (default: that for temporary files)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take the disk away, too
    args.stage, args.kill = args.stage or list(STAGES), args.kill or list(KINDS)
    print(f"seed {args.seed}, {args.trials} trials", flush=True)
    begun, done = time.monotonic(), []
    with bench(args) as made:
        for trial in trials(made, args):
            done.append(trial)
            print(as_json(trial), flush=True)
    bad = sum(bool(t.problems) for t in done)
    print(f"\n{table(done)}\n\n{len(done)} kills in {time.monotonic() - begun:.0f} s, {bad} ended otherwise")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
