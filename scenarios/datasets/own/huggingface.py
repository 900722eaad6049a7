"""A data set of Hugging Face that is on this machine: as `save_to_disk` leaves it, as a folder of Parquet files
like those of the hub, or in the local cache by its name. Nothing is downloaded, and no code of a data set is run.

Reading is done by the library `datasets`, which is no part of a plain installation.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.contracts import Card, param
from harness.errors import UserError
from harness.places import below_data, cache_folder
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.own.base import Content, Labelling, hashes_of, own_card
from scenarios.datasets.own.class_columns import as_classes, without_none
from scenarios.datasets.own.columns import matching, matrix_of, text_column
from scenarios.datasets.own.marks import PARTS, Marks, column_of, marks_of, nearest
from scenarios.datasets.own.pictures import Pictures, Source
from scenarios.datasets.packaged import prepared

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_ORDER = ("train", "val", "test")
_BATCH = 256


class HuggingFace(Pictures):
    """Your data set of Hugging Face: saved to disk, a folder of Parquet files, or a name in the local cache."""

    kind: ClassVar[Card] = own_card(
        "A data set of Hugging Face on your disk",
        package="your own, read by datasets (openworld-bench[huggingface])",
        notes="As save_to_disk leaves it, Parquet files in the layout of the hub, or a name in the local cache. Never "
        "downloaded.",
    )
    usage: ClassVar[str] = "huggingface[path=FOLDER]"

    path: str = param(
        "", "folder, below OWB_DATA where that is set, or the name of a data set in the local cache"
    )
    config: str = param("", "configuration of a data set in the local cache; empty for its only one")
    image: str = param("", "column of pictures; empty for the only one there is")
    features: str = param(
        "", "columns of numbers, by name or as PREFIX*, several joined by +; instead of image"
    )
    label: str = param(
        "",
        "column with the classes; empty for the only column of classes beside given, or the one called label; where "
        "there is neither, given has all the labels there are",
    )
    given: str = param(
        "", "column with the labels that came with the items, some of them wrong; empty for none"
    )
    split: str = param("", "column that says train, val or test; empty for the data set's own splits")
    parts: str = param("", "which of the data set's splits, joined by +; empty for all")
    group: str = param(
        "", "column that is alike for items that must stay on one side of a split; empty for none"
    )

    def content(self) -> Content:
        """Return the items, those of train before those of val and test, each in the order of the rows."""
        with self._read() as (datasets, found):
            return self._content(datasets, found)

    def labelling(self) -> Labelling:
        """Return which columns of labels there are."""
        if not self.given:
            return super().labelling()
        with self._read() as (datasets, found):
            label = self._label(datasets, next(iter(found.values())).features)
        return Labelling(true=self.labels_are_true and bool(label), given=bool(label))

    @contextmanager
    def _read(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the library and the splits that are asked for."""
        if not self.path:
            raise UserError(f"say where your data are: {self.usage}")
        with _library(self.path) as datasets:
            yield datasets, self._chosen(_opened(datasets, self.path, self.config))

    def _label(self, datasets: Any, features: Mapping[str, Any]) -> str:
        """Return the column of classes; nothing where the given labels are all there are."""
        others = {name: kind for name, kind in features.items() if name != self.given}
        if self.label or (
            self.given
            and "label" not in others
            and not any(isinstance(kind, datasets.ClassLabel) for kind in others.values())
        ):
            return self.label
        return _only(others, datasets.ClassLabel, "label", self.path)

    def _content(self, datasets: Any, found: Mapping[str, Any]) -> Content:
        features = next(iter(found.values())).features
        label = self._label(datasets, features)
        marks = self._marks(found, label)
        starts = np.cumsum([0, *(len(part) for part in found.values())])

        def name(row: int) -> str:
            place = int(np.searchsorted(starts, row, side="right")) - 1
            part = [*found][place]
            return f"row {row - starts[place]} of {f'{part} in ' if part else ''}{self.path}"

        files = [Path(file["filename"]) for part in found.values() for file in part.cache_files]
        digest = sha256("\n".join([*found, *digests_of(files)]).encode()).hexdigest()
        if self.features:
            names = matching(
                self.features, [*features], self.path, [label, self.given, self.split, self.group]
            )
            values = matrix_of(_arrow(found, names), names, self.path)
            return Content(
                marks=marks,
                shape=values.shape[1:],
                digest=digest,
                inputs=lambda: values,
                name=name,
                hashes=lambda: hashes_of(values),
            )
        image = self.image or _only(features, datasets.Image, "image", self.path)
        if not isinstance(features.get(image), datasets.Image):
            kinds = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
            raise nearest(f"column of pictures in {self.path}", image, kinds)
        stored = [part.cast_column(image, datasets.Image(decode=False)) for part in found.values()]

        def source(row: int) -> Source:
            place = int(np.searchsorted(starts, row, side="right")) - 1
            held = stored[place][int(row - starts[place])][image]
            return Source(name(row), _bytes_of(held, name(row)))

        kept = prepared(
            "rows-of-huggingface",
            digest=sha256(f"{digest} {image}".encode()).hexdigest(),
            recipe=sys.modules[__name__],
            make=lambda: {"hashes": np.array(_hashes(stored, image, name), dtype=np.str_)},
        )
        return self.pictured(marks, [str(each) for each in kept["hashes"]], source)

    def _chosen(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the splits that are asked for, train first."""
        wanted = [part.strip() for part in self.parts.split("+") if part.strip()]
        for part in wanted:
            if part not in found:
                raise nearest(f"split of {self.path}", part, found)
        chosen = {part: found[part] for part in found if len(found[part]) and (part in wanted or not wanted)}
        if not chosen:
            raise UserError(f"{self.path} has no row")
        rank = {part: _ORDER.index(PARTS.get(part.lower(), "test")) for part in chosen}
        return dict(sorted(chosen.items(), key=lambda item: rank[item[0]]))

    def _marks(self, found: Mapping[str, Any], label: str) -> Marks:
        features = next(iter(found.values())).features
        roles = [name for name in (label, self.given, self.split, self.group) if name]
        for name in roles:
            if name not in features:
                raise nearest(f"column of {self.path}", name, features)
        table = _arrow(found, roles)
        split, group = (
            text_column(table, name, self.path) if name else None for name in (self.split, self.group)
        )
        if split is None and [*found] != [""]:
            parts = [part for part, rows in found.items() for _ in range(len(rows))]
            split = column_of(f"the splits of {self.path}", parts)
        labels, given = (
            without_none(text_column(table, name, self.path), features[name]) if name else None
            for name in (label, self.given)
        )
        names = getattr(features[label or self.given], "names", ())
        if labels is not None and given is not None:
            given = as_classes(given, features[self.given], names)
        return marks_of(labels, split, group, names, given=given, all_true=self.labels_are_true)


@contextmanager
def _library(path: str) -> Iterator[Any]:
    """Yield the library, which stays off the network; raise `UserError` where it is missing or does not read it."""
    try:
        import datasets
        from huggingface_hub import constants
    except ImportError:
        raise UserError(
            "data sets of Hugging Face are read by the package 'datasets', which is missing: pip install "
            "'openworld-bench[huggingface]'"
        ) from None
    before: list[tuple[Any, bool]] = [(place, place.HF_HUB_OFFLINE) for place in (datasets.config, constants)]
    for place, _ in before:
        place.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    try:
        yield datasets
    except UserError:
        raise
    except Exception as error:  # code of a library, on files of anybody
        raise UserError(
            f"datasets {datasets.__version__} does not read {path}: {' '.join(str(error).split())}"
        ) from error
    finally:
        for place, offline in before:
            place.HF_HUB_OFFLINE = offline


def _opened(datasets: Any, said: str, config: str) -> dict[str, Any]:
    """Return the splits of a data set by name; one without splits has the name ""."""
    folder = below_data(said)
    if not folder.is_dir():
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", said) is None:
            raise UserError(f"there is no folder {folder}: {HuggingFace.usage}")
        return dict(_cached(datasets, said, config))
    if (folder / "dataset_dict.json").is_file():
        return dict(datasets.load_from_disk(str(folder)))
    if (folder / "state.json").is_file():
        return {"": datasets.load_from_disk(str(folder))}
    files = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    if not files:
        raise UserError(f"{folder} is neither a data set that save_to_disk left, nor has it Parquet files")
    by_part: dict[str, list[str]] = {}
    for path in files:
        by_part.setdefault(_part_of(path.relative_to(folder)), []).append(str(path))
    if "" in by_part and len(by_part) > 1:
        raise UserError(
            f"{by_part[''][0]} has no name of a split in it, as other files there have: {', '.join(PARTS)}"
        )
    above = cache_folder()
    read = datasets.load_dataset(
        "parquet",
        data_files={part or "train": names for part, names in by_part.items()},
        cache_dir=str(above / "huggingface") if above else None,
    )
    return {part: read[part or "train"] for part in by_part}


def _cached(datasets: Any, name: str, config: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = datasets.load_dataset(name, config or None)
    except Exception as error:  # whatever it says of a network that it may not use
        raise UserError(
            f"there is no folder {below_data(name)}, and datasets finds no {name!r} in its local cache "
            f"({' '.join(str(error).split())[:200]}); nothing is downloaded: save it first, by "
            f"datasets.load_dataset({name!r}).save_to_disk(FOLDER)"
        ) from None
    return found


def _part_of(path: Path) -> str:
    """Return the part that the name of a file or of a folder above it says, such as train-00000-of-00002."""
    for words in reversed([re.split(r"[^a-z]+", piece.lower()) for piece in path.parts]):
        if named := [word for word in words if word in PARTS]:
            return named[0]
    return ""


def _only(features: Mapping[str, Any], kind: type, usual: str, path: str) -> str:
    """Return the column of a kind, or the one with the usual name."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(names) == 1 or usual in names:
        return usual if usual in names else names[0]
    if usual in features and not names:
        return usual
    raise UserError(
        f"{path} has {len(names)} columns of the kind {kind.__name__}: say {usual}=COLUMN, one of "
        f"{', '.join(names or features)}" + ("" if usual == "label" else ", or features=COLUMN")
    )


def _arrow(found: Mapping[str, Any], names: Sequence[str]) -> pa.Table:
    """Return columns of all splits, one below the other."""
    import pyarrow as pa

    tables = [part.select_columns([*names]).with_format("arrow")[:] for part in found.values()]
    return pa.concat_tables(
        [table.replace_schema_metadata(None) for table in tables], promote_options="permissive"
    )


def _bytes_of(held: Mapping[str, Any] | None, name: str) -> bytes:
    if held is None or held["bytes"] is None:
        where = "" if held is None else f", only the path {held['path']} of another file"
        raise UserError(f"{name} has no picture{where}: embed it, or leave the row out")
    content: bytes = held["bytes"]
    return content


def _hashes(stored: Sequence[Any], image: str, name: Callable[[int], str]) -> list[str]:
    """Return the SHA-256 of the bytes of every picture."""
    found: list[str] = []
    for part in stored:
        for batch in part.select_columns([image]).iter(_BATCH):
            found += [
                sha256(_bytes_of(held, name(len(found) + place))).hexdigest()
                for place, held in enumerate(batch[image])
            ]
    return found


__all__ = ["HuggingFace"]
