"""The documentation: it builds, its links lead somewhere, and the commands it shows are accepted or run."""

from __future__ import annotations

import importlib
import json
import math
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from notebooks import Notebook
from own_formats import pictures, table
from runs import BLOBS, Owb

import openworld
from harness.checks.probes import check_probe
from harness.cli.scaffolds import STRATEGY
from harness.selection import configured
from harness.store import line_plots, matrix_plots
from openworld import debug
from strategies.class_incremental.fine_tune import FineTune

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PACKAGES = ("harness", "scenarios", "strategies", "leaderboards", "benchmarks", "tests", "docs")
WRITTEN = ("leaderboards/boards/mine",)
"""What a command of the pages writes."""
Shown = Callable[[str], tuple[int, str]]

PROGRAMS = ("owb", "make", "python", "python3", "mlflow", "ray", "git", "source")
"""What a line of a shell begins with where it is a command and no output."""
NOT_RUN = {
    r"make|git|source|python3 -m venv": "set up or change a checkout",
    r"ray |mlflow (ui|server)": "start servers of other projects that stay, or write a token to the home folder",
    r"owb doctor .*--address": "needs a cluster; tests/harness/execution/test_joined_cluster.py starts one",
    r"owb slurm": "write a file; tests/harness/execution/test_slurm.py has Slurm run some",
    r"owb watch": "goes on until Ctrl-C; tests/harness/cli/test_watch.py presses it",
    r"owb run .*mvtec": "need data that nobody may ship; their layout is tested on a tiny copy",
    r"owb run --preset": "need published data and weights; tests/leaderboards/papers runs presets on tiny copies",
    r"owb board (build$|check class|publish)": "take minutes; tests/leaderboards does each on small boards",
    r"owb (new (dataset|scenario)|data check mine|run .*-s mine)": "tests/harness/cli/test_new.py follows scaffolds",
    r"owb export here": "needs two stores; tests/harness/cli/test_export.py makes them",
    r"owb check (calm|norms)": "needs the file of its page, which a test below checks",
    r"owb compare replay ewc": "says of two strategies what the README's says of its own",
    r"owb (submit|verify|accept)": "need a submission; tests/leaderboards/gate and cli make, judge and accept some",
}
"""Commands of the pages, by how they begin, that the tests of the pages do not run, and why."""


def _commands(page: Path) -> list[str]:
    """Return the commands in the blocks of a page that show a shell, comments cut off."""
    blocks, inside = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if inside is None:
                inside = [line[3:].strip()]
            else:
                blocks.append(inside)
                inside = None
        elif inside is not None:
            inside.append(line)
    shells = ["\n".join(lines) for kind, *lines in blocks if kind in ("", "sh", "bash")]
    lines = [line for shell in shells for line in shell.replace("\\\n", " ").splitlines()]
    found = [
        shlex.join(shlex.split(line.removeprefix("$ "), comments=True)) for line in lines if _starts(line)
    ]
    return [part for line in found for part in line.split(" '&&' ") if _starts(part)]


def _starts(line: str) -> bool:
    return line.removeprefix("$ ").split(" ")[0] in PROGRAMS


EVERY = sorted({command for page in PAGES for command in _commands(page)})
LEFT_OUT = [command for command in EVERY if any(re.match(start, command) for start in NOT_RUN)]
RUN = [command for command in EVERY if command not in LEFT_OUT]
CELLS = [command for command in RUN if command.startswith("owb run")]
STUDIES = [command for command in RUN if command.startswith(("owb ablate", "owb sweep"))]
SHOWS = [
    command
    for command in RUN
    if command.startswith(("owb list", "owb doctor", "owb data", "owb board"))
    and "--name runs" not in command
]
OF_README = ("owb new strategy mine", "owb check mine.py:Mine", "owb run mine.py:Mine replay")
AFTER_README = [command for command in RUN if command not in (*CELLS, *STUDIES, *SHOWS, *OF_README)]


