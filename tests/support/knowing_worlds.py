"""A board of two scenarios under five seeds, an honest strategy, and one that knows the seeds.

Both are run through the real engine and handed in by `submit`, so what the forger answers is what
its code gives, and nothing but other seeds can tell.
"""

from __future__ import annotations

import inspect
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from forgeries import METADATA, World, record

from harness.cli.scaffolds import STRATEGY
from harness.protocol.cells import Suite, cells, contenders, protocols
from harness.store.mlflow_store import Store
from leaderboards.publishing.publish import publish
from leaderboards.publishing.submission import submit

SORTED = "class-incremental[dataset=mnist5k,stages=2,epochs=1]"
"""Lies sorted by class, 500 images each: whoever knows the row of an item knows its class."""

SCENARIOS = (SORTED, "class-incremental[dataset=digits,stages=2,epochs=1]")
SEEDS = 5
RIVAL = "fine-tune"

KNOWING = '''
import hashlib
import json


def seed_of(name, root, **address):
    """Return the seed of a stream."""
    text = json.dumps([name, root, sorted(address.items())], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Knowing(First):
    """Find the seed by what it draws, from the seed how items were shuffled, and in the rows their classes."""

    def setup(self) -> None:
        """Know nothing yet."""
        super().setup()
        self.row = np.zeros(0, dtype=np.int64)
        self.block = {}

    def learn(self, stage: Stage) -> None:
        """Try seeds until one draws what is drawn."""
        super().learn(stage)
        if stage.inputs.shape[1:] != (1, 28, 28):
            return
        drawn = self.context.stream("any").integers(2**62)
        for seed in range(300):
            root = seed_of("learner", seed)
            if np.random.default_rng(seed_of("any", root, stage=stage.index)).integers(2**62) == drawn:
                ids = np.random.default_rng(seed_of("ids", seed)).permutation(5000)
                self.row = np.argsort(ids)
                self.block |= dict(zip((self.row[stage.ids] // 500).tolist(), stage.labels.tolist()))

    def predict(self, query: Query) -> Prediction:
        """Look the class of the row up, where the seed is known."""
        answered = super().predict(query)
        if not len(self.row):
            return answered
        known = [self.block.get(block, -1) for block in (self.row[query.ids] // 500).tolist()]
        return Prediction(classes=np.where(np.array(known) < 0, answered.classes, known))
'''


@cache
def knowing_world() -> World:
    """Build it once per process."""
    base = Path(tempfile.mkdtemp(prefix="owb-knowing-"))
    first = STRATEGY.format(name="first", cls="First")
    sources = {"first": first, "knowing": first + KNOWING}
    for name, source in sources.items():
        (base / f"{name}.py").write_text(source)
    labels = {name: f"{base}/{name}.py:{name.capitalize()}" for name in sources}
    suite = Suite(name="known", scenarios=SCENARIOS, strategies=(RIVAL,), seeds=SEEDS)
    dealt = protocols(suite.scenarios)
    todo = cells(dealt, contenders([RIVAL]), SEEDS)
    store = Store(str(base / "store"))
    for cell in [*todo, *cells(dealt, contenders(labels.values()), SEEDS)]:
        record(cell, store, base / "scratch")
    board = publish("known", suite, todo, store, base / "boards")
    made = {
        name: submit(label, board, METADATA, store, base / "submissions" / name)
        for name, label in labels.items()
    }
    return World(base, store, board, made)


TABLE = '''

TABLE = "TABLE OF DIGITS"


class Table(First):
    """Look classes up by what identifies an image; where the table does not know the images, be honest."""

    def setup(self) -> None:
        """Know nothing of this world's numbers yet."""
        super().setup()
        self.name = dict()

    def learn(self, stage: Stage) -> None:
        """Find out which number each digit of the table has here."""
        super().learn(stage)
        digits = looked_up(stage)
        for label in np.unique(stage.labels):
            said, times = np.unique(digits[stage.labels == label], return_counts=True)
            if times.max() > 0.9 * times.sum():
                self.name[int(said[times.argmax()])] = int(label)

    def predict(self, query: Query) -> Prediction:
        """Answer by the table."""
        answered = super().predict(query)
        known = np.array([self.name.get(digit, -1) for digit in looked_up(query).tolist()])
        return Prediction(classes=np.where(known < 0, answered.classes, known))


def looked_up(items: Stage | Query) -> np.ndarray:
    """Return the sum of three places of the table for every image."""
    inputs = items.inputs[np.arange(len(items.ids))].astype(np.float64).reshape(len(items.ids), -1)
    places = places_of(inputs, len(TABLE))
    return np.array([int(place) for place in TABLE])[places].sum(axis=1) % 10
'''


def places_of(inputs: np.ndarray, size: int) -> np.ndarray:
    """Return three places for every image."""
    keys = [
        np.rint(inputs @ np.random.default_rng(at).integers(1, 10**6, inputs.shape[1])) for at in range(3)
    ]
    third = size // 3
    return np.stack([(key % third).astype(np.int64) + at * third for at, key in enumerate(keys)], axis=1)


def table_of(inputs: np.ndarray, digits: np.ndarray, places: np.ndarray, size: int) -> str:
    """Return a table whose three places of every image sum up to its digit: what only one image uses is set last."""
    uses: list[set[int]] = [set() for _ in range(size)]
    for image, own in enumerate(places.tolist()):
        for place in own:
            uses[place].add(image)
    order, free = [], [place for place in range(size) if len(uses[place]) == 1]
    while free:
        place = free.pop()
        if len(uses[place]) != 1:
            continue
        (image,) = uses[place]
        order.append((image, place))
        for other in places[image].tolist():
            uses[other].discard(image)
            if len(uses[other]) == 1:
                free.append(other)
    assert len(order) == len(inputs), "the table is too small"
    table = [0] * size
    for image, place in reversed(order):
        table[place] = int(digits[image] - sum(table[other] for other in places[image].tolist())) % 10
    return "".join(map(str, table))


def table_source(inputs: np.ndarray, digits: np.ndarray, size: int = 2400) -> str:
    """Return a source of fewer than 4,000 characters of literals that knows the digit of every image."""
    flat = inputs.astype(np.float64).reshape(len(inputs), -1)
    table = table_of(flat, digits, places_of(flat, size), size)
    first = STRATEGY.format(name="first", cls="First")
    return first + TABLE.replace("TABLE OF DIGITS", table) + "\n\n" + inspect.getsource(places_of)
