"""What is compared with what: protocols, cells, suites, and their content addresses.

A **protocol** is a scenario's full configuration, the digests of its data and of weights its network starts
from, a digest of what it deals and the names of its metrics, and the code of scenarios, data sets, networks
and augmentations that are not shipped with this program, which nobody else has; results under different
protocol hashes never meet in one table. A **cell** is protocol x strategy configuration x seed, and its key adds
the code and the library versions that can change the result. A **suite** names scenarios, strategies and
seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.contracts import DealtStage, Inputs, Scenario, Stage, TrainingBudget
from harness.errors import UserError
from harness.networks import addressed
from harness.parameters import model_of
from harness.places import written
from harness.plugins import Kind, Plugin, find, of_others
from harness.protocol import fingerprint
from harness.protocol.contrasts import Ablation
from harness.protocol.yaml_files import read_yaml
from harness.selection import Selection, as_declared, expand, recorded, resolved, single, split_outside
from harness.weights import declared_weights


class HowSelected(BaseModel):
    """How a configuration came to be chosen: among how many trials, of which space, by what. seeds: the run
    seeds of the trials.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    trials: int = Field(ge=1)
    criterion: str
    space: str
    seeds: tuple[int, ...]

    @property
    def words(self) -> str:
        """Say it, all but the space."""
        return (
            f"chosen among {self.trials} {'trial' if self.trials == 1 else 'trials'} ({self.method}) by "
            f"{self.criterion}"
        )


class Suite(BaseModel):
    """What to run, from a YAML file or from flags: every scenario x every strategy x every seed.

    ablation: which differences between its strategies say what a component contributes, where that is what it
    is for.
    probes: what is measured of the learners while they learn, and `probe_at` when (`harness.cell.looks`); they
    change no prediction and are in no key.
    chosen: by label, how a search chose the configuration of a strategy, where one did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="runs", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = ""
    scenarios: tuple[str, ...] = Field(min_length=1)
    strategies: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(default=5, ge=1, le=1000)
    timeout_s: float = Field(default=3600.0, gt=0)
    memory_mib: int = Field(default=4096, ge=64)
    probes: tuple[str, ...] = ()
    probe_at: str = ""
    ablation: Ablation | None = None
    chosen: dict[str, HowSelected] = {}

    @model_validator(mode="after")
    def _has_every_arm(self) -> Self:
        labels = {str(selection) for text in self.strategies for selection in expand(text)}
        missing = (
            [arm for arm in self.ablation.arms if not labels.issuperset(map(str, expand(arm)))]
            if self.ablation
            else []
        )
        if missing:
            raise ValueError(f"the ablation has arms that are not among the strategies: {', '.join(missing)}")
        return self

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what most suites do not have."""
        return {
            name: value
            for name, value in handler(self).items()
            if value or name not in ("ablation", "chosen", "probes", "probe_at")
        }


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        UserError: not readable, not YAML, a key said twice, or a key or value that a suite does not have.
    """
    content = read_yaml(written(path), f"suite {str(path)!r}", as_text=True)
    if not isinstance(content, dict):
        raise UserError(
            f"suite {str(path)!r} should hold keys such as scenarios, strategies, seeds; it holds "
            f"{type(content).__name__}"
        )
    content = content.get("suite", content)  # a board's protocol.yaml keeps its suite beside what came of it
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg'].lower()}" for p in error.errors())
        raise UserError(f"suite {str(path)!r}: {problems} (keys: {', '.join(Suite.model_fields)})") from None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A scenario with everything that defines a comparison on it."""

    label: str
    scenario_name: str
    scenario: Scenario

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything the hash is taken over, JSON-ready; raise `UserError` for weights of its network that
        are not what they say.
        """
        budget = self.scenario.budget()
        weights = declared_weights(budget.backbone)
        config = self.scenario.model_dump(mode="json")
        code = {
            **_code_of_others([self.scenario_name, *config.values()], ("scenario", "dataset")),
            **_code_of_others(
                [budget.backbone], ("encoder" if self.scenario.frozen_encoder else "backbone",)
            ),
            **_code_of_others([budget.augmentations], ("augmentation",)),
        }
        return {
            "scenario": self.scenario_name,
            "config": config,
            "data": self._first_deal[3],
            "deal_of_seed_0": self._first_deal[0],
            "metrics": [metric.name for metric in self.scenario.metrics],
            **({"weights": weights} if weights else {}),
            **({"code": code} if code else {}),
        }

    @cached_property
    def hash(self) -> str:
        """Digest of `content`."""
        return fingerprint.of_value(self.content)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of every stage under seed 0."""
        return self._first_deal[1]

    @property
    def stage_items(self) -> tuple[int, ...]:
        """How many training items every stage has under seed 0."""
        return self._first_deal[2]

    @cached_property
    def _first_deal(self) -> tuple[str, tuple[Shape, ...], tuple[int, ...], dict[str, str]]:
        deal, data = self.scenario.deal(0), dict(self.scenario.data_digests())
        if not data or not all(data.values()):
            data |= fingerprint.of_loaders(deal)
        shapes = tuple(
            shape_of(stage, deal.inputs, len(stage.rows), len(stage.validation)) for stage in deal.stages
        )
        return fingerprint.of_deal(deal), shapes, tuple(len(stage.rows) for stage in deal.stages), data


