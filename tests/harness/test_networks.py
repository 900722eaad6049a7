"""Backbones, encoders and augmentations are plugins: found by entry point or by path, refused with the nearest
name before anything runs, and what others bring counts in the protocol.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import SUPPORT
from fakes import FakeContext
from runs import BLOBS, Owb

from harness.contracts import Status
from harness.errors import Unsuitable, UserError
from harness.execution.execute import Limits, execute
from harness.execution.machine import Machine
from harness.execution.plan import plan
from harness.networks import addressed, kinds_of, maker
from harness.plugins import PLURAL, Kind, registered
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store
from strategies.anomaly.encoders import encoder
from strategies.toolkit.augmentations import augmentation_of
from strategies.toolkit.networks import backbone

OWN = f"{SUPPORT}/own_networks.py"


def test_by_path_they_are_made_with_what_is_said() -> None:
    """A function will do as well; text is taken as it was said."""
    assert backbone(FakeContext(backbone=f"{OWN}:Normed[width=6]"), (5,))(torch.zeros(2, 5)).shape == (2, 6)
    make: Any = maker("backbone", f"{OWN}:normed_of[half=4,label=1e3]")
    assert make.keywords == {"half": 4, "label": "1e3"}
    assert make((5,)).features == 8
    chain = augmentation_of(
        f"{OWN}:Shifted[by=2]+{OWN}:Shifted+either[one={OWN}:Shifted[by=5],other=same,chance=1]"
    )
    assert chain(torch.zeros(1, 3), torch.Generator()).tolist() == [[8.0, 8.0, 8.0]]


def test_an_encoder_by_path_describes_patches() -> None:
    """By hand: a white upper half on black has patch means 1 and 0 and no deviations."""
    images = np.zeros((1, 1, 8, 8), dtype=np.float32)
    images[:, :, :4] = 1
    tokens = encoder(FakeContext(backbone=f"{OWN}:Patches"), (1, 8, 8)).encode(images)
    assert tokens.tolist() == [[[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]]


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("backbone", "ccn", "unknown backbone 'ccn'; did you mean 'cnn'? (all: owb list backbones)"),
        ("encoder", "cnn", "unknown encoder 'cnn'"),
        ("backbone", "cnn:big", "unknown backbone 'cnn:big'; did you mean 'cnn'?"),
        ("backbone", "timm", "backbone timm needs name: say timm:NAME"),
        ("backbone", f"{OWN}:Nromed", "unknown class or function 'Nromed'; did you mean 'Normed'?"),
        (
            "backbone",
            f"{OWN}:Normed[witdh=2]",
            f"unknown parameter of backbone {OWN}:Normed 'witdh'; did you mean",
        ),
        ("backbone", f"{OWN}:Normed[width=3]", "Normed needs an even width, got 3"),
        (
            "backbone",
            f"{OWN}:normed_of",
            f"backbone {OWN}:normed_of needs half: say {OWN}:normed_of[half=...]",
        ),
        ("augmentation", "nosie", "unknown augmentation 'nosie'; did you mean 'noise'?"),
        ("augmentation", f"{OWN}:Shifted[bye=1]", f"unknown parameter of augmentation {OWN}:Shifted 'bye'"),
    ],
)
def test_what_is_wrong_is_one_sentence(kind: Any, text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        maker(kind, text)
    assert str(caught.value).startswith(sentence)


def test_a_network_of_the_other_kind_is_unsuitable_and_one_by_path_may_be_either() -> None:
    assert kinds_of("cnn[width=3]") == {"backbone"}
    assert kinds_of("gabor") == {"encoder"}
    assert kinds_of("timm:resnet18") == kinds_of(f"{OWN}:Normed") == {"backbone", "encoder"}
    assert kinds_of("nothing") == set()
    with pytest.raises(Unsuitable, match="has a frozen encoder: gabor"):
        backbone(FakeContext(backbone="gabor"), (1, 8, 8))
    with pytest.raises(Unsuitable, match="has a network to train: cnn"):
        encoder(FakeContext(backbone="cnn"), (1, 8, 8))


def test_files_get_their_whole_paths_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").touch()
    assert addressed("my.py:Net[width=3]") == f"{tmp_path}/my.py:Net[width=3]"
    assert (
        addressed("noise[std=1]+my.py:A+either[one=my.py:A[x=1],other=./my.py:B]")
        == f"noise[std=1]+{tmp_path}/my.py:A+either[one={tmp_path}/my.py:A[x=1],other={tmp_path}/my.py:B]"
    )
    for text in ("cnn[width=3]", "timm:resnet18.a1_in1k", "gone.py:Net", f"{tmp_path}/my.py:Net"):
        assert addressed(text) == text


# --- what they do to protocols and keys ---------------------------------------------------------------------


def _cell(backbone: str = "mlp", augmentations: str = "same") -> Any:
    (protocol,) = protocols([f"class-incremental[backbone={backbone},augmentations={augmentations}]"])
    return cells([protocol], contenders(["fine-tune"]), 1)[0]


@pytest.mark.parametrize(
    "selected",
    [
        lambda path: {"backbone": f"{path}:Normed[width=8]"},
        lambda path: {"augmentations": f"noise+{path}:Shifted"},
        lambda path: {"augmentations": f"{path}:Shifted[by=1]+{path}:Shifted[by=2]"},
        lambda path: {"augmentations": f"noise+either[one=same,other=noise+{path}:Shifted[by=3]]"},
    ],
)
def test_the_code_of_a_file_is_part_of_the_key_and_its_words_are_not(
    selected: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    path, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    original = Path(OWN).read_text() + "\nimport helper\n"

    def key(text: str, value: int) -> tuple[str, str]:
        path.write_text(text)
        helper.write_text(f"VALUE = {value}\n")
        cell = _cell(**selected(path))
        return cell.protocol.hash, cell.key

    first = key(original, 1)
    assert key(f"# words\n{original}", 1) == first
    others = [key(original.replace("self.by = by", "self.by = by + 1"), 1), key(original, 2)]
    for one, other in zip(*[first, others[0]], strict=True):
        assert one != other
    assert len({first, *others}) == 3


def test_what_is_shipped_adds_no_code_to_a_protocol() -> None:
    assert (
        "code" not in _cell("cnn[width=8]", "noise+either[one=same,other=affine[rotate=5]]").protocol.content
    )


def test_what_is_shipped_is_loaded_by_the_packages_whose_code_strategies_are_digested_with() -> None:
    """A key holds what a strategy imports statically; a network that only the registry knew would be missing."""
    homes = {
        "backbone": "strategies.toolkit.networks",
        "encoder": "strategies.anomaly.encoders",
        "augmentation": "strategies.toolkit.augmentations",
    }
    for kind, home in homes.items():
        code = f"import json, sys, {home}; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert {point.module for point in registered(kind).values()} <= {*json.loads(done.stdout)}  # type: ignore[arg-type]


def test_what_another_package_registers_is_found_listed_and_digested(tmp_path: Path) -> None:
    info, package = tmp_path / "brought-1.0.dist-info", tmp_path / "brought"
    info.mkdir()
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[openworld.backbones]\nhub = brought:hub\n[openworld.augmentations]\nshift = brought:Shifted\n"
    )
    text = (
        Path(OWN).read_text()
        + "def hub(item_shape, *, name, width=4):\n    '''Return NAME of the hub. And more.'''\n"
    )

    def told(text: str) -> dict[str, Any]:
        (package / "__init__.py").write_text(text)
        code = (
            "import json\nfrom harness.plugins import summaries\nfrom harness.networks import maker\n"
            "from harness.protocol.cells import protocols\n"
            "(p,) = protocols(['class-incremental[backbone=hub:deep[width=6],augmentations=noise+shift[by=2]]'])\n"
            "print(json.dumps({'code': p.content['code'], 'listed': summaries('backbone')['hub'],\n"
            "    'said': maker('backbone', 'hub:deep[width=6]').keywords}))\n"
        )
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    first = told(text)
    assert first["listed"] == "Return NAME of the hub."
    assert first["said"] == {"name": "deep", "width": 6}
    assert {*first["code"]} == {"hub:deep", "shift"}
    assert told(text.replace("inputs + self.by", "inputs - self.by"))["code"] != first["code"]


# --- through the command line -------------------------------------------------------------------------------


def test_the_list_has_every_kind_and_the_parameters_of_one(call_owb: Owb) -> None:
    listed = call_owb("list", "--json").json
    kinds: tuple[Kind, ...] = ("backbone", "encoder", "augmentation")
    for kind in kinds:
        assert {*listed[PLURAL[kind]]} == {*registered(kind)}
        assert all(listed[PLURAL[kind]].values())
    assert [*call_owb("list", "encoders", "--json").json] == ["encoders"]
    (width,) = call_owb("list", "cnn", "--json").json["parameters"]
    assert (width["name"], width["type"], width["default"]) == ("width", "int", 32)
    assert [found["kind"] for found in call_owb("list", "timm", "--json").json] == ["backbone", "encoder"]
    own = call_owb("list", f"{OWN}:normed_of", "--json").json
    assert (own["kind"], own["parameters"][0]["meaning"]) == ("backbone", "needed")


@pytest.mark.parametrize(
    ("scenario", "sentence"),
    [
        (
            "class-incremental[backbone=own.py:Nromed]",
            "unknown class or function 'Nromed'; did you mean 'Normed'?",
        ),
        ("class-incremental[backbone=gone.py:Net]", "cannot read 'gone.py': No such file or directory"),
        (
            "class-incremental[augmentations=noise+own.py:Shift]",
            "unknown class or function 'Shift'; did you mean 'Shifted'?",
        ),
        ("anomaly[backbone=own.py:Pathces]", "unknown class or function 'Pathces'; did you mean 'Patches'?"),
    ],
)
def test_a_plan_refuses_a_wrong_one(
    scenario: str, sentence: str, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(Path(OWN).read_text())
    said = call_owb("run", "fine-tune", "-s", scenario, "--plan", "--no-bounds")
    assert said.code == 2
    assert said.err.startswith(f"error: {sentence}")
    assert not (tmp_path / "owb-store").exists()


SMALL = "categories=brick,setting=single,n_train=8,n_good=3,n_bad=3"


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        (
            "fine-tune",
            "class-incremental[backbone=own.py:normed_of[half=4],augmentations=noise+own.py:Shifted,epochs=1]",
        ),
        ("patch-gaussian", f"anomaly[{SMALL},backbone=own.py:Patches[patch=8]]"),
    ],
)
def test_they_run_in_real_cells_of_workers_in_other_folders(
    strategy: str,
    scenario: str,
    call_owb: Owb,
    warm_ray: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(Path(OWN).read_text())
    said = call_owb(
        "run", strategy, "-s", scenario, "--seeds", "1", "--no-bounds", "--workers", "1", "--json"
    )
    (row,) = said.json["rankings"][0]["rows"]
    assert row["figures"]


def test_a_network_that_changes_after_planning_is_not_run_under_the_old_key(
    tmp_path: Path, warm_ray: None
) -> None:
    path = tmp_path / "own.py"
    path.write_text(Path(OWN).read_text())
    todo = cells(protocols([f"{BLOBS}[backbone={path}:Normed]"]), contenders(["fine-tune"]), 1)
    opened = Store(str(tmp_path / "store"))
    planned = plan(todo, opened)
    path.write_text(path.read_text().replace("nn.ReLU()", "nn.Tanh()"))
    (record,) = execute(planned, opened, experiment="late", machine=Machine(workers=1), limits=Limits())
    assert record.status is Status.FAILED
    assert (
        record.reason
        == "own.py:Normed, or a module that it imports, changed after the run began: run the same command again"
    )
