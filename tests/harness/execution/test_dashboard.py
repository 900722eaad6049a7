"""Ray's dashboard and its exporter of metrics, where the installed Ray has them, and one sentence where it has not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from runs import BLOBS, world

OWB = [sys.executable, "-c", "from harness.cli import main; main()"]
HAS_EXTRA = all(find_spec(name) for name in ("aiohttp_cors", "opencensus", "prometheus_client"))


@pytest.fixture
def temporary() -> Iterator[str]:
    """Return a folder for Ray with a short name: a socket's path may have 107 letters."""
    with tempfile.TemporaryDirectory(prefix="owb-ray-", ignore_cleanup_errors=True) as folder:
        yield folder


def _run(folder: Path, temporary: str, *words: str) -> subprocess.Popen[str]:
    strategy = f"{world('Announces')}[mark={folder / 'mark'},pause=3.0]"
    return subprocess.Popen(
        [*OWB, "run", strategy, "-s", BLOBS, "--no-bounds", "--workers", "1", "--dashboard", *words],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": temporary,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _got(address: str, token: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urlopen(Request(address, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.slow
@pytest.mark.skipif(HAS_EXTRA, reason="ray[default] is installed")
def test_a_ray_without_a_dashboard_is_one_sentence(tmp_path: Path, temporary: str) -> None:
    run = _run(tmp_path, temporary, "-n", "1")
    _, said = run.communicate(timeout=200)
    assert (run.returncode, said.count("\n")) == (2, 1), said
    assert said.startswith("error: the Ray that is installed here has no dashboard (No module named ")
    assert said.endswith('): pip install "ray[default]"\n')


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not HAS_EXTRA, reason="needs ray[default]")
def test_the_dashboard_is_there_for_who_has_the_token_and_the_run_is_measured(
    tmp_path: Path, temporary: str
) -> None:
    run = _run(tmp_path, temporary, "-n", "5")
    try:
        assert run.stderr is not None
        said = run.stderr.readline()
        found = re.fullmatch(
            r"Ray's dashboard: (http://127\.0\.0\.1:\d+); it asks for this token: (\w+)\n", said
        )
        assert found, said
        with pytest.raises(HTTPError, match="401"):
            _got(f"{found[1]}/api/version")
        assert json.loads(_got(f"{found[1]}/api/version", found[2]))["ray_version"]
        kept = Path(temporary, "ray", "prom_metrics_service_discovery.json")
        lines: list[str] = []
        deadline = time.monotonic() + 200
        while not any(line.startswith("ray_owb_cells_ended_total{") for line in lines):
            assert time.monotonic() < deadline, lines
            time.sleep(0.5)
            places = json.loads(kept.read_text()) if kept.is_file() else []
            offered = [_got(f"http://{each}/metrics") for place in places for each in place["targets"]]
            lines = [line for text in offered for line in text.splitlines() if line.startswith("ray_owb_")]
    finally:
        run.kill()
    names = {line.partition("{")[0] for line in lines}
    assert {"ray_owb_cells", "ray_owb_stage_seconds_count", "ray_owb_stage_seconds_sum"} <= names
    assert any('status="done"' in line for line in lines if line.startswith("ray_owb_cells_ended_total{"))
    assert any('state="running"' in line and line.endswith(" 1.0") for line in lines)
