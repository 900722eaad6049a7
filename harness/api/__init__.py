"""The harness from Python: run cells, load what was recorded, look at results as rankings and data frames."""

from collections.abc import Sequence

DEFAULT_SCENARIO = "class-incremental"
"""What strategies run on where no scenario is named, and their family has none."""


def default_scenario(strategies: Sequence[str]) -> str:
    """Return the scenario that is called as the folder of these strategies, or of what they subclass;
    `DEFAULT_SCENARIO` where there is none, or several.

    Raises:
        UserError: a strategy that is not there.
    """
    from harness.plugins import find, registered
    from harness.syntax import expand

    scenarios, homes = registered("scenario"), set()
    for selection in (each for text in strategies for each in expand(text)):
        folders = [
            folder.replace("_", "-")
            for part in find("strategy", selection.name).cls.__mro__
            for folder in part.__module__.split(".")[:-1]
        ]
        homes.add(next((folder for folder in folders if folder in scenarios), DEFAULT_SCENARIO))
    return homes.pop() if len(homes) == 1 else DEFAULT_SCENARIO


__all__ = ["DEFAULT_SCENARIO", "default_scenario"]