Shape = tuple[Any, ...]
"""What stages have in common that are learned at once."""


def shape_of(stage: DealtStage | Stage, inputs: Inputs, rows: int, held: int) -> Shape:
    """Return the shape of a stage: of its items, their number, the classes, what is held out, whether it is
    told of noise.
    """
    kind = str(getattr(inputs, "dtype", ""))
    return (
        *inputs.shape[1:],
        kind,
        rows,
        stage.named_classes,
        stage.new_classes,
        held,
        stage.noise_info is None,
    )


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A strategy with all its parameters; `label` is what was asked for, `code` the digest of what it runs.

    own_code: digest of the strategy without its components.  component_code: of those, by name.
    """

    label: str
    plugin: Plugin
    params: Mapping[str, Any]
    code: str
    own_code: str = ""
    component_code: Mapping[str, str] = field(default_factory=dict)


LENT: tuple[Kind, ...] = ("backbone", "encoder", "augmentation", "component")
"""Kinds of plugins that a strategy learns with."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One unit of work: a contender on a protocol under a seed."""

    protocol: Protocol
    contender: Contender
    seed: int

    @cached_property
    def key(self) -> str:
        """Content address: equal cells have equal keys on every machine with the same code and library
        versions.
        """
        return fingerprint.of_value(
            {
                "protocol": self.protocol.hash,
                "strategy": self.contender.plugin.name.rpartition("/")[2],
                "params": dict(self.contender.params),
                "seed": self.seed,
                "code": self.contender.code,
                "libraries": fingerprint.libraries(),
            }
        )

    def __str__(self) -> str:
        return f"{self.protocol.label} | {self.contender.label} | seed {self.seed}"


def protocols(texts: Iterable[str]) -> list[Protocol]:
    """Return the protocols that the selections stand for.

    Raises:
        UserError: no such scenario or parameter; a scenario whose primary metric is censored.
    """
    found = []
    for plugin, selection in _selections("scenario", texts):
        scenario = plugin.cls(**resolved(plugin, selection))
        if scenario.metrics[0].censored:
            raise UserError(
                f"{selection} lists {scenario.metrics[0].name} first, which may not be reached: no ranking goes by that"
            )
        found.append(Protocol(label=str(selection), scenario_name=plugin.name, scenario=scenario))
    return found


def contenders(texts: Iterable[str]) -> list[Contender]:
    """Return the contenders that the selections stand for."""
    found = []
    for plugin, selection in _selections("strategy", texts):
        own = fingerprint.of_code(plugin.cls.__module__, plugin.source, plugin.folder)
        params = recorded(plugin, selection)
        parts = code_of_components("+".join(_named_components(plugin, params).values()))
        found.append(
            Contender(
                label=str(selection),
                plugin=plugin,
                params=params,
                code=with_components(own, parts),
                own_code=own,
                component_code=parts,
            )
        )
    return found