@pytest.fixture
def owb(call_owb: Owb) -> Shown:
    """Return a function that calls the command line as it is shown and returns its exit code and what it
    printed.
    """

    def call(command: str) -> tuple[int, str]:
        said = call_owb(*shlex.split(command)[1:])
        return said.code, said.out + said.err

    return call


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a strategy and a suite of one's own, and in `data` what docs/data.md shows: birds,
    birds.csv and points.npz.
    """
    home = tmp_path_factory.mktemp("own")
    (home / "leaderboards").symlink_to(ROOT / "leaderboards")
    (home / "mine.py").write_text(STRATEGY.format(name="mine", cls="Mine"), encoding="utf-8")
    suite = re.search(
        r"```yaml\n(name: mine\n.*?)```", (ROOT / "docs/run.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert suite
    (home / "mine.yaml").write_text(suite[1], encoding="utf-8")
    (home / "norms.py").write_text(_block("probes", "class Norms"), encoding="utf-8")
    folder = home / "data"
    folder.mkdir()
    lot = pictures(folder / "birds", train=20, test=5)
    marks = zip(lot.files, lot.labels, lot.parts, strict=True)
    rows = [(file, name, part, f"nest {row // 3}") for row, (file, name, part) in enumerate(marks)]
    table(folder / "birds.csv", rows, ("picture", "species", "part", "nest"))
    labels = np.repeat(np.arange(10), 60)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(600, 16)) + 3 * rng.normal(size=(10, 16))[labels]
    np.savez(folder / "points.npz", inputs=inputs.astype(np.float32), labels=labels)
    return home


@pytest.fixture(autouse=True)
def _at_hand(own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be where a reader is: in a folder of one's own, with the checkout's suites and boards."""
    monkeypatch.setenv("OWB_DATA", str(own_data / "data"))
    monkeypatch.setenv("OWB_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(own_data)


def _block(page: str, word: str) -> str:
    """Return the block of Python on a page that has this word."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in code]
    return block


@cache
def _learned(strategy: str, scenario: str) -> Mapping[str, float]:
    """Return the figures of a cell made small, learned in this process."""
    return openworld.debug(strategy, f"smoke[over={scenario}]")


@pytest.mark.parametrize("command", CELLS)
def test_a_run_that_the_docs_show_is_planned_and_its_first_cell_made_small_learns(
    command: str, call_owb: Owb
) -> None:
    words = [word for word in shlex.split(command)[1:] if word != "--plan"]
    first = call_owb(*words, "--plan", "--json").json[0]
    figures = _learned(first["strategy"], first["scenario"])
    assert any(math.isfinite(figure) for figure in figures.values())


@pytest.mark.parametrize("command", STUDIES)
def test_a_study_that_the_docs_show_is_planned(command: str, owb: Shown) -> None:
    code, said = owb(command if "--plan" in command else f"{command} --plan")
    assert code == 0, said
    assert "would" in said


@pytest.mark.parametrize("command", [command for command in EVERY if command.startswith("owb")])
def test_a_command_of_the_docs_names_a_verb_and_options_that_exist(command: str, owb: Shown) -> None:
    words = shlex.split(command)
    verb = words[1:3] if words[1] in ("board", "new", "data") else words[1:2]
    code, said = owb(shlex.join(["owb", *verb, "--help"]))
    assert code == 0
    assert [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", said)] == []


@pytest.mark.parametrize("command", SHOWS)
def test_what_the_docs_have_listed_or_shown_is_printed(command: str, owb: Shown) -> None:
    code, said = owb(command)
    assert code == 0
    assert said.strip()


def test_the_readmes_own_strategy_runs_as_it_stands_and_so_does_what_looks_at_a_run(
    owb: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_ray: None
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [command for command in _commands(ROOT / "README.md") if command in OF_README] == [*OF_README]
    answers = {}
    for command in (*OF_README, *AFTER_README):
        code, answers[command] = owb(command)
        assert code == 0, answers[command]
    assert len(answers) > len(OF_README) + 1
    assert all("mine.py:Mine" in said for said in answers.values() if "place" in said)


def test_the_files_for_kubernetes_fit_the_lock_file_and_one_another(owb: Shown) -> None:
    """The image is built on the Ray that `requirements.lock` names, every node has that image, and the head the
    store.
    """
    folder = ROOT / "docs" / "cluster"
    lock = (ROOT / "requirements.lock").read_text()
    (ray,) = re.findall(r"^ray==(\S+)", lock, re.MULTILINE)
    (python,) = re.findall(r"Python 3\.(\d+)", lock)
    image = (folder / "Dockerfile").read_text()
    assert f"\nFROM rayproject/ray:{ray}-py3{python}\n" in image
    (program,) = re.findall(r"^RUN (\S+)", image, re.MULTILINE)
    assert (ROOT / program).is_file()
    (tag,) = re.findall(r"--tag (\S+)", image)

    claim, job = yaml.safe_load_all((folder / "rayjob.yaml").read_text())
    spec = job["spec"]["rayClusterSpec"]
    assert (spec["rayVersion"], spec["authOptions"]) == (ray, {"mode": "token"})
    head, *workers = (each["template"]["spec"] for each in (spec["headGroupSpec"], *spec["workerGroupSpecs"]))
    assert {pod["containers"][0]["image"] for pod in (head, *workers)} == {tag}
    (volume,) = head["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert mount["name"] == volume["name"]
    command = job["spec"]["entrypoint"]
    assert f"--address auto --store {mount['mountPath']}" in command
    code, said = owb(f"{command.partition(' --address')[0]} --plan")
    assert code == 0, said


def test_every_reason_not_to_run_a_command_has_one() -> None:
    for start in NOT_RUN:
        assert any(re.match(start, command) for command in EVERY), start


def test_no_command_is_lost_after_a_block_of_python(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nowb\n```\nowb run a\n```\n$ owb run b  # c\nowb is said\n```\n```sh\nowb x && owb y\n```\n"
    )
    assert _commands(page) == ["owb run b", "owb is said", "owb x", "owb y"]


def test_the_component_of_its_page_changes_what_is_learned_and_nothing_at_weight_0(tmp_path: Path) -> None:
    (tmp_path / "calm.py").write_text(_block("components", "class Calm"), encoding="utf-8")

    def accuracy(components: str) -> float:
        return debug(f"cross-entropy[components='{components}']", BLOBS)["average_accuracy"]

    calm = f"{tmp_path}/calm.py:Calm"
    assert accuracy(f"{calm}[weight=0]") == accuracy("") != accuracy(f"{calm}[weight=1]")


def test_the_probe_of_its_page_keeps_what_is_asked_of_one(own_data: Path) -> None:
    probe = f"{own_data}/norms.py:Norms"
    figures = debug("fine-tune", BLOBS, probes=[probe, f"{probe}[power=2]"], probe_at="every=5")
    assert figures["probe/norm@asked"] > figures["probe/spread@asked"] > 0
    assert figures["probe/norm power-2.0@asked"] > figures["probe/norm@asked"] ** 2
    assert all(finding.holds for finding in check_probe(probe, FineTune, configured("scenario", BLOBS)))


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warm_ray: None) -> Notebook:
    """Return a notebook in an empty folder, with a cache of its own and no window to draw in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    matplotlib.use("Agg")
    return Notebook(monkeypatch)


def _cells(text: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(text)["cells"] if each["cell_type"] == "code"]


def _numbers(text: str) -> tuple[str, list[float]]:
    """Return a text without its numbers and digests, its words one space apart, and the numbers."""
    number = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e-?\d+)?"
    without = re.sub(r"classes/[0-9a-f]{12}", "classes/DIGEST", text)
    return " ".join(re.sub(number, "#", without).split()), [
        float(found) for found in re.findall(number, without)
    ]


