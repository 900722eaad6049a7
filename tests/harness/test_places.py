"""Paths that a person writes, and users who have no home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import Owb

from harness.errors import UserError
from harness.places import below_data, cache_folder, data_folder, home_folder, written
from harness.plugins import find
from harness.protocol.cells import contenders, read_suite
from harness.store.mlflow_store import Store
from harness.weights import located
from scenarios.anomaly.folders import folder_at
from scenarios.datasets.on_disk.cifar import Cifar10
from scenarios.grokking.corruption import matrix_of
from scenarios.shared import human_labels
from scenarios.shared.noise import noise_of

NOBODY = """
import os, pwd, sys
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody
import harness.cli.app as app
sys.argv = ["owb", *sys.argv[1:]]
app.main()
"""
"""The command line for a user that the data base does not know."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    for name in ("OWB_DATA", "OWB_CACHE", "OWB_STORE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_tilde_is_the_user_s_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [written("~"), written("~/a b/~"), written("a/~"), written("")] == [
        home,
        home / "a b" / "~",
        Path("a/~"),
        Path(),
    ]
    assert (data_folder(), cache_folder(), below_data("x")) == (
        None,
        home / ".cache" / "openworld-bench",
        Path("x"),
    )
    monkeypatch.setenv("OWB_DATA", "~/data")
    monkeypatch.setenv("OWB_CACHE", "~/kept")
    assert (data_folder(), cache_folder()) == (home / "data", home / "kept")
    assert [below_data("x"), below_data("~/x"), below_data("/x")] == [
        home / "data" / "x",
        home / "x",
        Path("/x"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="no user data base")
def test_a_tilde_with_a_name_is_that_user_s_folder() -> None:
    import pwd

    user = pwd.getpwuid(os.getuid())
    assert written(f"~{user.pw_name}/x") == Path(user.pw_dir) / "x"
    with pytest.raises(
        UserError, match=r"no home folder is known for ~nobody-of-this-name of '~nobody-of-this-name/x'"
    ):
        written("~nobody-of-this-name/x")


def test_every_reader_of_data_expands_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("mine", "data/mine"):
        (home / folder).mkdir(parents=True)
        (home / folder / "batches.meta").touch()
        (home / folder / "labels.npz").touch()
        np.save(home / folder / "matrix.npy", np.eye(2))
        np.savetxt(home / folder / "matrix.csv", np.eye(2), delimiter=",")
    for above, expected in (("~/data", home / "data"), ("", Path("~"))):
        monkeypatch.setenv("OWB_DATA", above)
        for root, folder in (("~/mine", home / "mine"), *((("mine", expected / "mine"),) if above else ())):
            assert folder_at(root, "folder") == folder
            assert Cifar10(root=root).whereabouts().folder == folder
            assert located(f"{root}/w.pth") == folder / "w.pth"
            assert human_labels.located(f"{root}/labels.npz") == folder / "labels.npz"
        for name in ("matrix.npy", "matrix.csv"):
            assert (matrix_of("", f"~/mine/{name}", 2) == np.eye(2)).all()
            assert noise_of(f"matrix[file=~/mine/{name}]").transitions().shape == (2, 2)


def test_stores_suites_and_plugins_expand_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store("~/store").folder == home / "store"
    assert Store("sqlite:///~/store/mlflow.db").folder == home / "store"
    (home / "suite.yaml").write_text("scenarios: [class-incremental]\nstrategies: ['~/mine.py:Mine']\n")
    (home / "mine.py").write_text("from beside import Means as Mine\nclass Mine(Mine):\n    '''Mine.'''\n")
    (home / "beside.py").write_text("from strategies.class_incremental.fine_tune import FineTune as Means\n")
    suite = read_suite(Path("~/suite.yaml"))
    (mine,) = contenders(suite.strategies)
    (same,) = contenders([f"{home}/mine.py:Mine"])
    assert mine.label == "~/mine.py:Mine"
    assert mine.code == same.code
    assert mine.plugin.address == find("strategy", f"{home}/mine.py:Mine").address == f"{home}/mine.py:Mine"


def test_options_expand_it(home: Path, call_owb: Owb) -> None:
    assert call_owb("new", "strategy", "mine", "--folder=~/methods").code == 0
    assert (home / "methods" / "mine.py").is_file()
    said = call_owb(
        "ablate",
        "replay",
        "--components=memory=50",
        "--plan",
        "--save=~/suite.yaml",
        "--seeds=1",
        "--store=~/store",
    )
    assert said.code == 0, said.err
    assert (home / "suite.yaml").is_file()
    assert call_owb("show", "--store=~/store").err.strip().endswith("try: owb demo")
    refused = call_owb("board", "check", "x", "--root=~/boards").err
    assert refused.startswith(f"error: there are no boards in {home / 'boards'}: ")
    assert not list(home.parent.glob("~*"))


@pytest.mark.skipif(os.name == "nt", reason="no user data base")
def test_a_user_without_a_home_folder_works_without_a_cache(tmp_path: Path) -> None:
    around = {
        key: value
        for key, value in os.environ.items()
        if key not in ("HOME", "OWB_CACHE", "OWB_DATA", "OWB_STORE")
    }

    def owb(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", NOBODY, *words],
            cwd=tmp_path,
            env={**around, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    assert owb("data", "check", "chars47").returncode == 0
    assert owb("data", "check", "chars47", OWB_CACHE=str(tmp_path / "kept")).returncode == 0
    assert list((tmp_path / "kept").glob("*.npz"))
    assert owb("show", "--store", "s").returncode == 0  # MLflow asks for a home folder when it is imported
    said = owb("show", "--store", "~/s")
    assert (said.returncode, said.stderr) == (
        2,
        "error: no home folder is known for ~ of '~/s': say the whole path, or set HOME\n",
    )
    said = owb("data", "check", "chars47", OWB_CACHE="~/kept")
    assert (said.returncode, said.stderr) == (
        2,
        "error: no home folder is known for ~ of '~/kept': say the whole path, or set HOME\n",
    )
    assert not list(tmp_path.glob("~*"))


def test_a_home_folder_that_cannot_be_written_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_owb: Owb
) -> None:
    monkeypatch.delenv("OWB_CACHE", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert home_folder() == tmp_path / "file"
    assert call_owb("data", "check", "chars47").code == 0


def test_packed_images_say_that_a_cache_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from harness.selection import configured

    monkeypatch.delenv("OWB_CACHE", raising=False)
    monkeypatch.setenv("HOME", os.devnull)
    for part in ("train/good", "test/good", "test/cut"):
        (tmp_path / "data" / "thing" / part).mkdir(parents=True)
        Image.new("RGB", (16, 16), (len(part), 0, 0)).save(tmp_path / "data" / "thing" / part / "0.png")
    scenario = configured("scenario", f"anomaly[source=folder,root={tmp_path / 'data'},resize=16,crop=16]")
    with pytest.raises(UserError, match="this user has no home folder: set OWB_CACHE"):
        scenario.deal(0)
