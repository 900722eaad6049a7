"""A cell in this very process: no worker, no limits, no record, so that a debugger, `breakpoint()` and `print`
work.

The truth lies in the same process and nothing is stored: what comes out is for finding errors, and no figure to
report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from harness.cell.looks import Looks, Watcher
from harness.cell.probe_scorer import ProbeScorer
from harness.cell.run import run_cell, settings_of
from harness.cell.sealing import build
from harness.contracts import Scenario, Scores, Strategy, scorer_of
from harness.execution.machine import Machine


def run_in_process(
    strategy: Strategy,
    scenario: Scenario,
    seed: int,
    machine: Machine,
    *,
    reveal: bool = False,
    looks: Looks | None = None,
    listen: Callable[[int, Scores], None] = lambda stage, scores: None,
) -> Scores:
    """Learn and score one cell here; return its scores.

    Args:
        strategy: a fresh instance.
        scenario: what to deal from, under `seed`.
        machine: its device, precision and compilation; workers, threads and GPUs do not matter here.
        reveal: hand over every training label, as the scenario's upper bound gets them.
        looks: what is looked at for probes, whose curves are then among the scores.
        listen: told after every stage what was scored so far.

    Raises:
        Unsuitable: the strategy cannot take part.
        Exception: whatever the strategy raises, with the traceback of where it did.
    """
    sealed = build(scenario, seed, reveal=reveal)
    settings = machine.computing(settings_of(scenario, seed))
    scorer = scorer_of(scenario, sealed.truth)
    watcher = None if looks is None else Watcher(looks, root_seed=settings.root_seed)
    probes = None if looks is None else ProbeScorer(looks, sealed.truth, seed)

    def scores() -> Scores:
        return scorer.scores() if probes is None else probes.with_figures(scorer.scores())

    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    with tempfile.TemporaryDirectory(prefix="owb-debug-") as scratch, ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        for result in run_cell(strategy, sealed.episodes, settings, scratch=Path(scratch), watcher=watcher):
            if probes is not None:
                probes.add(result)
            for answer in result.answers:
                scorer.add(answer)
            listen(result.stage, scores())
    return scores()


__all__ = ["run_in_process"]