def test_the_notebook_says_what_it_says_when_it_is_run(
    cell: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    """Word for word where another machine says the same, and figures to a tenth; pictures and tables of times, which
    it does not, are drawn.
    """
    compared = 0
    for each in _cells((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8")):
        value = cell("".join(each["source"]))
        printed = capsys.readouterr().out
        for output in each["outputs"]:
            text = output.get("text") or output["data"]["text/plain"]
            if "image/png" in output.get("data", {}):
                assert plt.get_fignums()
                continue
            now = printed or (repr(value) if not isinstance(value, str) else f"'{value}'")
            (words, figures), (said, found) = _numbers("".join(text)), _numbers(now)
            assert said == words
            assert found == pytest.approx(figures, abs=0.1)
            compared += 1
        plt.close("all")
    assert compared == 7
    assert cell["results"].frame()["status"].tolist() == ["done"] * 12
    assert "</table>" in cell["results"]._repr_html_()


def test_a_new_notebook_runs_as_it_stands(
    cell: Notebook, owb: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owb("owb new notebook my-own")[0] == 0
    for each in _cells(Path("my_own.ipynb").read_text(encoding="utf-8")):
        cell("".join(each["source"]).replace("seeds=3", "seeds=1, bounds=False"))
    assert cell["results"].frame()["status"].tolist() == ["done"] * 2
    plt.close("all")


def test_the_example_of_a_method_between_backward_pass_and_step_runs(tmp_path: Path) -> None:
    """Where it looks no further than a rounding error, it is the fine-tuning that it builds on."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class SAM" in code]
    (tmp_path / "sam.py").write_text(block, encoding="utf-8")
    near, far = (debug(f"{tmp_path}/sam.py:SAM[rho={rho}]", BLOBS) for rho in ("1e-9", "0.5"))
    assert near == pytest.approx(debug("fine-tune", BLOBS))
    assert near != far


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in _anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_file_of_ours_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = _names_of_ours(text)
    assert [name for name in named if name not in WRITTEN and not _is_there(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "harness/toolkit",
        "harness/contract.py",
        "harness.cell.sailing",
        "strategies.toolkit.augmentations.view_off",
        "benchmarks/no_such.py",
    ],
)
def test_a_name_that_leads_nowhere_is_noticed(name: str) -> None:
    assert _names_of_ours(f"see `{name}`.") == {name}
    assert not _is_there(name)


def _names_of_ours(text: str) -> set[str]:
    """Return the paths and modules of this project that `text` names, and what it imports from these;
    placeholders in capitals stand for any one.
    """
    imported = re.findall(r"^from ([\w.]+) import ([\w, ]+)$", text, flags=re.MULTILINE)
    found = re.findall(rf"(?<![\w/.-])(?:{'|'.join(PACKAGES)})[/.]\w[\w/.-]*", text)
    names = {name.rstrip("./-") for name in found} | {
        f"{module}.{name.strip()}" for module, listed in imported for name in listed.split(",")
    }
    return {name for name in names if name.startswith(PACKAGES)}


def _is_there(name: str) -> bool:
    if "/" in name:
        return any(ROOT.glob(re.sub(r"\b[A-Z]{2,}\b", "*", name)))
    module, _, last = name.rpartition(".")
    return _is_module(name) or (_is_module(module) and hasattr(importlib.import_module(module), last))


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_the_gallery_has_every_kind_of_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs/pictures")
    of_a_page = runpy.run_path(str(ROOT / "docs/pictures/gallery.py"))["PAGE"]
    page = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    shown = [path for path in (ROOT / "docs/pictures").glob("*.svg") if f"pictures/{path.name}" in page]
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/pictures").glob("*.py"))
    kinds = [name for name in (*line_plots.__all__, *matrix_plots.__all__) if name.islower()]
    assert [name for name in kinds if not re.search(rf"_plots\.{name}\(", scripts)] == []
    assert len(shown) >= len(kinds) + len(of_a_page) + 3  # of studies, and the badge
    for name in of_a_page:
        assert f"pictures/page-{name.removesuffix('-1')}.svg" in page


@pytest.mark.parametrize("path", sorted((ROOT / "docs/pictures").glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_of_the_docs_is_small_fetches_nothing_and_has_no_white_ground(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    addresses = {value for one in root.iter() for name, value in one.items() if name.endswith("href")}
    assert len(text) < 80_000
    assert [address for address in addresses if not address.startswith(("#", "data:image/png"))] == []
    assert not {"script", "foreignObject"} & {one.tag.rpartition("}")[2] for one in root.iter()}
    whole = [one for one in root.iter() if one.get("width") == root.get("width") and one is not root]
    assert [one for one in whole if re.search("#fff|white|255, 255, 255", str(one.attrib))] == []


def test_the_picture_and_the_page_of_the_rooms_have_every_room() -> None:
    drawn = runpy.run_path(str(ROOT / "docs/pictures/rooms.py"))
    assert (ROOT / "docs/pictures/rooms.svg").read_text(encoding="utf-8") == drawn["drawn"]()
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = " ".join(f"{room.folder} {room.holds}" for room in drawn["ROOMS"])
    for package in ("harness", "scenarios", "strategies", "leaderboards"):
        rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert rooms
        for room in rooms:
            assert re.search(rf"\b{room}\b", shown), f"{package}/{room} is not in the picture"
            assert re.search(rf"\b{room}\b", page), f"{package}/{room} is not on the page"


def test_no_room_of_the_picture_is_gone() -> None:
    for room in runpy.run_path(str(ROOT / "docs/pictures/rooms.py"))["ROOMS"]:
        package, _, rest = room.folder.partition(", ")[0].partition("/")
        assert "*" in rest or "<" in rest or (ROOT / package / rest).is_dir(), room.folder


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class _Page(HTMLParser):
    """Where a page leads, and what in it can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value for name, value in attrs if value}
        self.ids.add(own.get("id", ""))
        self.targets += [own[name] for name in ("href", "src") if name in own]
        if tag in ("script", "img") or own.get("rel") == "stylesheet":
            self.fetched += [own[name] for name in ("href", "src") if name in own]


def test_the_site_builds_without_a_dead_link_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers.python")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = {path: _Page(path) for path in tmp_path.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 50
    dead = set()
    for path, page in pages.items():
        assert [target for target in page.fetched if re.match("https?:|//", target)] == []
        for target in page.targets:
            if re.match("[a-z]+:|//", target):
                continue
            name, _, anchor = target.partition("#")
            there = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            is_there = there.exists() and (there not in pages or not anchor or anchor in pages[there].ids)
            dead |= set() if is_there else {f"{path.name}: {target}"}
    assert dead == set()
    shown = (tmp_path / "notebook.html").read_text(encoding="utf-8")
    assert shown.count('src="data:image/png;base64,') == 2
    assert all(
        text in shown for text in ("NearestMean", "is better than replay", "notebook.ipynb", "</table>")
    )
    assert {"openworld.run", "openworld.Results.frame"} <= pages[tmp_path / "api.html"].ids
    assert "harness.contracts.Strategy.load_state" in pages[tmp_path / "api-plugins.html"].ids
    found = json.loads((tmp_path / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any(entry["location"].startswith("glossary.html") for entry in found["docs"])


def test_the_reference_has_every_public_name() -> None:
    text = "".join(
        (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("api", "api-plugins")
    )
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)}
    assert set(openworld.__all__) <= shown
    metrics = {path.stem for path in (ROOT / "harness" / "metrics").glob("[a-z]*.py")}
    surface = {path.stem for path in (ROOT / "harness").glob("[a-z]*.py")} | metrics
    within = {"contracts", "errors", "parameters"}  # of these the names that authors use
    support = {"places", "stamps", "syntax"}  # for the harness itself
    assert surface - within - support <= shown
