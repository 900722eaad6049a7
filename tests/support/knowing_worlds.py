"""A board of two scenarios under five seeds, an honest strategy, and one that knows the seeds.

Both are run through the real engine and handed in by `submit`, so what the forger answers is what
its code gives, and nothing but other seeds can tell.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from forgeries import METADATA, World, record

from harness.cli.new import STRATEGY
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
