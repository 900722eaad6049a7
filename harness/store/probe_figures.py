"""What probes gave for a cell, beside its record: figures by probe, and what the learner showed where that was kept.

`probes/KEY.json` and `probes/KEY-MOMENTS.npz` below the folder of a store. Files are written whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.cell.looks import Shown

FOLDER = "probes"
Figures = dict[str, list[tuple[int, int, float]]]
"""Rows of stage, step and value, by the name of the figure."""

_ARRAYS = ("ids", "given", "features", "logits", "head", "bias")


class Ledger:
    """What is kept of one cell for looks at the moments `at`."""

    def __init__(self, store: Path, key: str, at: str) -> None:
        """Take the folder of a store and the key of the cell."""
        self.at = at
        self._file = store / FOLDER / f"{key}.json"
        self._archive = store / FOLDER / f"{key}-{hashlib.sha256(at.encode()).hexdigest()[:12]}.npz"

    def identities(self) -> set[str]:
        """Return the probes whose figures are there."""
        return set(self._read()["figures"].get(self.at, {}))

    def curves(self, identities: Collection[str]) -> Figures:
        """Return the figures of these probes, but those that did not apply at any look."""
        kept = self._read()["figures"].get(self.at, {})
        return {
            name: [(stage, step, math.nan if value is None else value) for stage, step, value in rows]
            for identity in kept
            if identity in identities
            for name, rows in kept[identity].items()
            if any(value is not None for _, _, value in rows)
        }

    def add(self, figures: Mapping[str, Mapping[str, Sequence[tuple[int, int, float]]]]) -> None:
        """Keep figures by probe."""
        content = self._read()
        content["figures"].setdefault(self.at, {}).update(
            {
                identity: {
                    name: [
                        [stage, step, value if math.isfinite(value) else None] for stage, step, value in rows
                    ]
                    for name, rows in own.items()
                }
                for identity, own in figures.items()
            }
        )
        self._write(content)

    def recorded(self, run_id: str) -> set[str]:
        """Return the probes whose figures a run has."""
        return set(self._read()["runs"].get(run_id, {}).get(self.at, []))

    def note(self, run_id: str, identities: Iterable[str]) -> None:
        """Note that a run has the figures of these probes."""
        content = self._read()
        own = content["runs"].setdefault(run_id, {})
        own[self.at] = sorted({*own.get(self.at, []), *identities})
        self._write(content)

    def keep(self, shown: Sequence[Shown]) -> None:
        """Keep what a learner showed."""
        arrays: dict[str, Any] = {}
        said = []
        for place, each in enumerate(shown):
            plain = each.plain()
            arrays |= {f"{place}.{name}": plain[name] for name in _ARRAYS if plain[name] is not None}
            said.append({name: plain[name] for name in plain if name not in (*_ARRAYS, "figures")})
        self._archive.parent.mkdir(parents=True, exist_ok=True)
        there = self._archive.with_name(f".{self._archive.name}-{os.getpid()}")
        with there.open("wb") as file:
            np.savez_compressed(file, said=np.array(json.dumps(said)), **arrays)
        there.replace(self._archive)

    def shown(self) -> list[Shown]:
        """Return what was kept, nothing where there is none."""
        if not self._archive.is_file():
            return []
        with np.load(self._archive, allow_pickle=False) as file:
            said = json.loads(str(file["said"]))
            return [
                Shown(**one, **{name: file[f"{at}.{name}"] for name in _ARRAYS if f"{at}.{name}" in file})
                for at, one in enumerate(said)
            ]

    def drawn(self) -> set[tuple[str, int]]:
        """Return the groups of items that were kept, and how many were drawn."""
        if not self._archive.is_file():
            return set()
        with np.load(self._archive, allow_pickle=False) as file:
            return {(one["group"], one["items"]) for one in json.loads(str(file["said"]))}

    def _read(self) -> dict[str, Any]:
        """Return what is kept; nothing where the file is damaged: what it had is worked out again."""
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        parts = ("figures", "runs")
        is_whole = isinstance(content, dict) and all(isinstance(content.get(part), dict) for part in parts)
        return content if is_whole else {part: {} for part in parts}

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        there = self._file.with_name(f".{self._file.name}-{os.getpid()}")
        there.write_text(json.dumps(content), encoding="utf-8")
        there.replace(self._file)


__all__ = ["FOLDER", "Figures", "Ledger"]
