"""The digest of a plugin's code follows what the code imports, and nothing but what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from checkout import ROOT

from harness.protocol import fingerprint
from harness.protocol.cells import contenders

PROJECT = ROOT

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes files of a folder and returns the digest of the strategy `mine.py` there,
    which uses `own`.
    """

    def digest(own: str = "", files: Mapping[str, str] = MappingProxyType({})) -> str:
        if own:
            (tmp_path / "mine.py").write_text(
                f"from worlds import Means\n{own}\nclass Mine(Means):\n    '''Mine.'''\n"
            )
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return contenders([f"{tmp_path}/mine.py:Mine"])[0].code

    return digest


IMPORTS = {
    "import helper": "helper.py",
    "import helper as h": "helper.py",
    "from helper import VALUE": "helper.py",
    "from helper import *": "helper.py",
    "from . import helper": "helper.py",
    "from .helper import VALUE": "helper.py",
    "try:\n    import helper\nexcept ImportError:\n    helper = None": "helper.py",
    "def later():\n    import helper\n    return helper.VALUE": "helper.py",
    "import pack.deep": "pack/deep.py",
    "from pack import deep": "pack/deep.py",  # a folder without __init__
    "from pack.deep import VALUE": "pack/deep.py",
    "from .pack.deep import VALUE": "pack/deep.py",
    "import first": "second.py",
    "from .first import second": "second.py",
    "from whole import VALUE": "whole/__init__.py",
    "import whole.part": "whole/__init__.py",
    "from whole.part import VALUE": "whole/other.py",
}


@pytest.mark.parametrize("line", IMPORTS)
def test_a_change_of_what_is_imported_changes_the_digest(line: str, write: Write) -> None:
    one = "VALUE = 1\n"
    files = {
        "helper.py": one,
        "first.py": "import second\n",
        "second.py": one,
        "pack/deep.py": one,
        "whole/__init__.py": one,
        "whole/part.py": "from .other import VALUE\n",
        "whole/other.py": one,
    }
    before = write(line, files)
    assert write(files={IMPORTS[line]: f"'''Words.'''\n{one}# and a comment\n"}) == before
    assert write(files={IMPORTS[line]: "VALUE = 2\n"}) != before
    assert write(files={IMPORTS[line]: one, "unrelated.py": one}) == before


def test_a_name_of_the_public_face_counts_as_the_module_it_lies_in(write: Write) -> None:
    own = "from {} import Strategy\nclass Base(Strategy): ..."
    assert write(own.format("openworld")) == write(own.format("harness.contracts"))
    assert write("import openworld") != write("import harness.contracts")


def test_helpers_of_helpers_count_however_deep(write: Write) -> None:
    before = write(
        "import a0", {f"a{n}.py": f"import a{n + 1}\n" for n in range(9)} | {"a9.py": "VALUE = 1\n"}
    )
    assert write(files={"a9.py": "VALUE = 2\n"}) != before


def test_modules_that_import_each_other_end(write: Write) -> None:
    before = write("import one", {"one.py": "import two\nimport mine\n", "two.py": "import one\nVALUE = 1\n"})
    assert write(files={"two.py": "import one\nVALUE = 2\n"}) != before


def test_a_neighbour_that_is_not_python_or_not_there_counts_by_what_it_is(
    write: Write, tmp_path: Path
) -> None:
    broken = write("def later():\n    import helper", {"helper.py": "1 +\n"})
    assert write(files={"helper.py": "2 +\n"}) != broken
    (tmp_path / "helper.py").unlink()
    absent = write()
    assert len({broken, absent, write(files={"helper.py": "VALUE = 1\n"})}) == 3


def test_a_module_that_is_renamed_or_moved_keeps_the_digest(write: Write, tmp_path: Path) -> None:
    before = write(
        "from helper import VALUE\nimport numpy as np",
        {"helper.py": "from deep import VALUE\n", "deep.py": "VALUE = 1\n"},
    )
    (tmp_path / "helper.py").unlink()
    (tmp_path / "deep.py").unlink()
    moved = {
        "pack/__init__.py": "'''New home.'''\n",
        "pack/zeta.py": "from pack.eta import VALUE\n",
        "pack/eta.py": "VALUE = 1\n",
    }
    assert write("import numpy as np\nfrom pack.zeta import VALUE", moved) == before
    assert write(files={"pack/eta.py": "VALUE = 2\n"}) != before


def test_which_of_two_modules_a_name_is_from_counts(write: Write) -> None:
    """Both are digested either way; only the import says which value is used."""
    files = {"one.py": "VALUE = 1\n", "two.py": "VALUE = 2\n"}
    assert write("import one, two\nfrom one import VALUE as USED", files) != write(
        "import one, two\nfrom two import VALUE as USED"
    )


def test_what_type_checkers_alone_import_does_not_count(write: Write) -> None:
    lines = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\nelse:\n    import second"
    before = write(lines, {"helper.py": "VALUE = 1\n", "second.py": "VALUE = 1\n"})
    assert write(files={"helper.py": "VALUE = 2\n"}) == before
    assert write(files={"second.py": "VALUE = 2\n"}) != before


