"""The shell steps of the workflows run, over local repositories in place of the host; what they install is
pinned by hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import forgeries
import pytest
from checkout import ROOT
from forgeries import World
from workflow_steps import WORKFLOWS, Job, run_job, workflow

from leaderboards.publishing.check import check_board

LOCK = ROOT / "requirements.lock"
INSTALL = "bash .ci/install"
MINE = "submissions/mine"


class Host:
    """A bare repository, which holds what the gate, the pages and the tiny board are made from, and pull
    requests to it as branches.
    """

    def __init__(self, folder: Path, made: World) -> None:
        self.folder, self.bare, self.clone = folder, folder / "host.git", folder / "clone"
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), at=folder)
        self.git("clone", "-q", str(self.bare), str(self.clone), at=folder)
        for name in (".ci", ".github", "docs"):
            shutil.copytree(ROOT / name, self.clone / name)
        shutil.copy(ROOT / "mkdocs.yml", self.clone)
        shutil.copytree(made.board, self.clone / "leaderboards" / "boards" / "tiny")
        self.base = self.push("main")

    def git(self, *words: str, at: Path | None = None) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        said = subprocess.run(
            ["git", "-C", str(at or self.clone), *who, *words], check=True, capture_output=True, text=True
        )
        return said.stdout.strip()

    def push(self, branch: str) -> str:
        """Commit everything in the clone and push it; return the commit."""
        self.git("checkout", "-q", "-B", branch)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        self.git("push", "-q", "origin", branch)
        return self.git("rev-parse", "HEAD")

    def checkout(self, workspace: Path, said: Mapping[str, str]) -> None:
        """Stand for actions/checkout."""
        path = workspace / said.get("path", ".")
        self.git("clone", "-q", said.get("repository") or str(self.bare), str(path), at=self.folder)
        self.git("checkout", "-q", said.get("ref", self.base), at=path)

    def run(self, name: str, job: str, head: str = "") -> Job:
        """Run a job on this host, after a pull request whose last commit is `head`."""
        values = {
            "github.sha": self.base,
            "github.event.workflow_run.head_repository.full_name": str(self.bare),
            "github.event.workflow_run.head_sha": head,
        }
        actions = {
            "actions/checkout": self.checkout,
            "actions/setup-python": lambda workspace, said: None,
            "actions/upload-artifact": lambda workspace, said: None,
        }
        titles = [
            step.get("name", "")
            for step in workflow(name)["jobs"][job]["steps"]
            if step.get("run") == INSTALL
        ]
        lend = [
            step.get("name", step["run"]) for step in _shell(name, job) if step["run"].startswith("sudo ")
        ]
        return run_job(
            name, job, self.folder / "work", values=values, actions=actions, without=[INSTALL, *titles, *lend]
        )


def _shell(name: str, job: str) -> list[dict[str, str]]:
    return [step for step in workflow(name)["jobs"][job]["steps"] if "run" in step]


@pytest.fixture(scope="module")
def made() -> World:
    return forgeries.world()


@pytest.fixture
def host(made: World, tmp_path: Path) -> Host:
    return Host(tmp_path, made)


# --- the steps run ------------------------------------------------------------------------------------------


def test_a_submission_goes_through_the_steps_of_the_gate(host: Host, made: World) -> None:
    forgeries.copies(made.submissions["first"], host.clone / MINE)
    job = host.run("leaderboard.yml", "gate", host.push("mine"))
    assert not job.failed, job.said
    assert "Passed: nothing to object to." in job.said
    assert sorted(path.name for path in (host.folder / "work" / "report").iterdir()) == [
        "mine.json",
        "mine.txt",
    ]
    assert job.ran[-1] == "actions/upload-artifact"


def test_a_forgery_fails_the_job_and_its_report_is_kept_all_the_same(host: Host, made: World) -> None:
    forgeries.edited_metric(forgeries.copies(made.submissions["first"], host.clone / MINE))
    job = host.run("leaderboard.yml", "gate", host.push("mine"))
    assert job.failed
    assert job.ran[-2:] == ["Verify every changed submission", "actions/upload-artifact"]
    assert "is stated as 0.999" in (host.folder / "work" / "report" / "mine.txt").read_text()


def test_a_pull_request_that_changes_no_submission_is_let_through_unverified(host: Host) -> None:
    (host.clone / "docs" / "run.md").write_text("# Run it\n")
    job = host.run("leaderboard.yml", "gate", host.push("mine"))
    assert not job.failed, job.said
    assert job.ran[2:] == [
        "See whether it changes a submission, a board or a suite; what cannot be told is looked at",
        "actions/upload-artifact",
    ]


def test_cells_of_the_committed_boards_run_again(host: Host) -> None:
    job = host.run("leaderboard.yml", "boards")
    assert not job.failed, job.said
    assert "Board tiny: " in job.said


def test_the_pages_are_built_and_packed(host: Host) -> None:
    where = re.findall(r"^(?:docs_dir|site_dir): .*$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    (host.clone / "mkdocs.yml").write_text(
        "\n".join(["site_name: one page", "use_directory_urls: false", *where])
    )
    shutil.rmtree(host.clone / "docs")  # tests/test_docs.py builds all of it
    (host.clone / "docs").mkdir()
    (host.clone / "docs" / "index.md").write_text("# One page\n")
    host.base = host.push("main")
    job = host.run("pages.yml", "build")
    assert not job.failed, job.said
    with tarfile.open(host.folder / "work-temporary" / "artifact.tar") as archive:
        names = set(archive.getnames())
        index = archive.extractfile("./index.html")
        assert index is not None
        assert b'<a href="docs/index.html">Documentation</a>' in index.read()
    assert {"./docs/index.html", "./tiny/index.html", "./tiny/badges/replay.svg"} <= names


def test_what_a_pull_request_starts_does_nothing(host: Host) -> None:
    assert host.run("submission.yml", "handed-in").ran == ["true"]


# --- what they may, and what they install -------------------------------------------------------------------


def test_whoever_publishes_pages_runs_nothing_of_the_project_and_only_the_default_branch_is_published() -> (
    None
):
    jobs = workflow("pages.yml")["jobs"]
    assert workflow("pages.yml")["permissions"] == {"contents": "read"}
    assert "permissions" not in jobs["build"]
    assert jobs["build"]["if"] == "github.ref_name == github.event.repository.default_branch"
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert [step["uses"].partition("@")[0] for step in jobs["deploy"]["steps"]] == ["actions/deploy-pages"]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_workflows_install_by_hash_alone(path: Path) -> None:
    steps = [step for job in workflow(path.name)["jobs"].values() for step in job["steps"] if "run" in step]
    for step in steps:
        if "pip install" in step["run"]:
            assert "--require-hashes" in step["run"]
        assert "${{" not in step["run"]  # whatever comes from outside reaches no shell as text


def _named(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


def test_the_lock_holds_a_hash_for_all_that_the_project_needs_in_the_tested_versions() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    form = re.compile(r"([\w.-]+)==([\w.]+) --hash=sha256:[0-9a-f]{64}")
    found = {_named(match[1]): match[2] for line in lines if (match := form.fullmatch(line))}
    assert len(found) == len(lines)
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    versions = {_named(name): version for name, version in tested.items()}
    assert {name: version for name, version in found.items() if name != "setuptools"} == {
        name: version for name, version in versions.items() if name != "faiss-gpu"
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["data"], *extras["dev"]]
    assert {_named(each) for each in wanted} <= found.keys()


def test_pip_refuses_a_file_with_another_hash(tmp_path: Path) -> None:
    """The very option of the workflows, on a package made here, without an index."""
    wheel = tmp_path / "nothing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nothing-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1\n")
        archive.writestr("nothing-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("nothing-1.dist-info/RECORD", "")
    lock = tmp_path / "lock"
    call = [
        "python3",
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-index",
        "--find-links",
        str(tmp_path),
    ]
    call += ["--target", str(tmp_path / "there"), "--requirement", str(lock)]

    def installed(digest: str) -> subprocess.CompletedProcess[str]:
        lock.write_text(f"nothing==1 --hash=sha256:{digest}\n")
        return subprocess.run(call, capture_output=True, text=True, check=False)

    refused = installed("0" * 64)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert installed(forgeries.sha256(wheel)).returncode == 0


# --- from a fork to the first accepted submission -----------------------------------------------------------


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_ten_commands_for_maintainers_lead_to_an_accepted_submission(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page shows them, but for what is installed. Git takes the local repository for the host's."""
    commands = re.sub(r"\s*\\\n\s*", " ", _blocks("maintain.md", "sh")[0]).splitlines()
    assert len(commands) == 10
    clone, install, *rest = commands
    address = clone.split()[2]
    settings = {
        f"url.{host.bare}.insteadOf": address,
        "user.name": "A. Person",
        "user.email": "a@example.org",
        "commit.gpgsign": "false",
    }
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OWB_STORE", raising=False)
    said = {}
    place = tmp_path / "me" / Path(address).name
    place.parent.mkdir()

    def run(command: str, at: Path = place) -> None:
        ended = subprocess.run(
            ["bash", "-e", "-c", command], cwd=at, capture_output=True, text=True, check=False
        )
        said[command] = ended.stdout + ended.stderr
        assert ended.returncode == 0, f"{command}\n{said[command]}"

    assert INSTALL in install
    run(clone, place.parent)
    (place / "mine.yaml").write_text(_blocks("maintain.md", "yaml")[0])
    for command in rest[:2]:
        run(command)
    host.base = host.git("rev-parse", "main", at=host.bare)
    for command in rest[2:5]:
        run(command)
    job = host.run("leaderboard.yml", "gate", host.git("rev-parse", "mine", at=host.bare))
    assert not job.failed, job.said
    run("git push --quiet origin mine:main")  # what the host does where a pull request is merged
    for command in rest[5:]:
        run(command)
    assert rest[7].removesuffix(" && git push") in said[rest[6]]
    listed = host.git("ls-tree", "-r", "--name-only", "main", at=host.bare).splitlines()
    assert "leaderboards/boards/mine/accepted.yaml" in listed
    assert not any(name.startswith("submissions/") for name in listed)
    assert host.git("status", "--porcelain", "--untracked-files=no", at=place) == ""
    assert check_board(place / "leaderboards" / "boards" / "mine") == []
