"""Python runs this as it starts where code was sent (as `sitecustomize`): modules and distributions that lie beside
this file come before all others, wherever on the search path these lie; its front belongs to Ray.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  (of a few modules, and at every start)


class _Sent:
    """A finder of what was sent."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, [_HERE]) if path is None else None
        return found if found is not None and found.loader is not None else None

    @staticmethod
    def find_distributions(context: Any = None) -> Iterable[Any]:
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        name = getattr(context, "name", None)
        return MetadataPathFinder.find_distributions(DistributionFinder.Context(name=name, path=[_HERE]))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Sent)
