"""A page says from which weights a protocol's network starts, where it starts from some, in the words of the
board's README.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from checkout import ROOT

from harness.contracts import Status
from harness.store.record import Record
from leaderboards.publishing.board import read_board
from leaderboards.publishing.readme import division
from leaderboards.site import page_of_records, report_of_board
from leaderboards.site.cards import card_of_protocol
from leaderboards.site.pages import HTML, files_of

BOARD = ROOT / "leaderboards" / "boards" / "ncd"
DIGEST = "0123456789abcdef" * 4


def _paragraphs(page: str) -> list[str]:
    """Return the text of the paragraphs on divisions, without markup."""
    found = re.findall(r"<p>(Division: .*?)</p>", page)
    return [re.sub(r"</?code[^>]*>", "", each) for each in found]


def _page(network: str) -> str:
    scenario = f"class-incremental[backbone={network}]"
    records = [
        Record(
            key=label,
            run_id="",
            protocol_hash="p",
            scenario=scenario,
            strategy=label,
            seed=0,
            status=Status.DONE,
            reason="",
            metrics={"average_accuracy": 0.5, "forgetting": 0.1},
            seconds=1.0,
            peak_mib=1.0,
            params={"lr": "1"},
        )
        for label in ("fine-tune", "joint")
    ]
    return page_of_records(records, name="x")[HTML]


@pytest.mark.parametrize(
    ("said", "trained"),
    [("<b>ImageNet</b> & more", "&lt;b&gt;ImageNet&lt;/b&gt; &amp; more"), ("", "data that are not said")],
)
def test_a_board_says_what_its_readme_says(said: str, trained: str) -> None:
    protocol = read_board(BOARD).header.protocols[0]
    weights = {"sha256": DIGEST, "pretrained_on": said, "overlap": "partial"}
    apart = protocol.model_copy(update={"content": {**protocol.content, "weights": weights}})
    report = report_of_board(BOARD, curves=False)
    first, *others = report.sections
    page = files_of(replace(report, sections=[replace(first, card=card_of_protocol(apart)), *others]))[HTML]
    assert _paragraphs(page) == [
        f"Division: weights {DIGEST[:12]} pretrained on {trained}, overlap with novel classes: partial."
    ]
    if not said:
        assert _paragraphs(page) == [division(apart).replace("`", "").strip()]
    assert _paragraphs(files_of(report)[HTML]) == []


def test_records_say_what_their_protocol_declares_without_a_look_at_the_file() -> None:
    page = _page("timm:resnet18[weights=gone.pth,pretrained_on=<i>Places</i>,overlap=full]")
    assert _paragraphs(page) == [
        "Division: weights pretrained on &lt;i&gt;Places&lt;/i&gt;, overlap with novel classes: full."
    ]
    own = _page("timm:resnet18[pretrained=true]")
    assert _paragraphs(own) == [
        "Division: weights pretrained on data that are not said, overlap with novel classes: unknown."
    ]
    assert _paragraphs(_page("resnet18-cifar")) == []