def test_words_do_not_count_and_deeds_do() -> None:
    base = "from worlds import Means\nclass Mine(Means):\n    '''Say.'''\n    def learn(self, stage):\n        x = 1\n"
    words = base.replace("'''Say.'''", "'''Say it better.'''  # and with a comment")
    deeds = base.replace("x = 1", "x = 2")
    assert fingerprint.of_code("", base) == fingerprint.of_code("", words)
    assert fingerprint.of_code("", base) != fingerprint.of_code("", deeds)
    assert fingerprint.of_code("", "def f():\n    '''Say.'''\n") == fingerprint.of_code(
        "", "def f():\n    pass\n"
    )


# --- what other packages bring, and the project's own; digested by processes of their own, which nothing was


def _digest(code: str, *path: Path, cwd: Path) -> str:
    """Return what `code` prints that ends in an expression of a digest, with `path` first on the search path."""
    said = subprocess.run(
        [sys.executable, "-c", f"from harness.protocol import fingerprint\nprint({code})"],
        cwd=cwd,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
    )
    return said.stdout.strip()


def _install(folder: Path, name: str, version: str, *, direct: str = "", metadata: str = "METADATA") -> Path:
    """Write a distribution with one package into `folder`; return its module."""
    package, info = (
        folder / name,
        folder / f"{name}-{version}.{'dist' if metadata == 'METADATA' else 'egg'}-info",
    )
    for place in (package, info):
        place.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "values.py").write_text("VALUE = 1\n")
    (info / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{name}\n")
    if direct:
        (info / "direct_url.json").write_text(direct)
    return package / "values.py"


USER = "fingerprint.of_code('', 'from brought.values import VALUE')"


@pytest.mark.parametrize("kind", ["editable", "source tree", "beside a .pth"])
def test_what_is_installed_in_editable_form_counts_by_its_content(kind: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    if kind == "editable":
        module = _install(
            site, "brought", "1.0", direct='{"url": "file:///there", "dir_info": {"editable": true}}'
        )
    elif kind == "source tree":
        module = _install(site, "brought", "1.0", metadata="PKG-INFO")
    else:
        module = _install(tmp_path / "tree", "brought", "1.0", metadata="PKG-INFO")
        site.mkdir()
        (site / "brought.pth").write_text(f"{tmp_path / 'tree'}\n")
        (site / "sitecustomize.py").write_text(f"import site\nsite.addsitedir({str(site)!r})\n")
    before = _digest(USER, site, cwd=tmp_path)
    module.write_text("VALUE = 2\n")
    assert _digest(USER, site, cwd=tmp_path) != before


def test_a_released_distribution_counts_by_name_and_version(tmp_path: Path) -> None:
    module = _install(
        tmp_path / "one", "brought", "1.0", direct='{"url": "file:///a.whl", "archive_info": {}}'
    )
    _install(tmp_path / "two", "brought", "2.0")
    _install(tmp_path / "two", "unused", "1.0")
    first = _digest(USER, tmp_path / "one", cwd=tmp_path)
    module.write_text("VALUE = 2\n")
    assert _digest(USER, tmp_path / "one", cwd=tmp_path) == first
    assert _digest(USER, tmp_path / "two", cwd=tmp_path) != first
    assert _digest("fingerprint.of_code('', '')", tmp_path / "one", cwd=tmp_path) == fingerprint.of_code(
        "", ""
    )


def test_a_plugin_of_a_package_counts_by_the_content_of_that_package(tmp_path: Path) -> None:
    """Released or not: it is what runs."""
    module = _install(tmp_path / "site", "brought", "1.0")
    (module.parent / "plugin.py").write_text(
        "from .values import VALUE\nfrom strategies.class_incremental.replay import Replay\n"
    )
    code = "fingerprint.of_code('brought.plugin')"
    before = _digest(code, tmp_path / "site", cwd=tmp_path)
    module.write_text("VALUE = 2\n")
    assert _digest(code, tmp_path / "site", cwd=tmp_path) != before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the packages that strategies are made of."""
    for name in ("harness", "strategies"):
        shutil.copytree(
            PROJECT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path / "copy"


def test_the_digest_of_replay_follows_what_it_trains_with_and_what_runs_it(project: Path) -> None:
    def digest(file: str = "") -> str:
        path = project / file
        text = path.read_text() if file else ""
        if file:
            path.write_text(f"{text}\nMORE = 1\n")
        try:
            return _digest("fingerprint.of_code('strategies.class_incremental.replay')", project, cwd=project)
        finally:
            if file:
                path.write_text(text)

    before = digest()
    assert before == fingerprint.of_code("strategies.class_incremental.replay")
    assert digest("strategies/class_incremental/ewc.py") == before
    changed = [
        digest(f)
        for f in (
            "strategies/toolkit/training/loop.py",
            "strategies/class_incremental/buffer.py",
            "harness/cell/run.py",
            "harness/seeds.py",
        )
    ]
    assert len({before, *changed}) == 5


def test_a_module_of_the_project_that_moves_keeps_the_digest(project: Path) -> None:
    (project / "strategies" / "toolkit" / "memory").mkdir()
    (project / "strategies" / "toolkit" / "memory" / "__init__.py").write_text('"""What is rehearsed."""\n')
    (project / "strategies" / "class_incremental" / "buffer.py").rename(
        project / "strategies" / "toolkit" / "memory" / "rehearsed.py"
    )
    for path in project.rglob("*.py"):
        path.write_text(
            path.read_text().replace(
                "strategies.class_incremental.buffer", "strategies.toolkit.memory.rehearsed"
            )
        )
    assert _digest(
        "fingerprint.of_code('strategies.class_incremental.replay')", project, cwd=project
    ) == fingerprint.of_code("strategies.class_incremental.replay")
