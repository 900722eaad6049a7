"""Which class is taken for which: published maps, groups of classes within which labels move, and both read
from text.

Numbers are those of the data set. Sources: Patrini et al. 2017 ("loss correction") for MNIST and CIFAR-10,
whose map ELR, nested co-teaching, DivideMix and SPR share.
"""

from __future__ import annotations

from harness.contracts import IntArray
from harness.errors import UserError, unknown

MAPS: dict[str, tuple[int, dict[int, int]]] = {
    "cifar10": (
        10,
        {9: 1, 2: 0, 3: 5, 5: 3, 4: 7},
    ),  # truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse
    "mnist": (10, {7: 1, 2: 7, 3: 8, 5: 6, 6: 5}),
}
"""Name -> how many classes the data set has, and the class that each source is taken for."""

CIFAR100_SUPERCLASS = (
    4,
    1,
    14,
    8,
    0,
    6,
    7,
    7,
    18,
    3,
    3,
    14,
    9,
    18,
    7,
    11,
    3,
    9,
    7,
    11,
    6,
    11,
    5,
    10,
    7,
    6,
    13,
    15,
    3,
    15,
    0,
    11,
    1,
    10,
    12,
    14,
    16,
    9,
    11,
    5,
    5,
    19,
    8,
    8,
    15,
    13,
    14,
    17,
    18,
    10,
    16,
    4,
    17,
    4,
    2,
    0,
    17,
    4,
    18,
    17,
    10,
    3,
    2,
    12,
    12,
    16,
    12,
    1,
    9,
    19,
    2,
    10,
    0,
    1,
    16,
    12,
    9,
    13,
    15,
    13,
    16,
    19,
    2,
    4,
    6,
    19,
    5,
    5,
    8,
    19,
    18,
    1,
    2,
    15,
    6,
    0,
    17,
    8,
    14,
    13,
)
"""The superclass (0 to 19) of each of the 100 fine classes of CIFAR-100, five each (Krizhevsky 2009)."""


def class_map(text: str, class_numbers: IntArray) -> dict[int, int]:
    """Return source -> target, as positions in `class_numbers`, from a published name or from `9>1/2>0`.

    Args:
        text: the name of a map, or pairs of the data set's class numbers.
        class_numbers: int64 (K,) the numbers of the classes that take part, ascending.

    Raises:
        UserError: not readable, a class mapped to itself or twice, or classes that do not take part.
    """
    if ">" in text:
        pairs = _pairs(text)
    elif text in MAPS:
        size, pairs = MAPS[text]
        if len(class_numbers) != size or class_numbers[-1] != size - 1:
            raise UserError(
                f"map={text} is about classes 0 to {size - 1}, here are {len(class_numbers)} classes up to "
                f"{class_numbers[-1]}"
            )
    else:
        raise unknown("class map", text, MAPS, f"{', '.join(MAPS)}, or pairs such as 9>1/2>0")
    position = {int(number): place for place, number in enumerate(class_numbers)}
    missing = sorted({*pairs, *pairs.values()} - position.keys())
    if missing:
        raise UserError(
            f"map={text} names class {missing[0]}, which is not among the {len(class_numbers)} classes with labels"
        )
    return {position[source]: position[target] for source, target in pairs.items()}


def _pairs(text: str) -> dict[int, int]:
    pairs: dict[int, int] = {}
    for part in text.split("/"):
        source, arrow, target = part.partition(">")
        if not arrow or not source.strip().isdecimal() or not target.strip().isdecimal():
            raise UserError(f"cannot read {part!r} in map={text}: expected SOURCE>TARGET, such as 9>1/2>0")
        if int(source) == int(target):
            raise UserError(f"map={text} takes class {int(source)} for itself")
        if int(source) in pairs:
            raise UserError(f"map={text} says twice what class {int(source)} is taken for")
        pairs[int(source)] = int(target)
    return pairs


def next_in_group(groups: str, size: int, class_numbers: IntArray) -> dict[int, int]:
    """Return source -> target where each class is taken for the next one of its group, the last for the
    first; as positions.

    Args:
        groups: `consecutive` blocks of class numbers, or the `superclass` of CIFAR-100.
        size: classes in a consecutive block.
        class_numbers: int64 (K,) the numbers of the classes that take part, ascending.

    Raises:
        UserError: the classes do not fall into whole groups.
    """
    if groups == "superclass":
        if list(class_numbers) != list(range(len(CIFAR100_SUPERCLASS))):
            raise UserError(
                "groups=superclass are those of CIFAR-100's classes 0 to 99, here are "
                f"{len(class_numbers)} classes up to "
                f"{class_numbers[-1]}"
            )
        group = [CIFAR100_SUPERCLASS[number] for number in class_numbers]
    else:
        if len(class_numbers) % size:
            raise UserError(f"{len(class_numbers)} classes do not fall into groups of {size}")
        group = [place // size for place in range(len(class_numbers))]
    members: dict[int, list[int]] = {}
    for place, name in enumerate(group):
        members.setdefault(name, []).append(place)
    return {place: own[(at + 1) % len(own)] for own in members.values() for at, place in enumerate(own)}
