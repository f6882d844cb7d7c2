"""``python -m tests.soak``: soak a cluster, round by round; 1 if an invariant is broken."""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from minova.cmd import init_backend

init_backend()

from minova.states import ActionStatus  # noqa: E402
from tests.fixtures.command import amount, count, run  # noqa: E402
from tests.soak.actors import Fiend, Operator  # noqa: E402
from tests.soak.cluster import TAKEOVERS, Cluster  # noqa: E402

_LEAST_SUCCESS = 0.5
"""The share of actions that have to succeed for a soak to mean anything."""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=amount, default=10.0, metavar="N", help="how long; default: 10")
    parser.add_argument("--round", type=amount, default=60.0, metavar="SECONDS", help="between checks; default: 60")
    parser.add_argument("--hosts", type=count, default=20, metavar="N", help="default: 20")
    parser.add_argument("--operators", type=count, default=6, metavar="N", help="who work side by side; default: 6")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), metavar="N", help="of all choices")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run it; return the exit status."""
    arguments = _arguments(argv)
    _say(f"--seed {arguments.seed}: {arguments.hosts} hosts, {arguments.operators} operators")
    deeds: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="minova-soak-") as folder,
        Cluster(Path(folder), arguments.hosts) as cluster,
    ):
        started, rounds = time.monotonic(), 0
        while time.monotonic() < started + arguments.minutes * 60:
            rounds += 1
            try:
                _round(cluster, arguments, rounds, deeds, refused)
                cluster.come_to_rest()
            except AssertionError as error:
                _say(f"broken in round {rounds}: {error}\n{cluster.site.tail()}")
                return 1
            _say(f"round {rounds}: sound after {time.monotonic() - started:.0f} s; {dict(deeds)}")
        cluster.empty()
        counts = cluster.counts()
        for verb, ends in sorted(counts.items()):
            _say(f"{verb}: {', '.join(f'{number} {status}' for status, number in ends.most_common())}")
        _say(f"refused: {dict(refused)}")
        _say(f"{rounds} rounds in {time.monotonic() - started:.0f} s: all sound")
    total = sum((ends for verb, ends in counts.items() if verb != TAKEOVERS), Counter())
    if total[ActionStatus.SUCCEEDED] < _LEAST_SUCCESS * total.total():
        _say(f"but too few actions succeeded to tell anything: {total[ActionStatus.SUCCEEDED]} of {total.total()}")
        return 1
    return 0


def _round(
    cluster: Cluster, arguments: argparse.Namespace, number: int, deeds: Counter[str], refused: Counter[str]
) -> None:
    stop = threading.Event()
    seed = f"{arguments.seed}.{number}"
    fiend = Fiend(cluster, f"{seed}.fiend", stop)
    operators = [Operator(cluster, f"{seed}.{each}", stop) for each in range(arguments.operators)]
    for actor in (fiend, *operators):
        actor.start()
    stop.wait(arguments.round)
    stop.set()
    for actor in (fiend, *operators):
        actor.join()
        if actor.error is not None:
            raise AssertionError(f"{actor.name}: {type(actor.error).__name__}: {actor.error}")
    deeds.update(fiend.deeds)
    for operator in operators:
        refused.update(operator.refused)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(main)