def with_components(code: str, parts: Mapping[str, str]) -> str:
    """Return the digest of a strategy's code together with that of components; `code` itself where it has none."""
    return fingerprint.of_value([code, parts]) if parts else code


def code_of_components(text: str) -> dict[str, str]:
    """Return the digests of the components that `text` joins by +, by name.

    Raises:
        UserError: no such component.
    """
    parts = {
        name: find("component", name) for name in (single(part).name for part in split_outside(text, "+"))
    }
    return {
        name: fingerprint.of_code(part.cls.__module__, part.source, part.folder, engine=())
        for name, part in parts.items()
    }


def addressed_components(contender: Contender) -> dict[str, str]:
    """Return the parameters of a contender that name components, files by their whole paths, so that a process with
    another working folder finds them.
    """
    named = _named_components(contender.plugin, contender.params)
    return {name: addressed(text) for name, text in named.items()}


def components_of(contender: Contender) -> list[str]:
    """Return what selects the components of a contender, one by one, files by their whole paths."""
    return [part for text in addressed_components(contender).values() for part in split_outside(text, "+")]


def _named_components(plugin: Plugin, params: Mapping[str, Any]) -> dict[str, str]:
    owner: type = plugin.cls
    extras = {name: known.json_schema_extra for name, known in model_of(owner).model_fields.items()}
    return {
        name: params[name]
        for name, extra in extras.items()
        if params.get(name) and isinstance(extra, dict) and extra.get("selects") == "component"
    }


def cells(
    protocols: Sequence[Protocol], contenders: Sequence[Contender], seeds: int | Sequence[int]
) -> list[Cell]:
    """Return all cells, those that share data next to each other; two labels for one thing make one cell.

    `seeds`: which ones, or how many from 0.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    every = [
        Cell(protocol=p, contender=c, seed=seed) for p in protocols for seed in chosen for c in contenders
    ]
    return list({cell.key: cell for cell in every}.values())


def lent_texts(cell: Cell) -> list[str]:
    """Return what selects the network, the augmentations and the components of a cell, files by their whole paths."""
    budget, contender = cell.protocol.scenario.budget(), cell.contender
    return [addressed(budget.backbone), addressed(budget.augmentations), *components_of(contender)]


def code_lent(texts: Iterable[str]) -> dict[str, str]:
    """Return the digests of the code of networks, augmentations and components of others that `texts` select, by
    name; of files that are not there, none.
    """
    return _code_of_others(texts, LENT)


def code_of_files(budget: TrainingBudget, components: Iterable[str] = ()) -> dict[str, str]:
    """Return the digests of the code of what is named by path: the network and the augmentations of `budget`, and
    components.
    """
    return _code_of_others([budget.backbone, budget.augmentations, *components], ())


def _code_of_others(values: Iterable[Any], kinds: Sequence[Kind]) -> dict[str, str]:
    """Return the code of the plugins of others that `values` select, joined by + or as parameters of one
    another too, by name.
    """
    found: dict[str, str] = {}
    for selection in (each for value in values for each in _selected(value)):
        for plugin in of_others(selection.name, kinds):
            found[selection.name] = fingerprint.of_code(
                plugin.cls.__module__, plugin.source, plugin.folder, engine=()
            )
        found |= _code_of_others(selection.params.values(), kinds)
    return found


def _selected(value: Any) -> Iterator[Selection]:
    """Return what a text may select, as a whole and part by part; nothing of one of another kind."""
    if not isinstance(value, str):
        return
    with suppress(UserError):
        yield from expand(value)
    with suppress(UserError):
        parts = split_outside(value, "+")
        for part in parts if len(parts) > 1 else []:
            yield from expand(part)


def _selections(kind: Kind, texts: Iterable[str]) -> list[tuple[Plugin, Selection]]:
    """Expand all texts and find what they select; the same selection said twice counts once."""
    found: dict[str, tuple[Plugin, Selection]] = {}
    for text in texts:
        for said in expand(text):
            plugin = find(kind, said.name)
            selection = replace(as_declared(plugin, said), name=plugin.name)
            found.setdefault(str(selection), (plugin, selection))
    return list(found.values())
