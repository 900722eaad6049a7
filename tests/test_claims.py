"""What the pages say of one strategy against another is what the boards say, by the test that decides there:
paired by seed, Holm-corrected over all pairs.
"""

from __future__ import annotations

import ast
import itertools
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from checkout import ROOT

from harness.results.aggregate import Aggregate, aggregate
from harness.results.comparison import LEVEL, PairedComparison, metric_of, paired_comparison
from harness.results.ranking import Ranking
from harness.statistics import Comparison, compare_all
from leaderboards.publishing.board import read_board
from leaderboards.publishing.matchup_on_board import on_board

BOARDS = ROOT / "leaderboards" / "boards"
DIGITS, MNIST, ALL = "preset=digits", "preset=mnist5k", ""


def _happy(row: str, *, head: bool = False) -> str:
    return f"happy[preset=table5-{row}{',trainable=head' if head else ''}]"


def _with(component: str) -> str:
    return f"cross-entropy[components={component}]"


class Claim(NamedTuple):
    """A sentence on a page, and whom the first strategy beats in it: on the protocols named, and on no other of
    those `among`. Names of protocols are parts of their labels.
    """

    page: str
    sentence: str
    board: str
    first: str
    second: str
    told_on: tuple[str, ...]
    among: tuple[str, ...] = (ALL,)
    metric: str = ""


COMPONENTS, NOISY = "docs/components.md", ("symmetric",)
TEXTS, LETTERS = ("clinc150",), ("chars47",)
SMALL_TABLE = "[optimiser=adamw,lr=0.01,weight_decay=5"
ABLATION = "docs/category-discovery.md"
ALONE = "with 40 % wrong labels on digits co-teaching beats cross-entropy by 26.0 points"
CLAIMS = [
    Claim(
        "docs/results.md",
        "ELR beats cross-entropy by 17 to 45 points on all eight tracks",
        "noisy-labels",
        "elr",
        "cross-entropy",
        (ALL,),
    ),
    Claim(
        "docs/results.md",
        "ELR+ beats ELR by 6 to 23 on the four of MNIST; on digits,",
        "noisy-labels",
        "elr-plus",
        "elr",
        (MNIST,),
    ),
    Claim(
        "docs/results.md",
        "between nested co-teaching and co-teaching on any track, these seeds cannot tell",
        "noisy-labels",
        "nested-co-teaching",
        "co-teaching",
        (),
    ),
    Claim(
        "docs/noisy-labels.md",
        "ELR beats cross-entropy on all eight tracks",
        "noisy-labels",
        "elr",
        "cross-entropy",
        (ALL,),
    ),
    Claim(
        "docs/noisy-labels.md",
        "ELR+ beats ELR on the four of MNIST",
        "noisy-labels",
        "elr-plus",
        "elr",
        (MNIST,),
    ),
    Claim(
        "docs/noisy-labels.md",
        "Nested co-teaching is statistically indistinguishable from co-teaching on any track",
        "noisy-labels",
        "nested-co-teaching",
        "co-teaching",
        (),
    ),
    Claim(
        "docs/noisy-labels.md",
        "DivideMix beats ELR+ on MNIST at 60 %",
        "noisy-labels",
        "dividemix",
        "elr-plus",
        ("mnist5k,noise=symmetric[rate=0.6]",),
    ),
    Claim(
        "docs/noisy-labels.md",
        "it beats cross-entropy on two tracks of eight",
        "noisy-labels",
        "nested-dropout",
        "cross-entropy",
        ("digits,noise=symmetric[rate=0.4]", "mnist5k,noise=symmetric[rate=0.6]"),
    ),
    Claim(
        "docs/noisy-labels.md",
        "ELR+ is statistically indistinguishable from ELR",
        "noisy-labels-views",
        "elr-plus",
        "elr",
        (),
    ),
    Claim(
        "docs/noisy-labels.md",
        "DivideMix beats ELR under symmetric noise",
        "noisy-labels-views",
        "dividemix",
        "elr",
        ("symmetric",),
    ),
    Claim(
        "docs/noisy-labels.md",
        "augmentation ELR adds 6.7 points",
        "noisy-labels-views",
        "elr",
        "cross-entropy",
        (ALL,),
    ),
    Claim(
        "docs/noisy-labels.md",
        "self-distillation, which was made for clean labels, 6.2",
        "noisy-labels-views",
        "ps-kd",
        "cross-entropy",
        (ALL,),
    ),
    Claim(
        "docs/noisy-labels.md",
        "+11.1 [7.5, 14.7] over replay with cross-entropy",
        "noisy-stream",
        "replay[loss=gce]",
        "replay",
        (ALL,),
    ),
    Claim(
        "docs/small-loss.md",
        ALONE,
        "noisy-labels",
        "co-teaching",
        "cross-entropy",
        ("digits,noise=symmetric[rate=0.4]",),
        ("digits,noise=symmetric[rate=0.4]",),
    ),
    Claim(
        "docs/small-loss.md",
        "it is 71 ± 3 against 100.0 for the same network",
        "grokking-ci",
        f"cross-entropy{SMALL_TABLE}]",
        f"co-teaching{SMALL_TABLE},forget_rate=0.2]",
        (ALL,),
    ),
    *(
        Claim(
            "docs/results.md",
            "Happy beats SimGCD continued by 66.4 points of mean New and 20.6 of mean All, and every rival in both",
            "cgcd",
            "happy",
            rival,
            TEXTS,
            TEXTS,
            metric,
        )
        for rival in ("simgcd", "simgcd-lwf", "frost", "ss-k-means", "k-means", "nearest-prototype")
        for metric in ("mean_new", "mean_all")
    ),
    *(
        Claim(
            "docs/results.md",
            "On handwriting it finds more new classes than every rival",
            "cgcd",
            "happy",
            rival,
            LETTERS,
            LETTERS,
            "mean_new",
        )
        for rival in ("simgcd-lwf", "frost", "ss-k-means", "k-means", "nearest-prototype")
    ),
    *(
        Claim(
            "docs/results.md",
            "in mean All it is statistically indistinguishable from FRoST and semi-supervised k-means",
            "cgcd",
            "happy",
            rival,
            (),
            LETTERS,
            "mean_all",
        )
        for rival in ("frost", "ss-k-means")
    ),
    *(
        Claim(
            ABLATION,
            "in All the whole beats every row of parts",
            "cgcd-ablation",
            _happy("g"),
            _happy(row),
            (ALL,),
            metric="mean_all",
        )
        for row in "abcdef"
    ),
    *(
        Claim(
            ABLATION,
            "Happy beats SimGCD continued, in mean New by 66.4 points",
            "cgcd",
            "happy",
            "simgcd",
            TEXTS,
            TEXTS,
            metric,
        )
        for metric in ("mean_new", "mean_all")
    ),
    Claim(
        ABLATION,
        "prototypes add 2.7 [1.7, 3.7] to All",
        "cgcd-ablation",
        _happy("f"),
        _happy("d"),
        (ALL,),
        metric="mean_all",
    ),
    Claim(
        ABLATION,
        "nothing that five seeds can tell to New",
        "cgcd-ablation",
        _happy("f"),
        _happy("d"),
        (),
        metric="mean_new",
    ),
    Claim(
        ABLATION,
        "Initialisation alone adds nothing that five seeds can tell",
        "cgcd-ablation",
        _happy("d"),
        _happy("b"),
        (),
        metric="mean_all",
    ),
    Claim(
        ABLATION,
        "in New five seeds cannot tell (+5.9",
        "cgcd-ablation",
        _happy("g"),
        _happy("f"),
        (),
        metric="mean_new",
    ),
    Claim(
        ABLATION,
        "initialisation on top of it 3.8 [2.8, 4.9]",
        "cgcd-ablation",
        _happy("d", head=True),
        _happy("b", head=True),
        (ALL,),
        metric="mean_all",
    ),
    Claim(
        ABLATION,
        "and 15.1 [9.8, 20.3]",
        "cgcd-ablation",
        _happy("d", head=True),
        _happy("b", head=True),
        (ALL,),
        metric="mean_new",
    ),
    Claim(
        ABLATION,
        "rehearsal 4.4 [3.6, 5.1] in All",
        "cgcd-ablation",
        _happy("f", head=True),
        _happy("d", head=True),
        (ALL,),
        metric="mean_all",
    ),
    Claim(
        ABLATION,
        "the board cannot decide in All",
        "cgcd-ablation",
        _happy("f", head=True),
        _happy("g"),
        (),
        metric="mean_all",
    ),
    Claim(
        ABLATION,
        "training it forgets more old ones",
        "cgcd-ablation",
        _happy("f", head=True),
        _happy("g"),
        (ALL,),
        metric="mean_old",
    ),
    Claim(
        ABLATION,
        "whether it finds more new ones",
        "cgcd-ablation",
        _happy("g"),
        _happy("f", head=True),
        (),
        metric="mean_new",
    ),
    Claim(
        "docs/results.md",
        "On digits UNO beats k-means on the features of the known classes by 43.0 points",
        "ncd",
        "uno",
        "ncd-k-means",
        (DIGITS,),
    ),
    Claim(
        "docs/novel-classes.md",
        "UNO and Cr-KD at 0.02 beat k-means on digits",
        "ncd",
        "uno",
        "ncd-k-means",
        (DIGITS,),
    ),
    Claim(
        "docs/novel-classes.md",
        "UNO and Cr-KD at 0.02 beat k-means on digits",
        "ncd",
        "cr-kd[alpha=0.02]",
        "ncd-k-means",
        (DIGITS,),
    ),
    Claim(
        "docs/novel-classes.md",
        "Cr-KD at its published weight is statistically indistinguishable from it there",
        "ncd",
        "cr-kd",
        "ncd-k-means",
        (),
    ),
    *(
        Claim(
            "docs/novel-classes.md",
            "On texts all of them are statistically indistinguishable from k-means",
            "ncd",
            strategy,
            "ncd-k-means",
            (),
            (*TEXTS, *LETTERS),
        )
        for strategy in ("uno", "cr-kd[alpha=0.02]", "cr-kd")
    ),
    Claim(
        "docs/results.md",
        "on frozen word vectors it is statistically indistinguishable from it",
        "ncd",
        "uno",
        "ncd-k-means",
        (),
        (*TEXTS, *LETTERS),
    ),
    Claim(
        "docs/noisy-labels.md",
        "elsewhere they are statistically indistinguishable",
        "noisy-labels",
        "dividemix",
        "elr-plus",
        ("mnist5k,noise=symmetric[rate=0.6]",),
    ),
    Claim(
        "docs/noisy-labels.md",
        "without, it beats it by 22.5 and 6.5",
        "noisy-labels",
        "elr-plus",
        "elr",
        (MNIST,),
    ),
    *(
        Claim(
            ABLATION,
            "With three seeds the first three (ss-k-means, nearest-prototype, Happy) are statistically indistinguishable in mean All",
            "cgcd-unknown-k",
            first,
            second,
            (),
        )
        for first, second in itertools.combinations(("happy", "ss-k-means", "nearest-prototype"), 2)
    ),
    Claim(
        "docs/novel-classes.md",
        "no difference to UNO without over-clustering is visible at 0.02",
        "ncd",
        "cr-kd[alpha=0.02]",
        "uno[overcluster=0]",
        (),
    ),
    Claim(
        "docs/novel-classes.md", "in seeds too far apart to tell", "ncd", "uno[overcluster=0]", "cr-kd", ()
    ),
    Claim(
        "docs/results.md",
        "INP-Former is statistically indistinguishable from nearest patches",
        "anomaly",
        "patch-knn",
        "inp-former",
        (),
    ),
    Claim(
        "docs/results.md", "and, after correction, from PatchCore", "anomaly", "patchcore", "inp-former", ()
    ),
    Claim(
        "docs/anomaly-detection.md",
        "not after correction either (p 0.39 and 0.075)",
        "anomaly",
        "patchcore",
        "inp-former",
        (),
    ),
    Claim(
        "docs/anomaly-detection.md",
        "not after correction either (p 0.39 and 0.075)",
        "anomaly",
        "patchcore",
        "inp-former",
        (),
        metric="aupro",
    ),
    *(
        Claim(
            "docs/anomaly-detection.md",
            "Every strategy is above the colour baseline",
            "anomaly",
            strategy,
            "colour-statistics",
            (ALL,),
        )
        for strategy in (
            "patchcore",
            "inp-former",
            "pixel-autoencoder",
            "padim",
            "patch-gaussian",
            "image-distance",
            "patch-knn",
        )
    ),
    Claim(
        "docs/anomaly-detection.md",
        "after correction five seeds tell neither",
        "anomaly-continual",
        "inp-former[stored=8]",
        "inp-former",
        (),
        metric="forgetting",
    ),
    Claim(
        "docs/anomaly-detection.md",
        "after correction five seeds tell neither",
        "anomaly-continual",
        "patchcore[memory=budget]",
        "patchcore[memory=replace]",
        (),
        metric="forgetting",
    ),
    Claim(
        COMPONENTS,
        "a quarter of the learning rate beats cross-entropy by 18.1 points under 60 % noise; under 40 % the difference is 16.8 and is not told apart (p 0.055)",
        "components",
        _with("rate[factor=0.25]"),
        "cross-entropy",
        ("symmetric[rate=0.6]",),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "soft labels of teachers that stopped early beat cross-entropy by 24.2 and 41.2 points",
        "components",
        _with("early-teacher"),
        "cross-entropy",
        NOISY,
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "is told apart from them on no track",
        "components",
        _with("distil"),
        _with("early-teacher"),
        (),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "loses to them by 37.9 points under 60 % noise",
        "components",
        _with("early-teacher"),
        _with("region-labels"),
        ("symmetric[rate=0.6]",),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "Dropout of one rate beats cross-entropy by 24.6 and 34.2 points",
        "components",
        _with("fixed-dropout"),
        "cross-entropy",
        NOISY,
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "tuning it while training (`self-tuning`) is told apart from that on no track",
        "components",
        _with("self-tuning"),
        _with("fixed-dropout"),
        (),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "Masks whose law is learned (`noise-mask`) are told apart from masks of a fixed law on no track",
        "components",
        _with("noise-mask"),
        _with("fixed-mask"),
        (),
        (ALL,),
        "",
    ),
    *(
        Claim(
            COMPONENTS,
            "at a quarter of the rate cross-entropy repeats 28 and 35 % of the wrong labels, and 100 % with either",
            "components",
            _with("rate[factor=0.25]"),
            _with(f"{component}+rate[factor=0.25]"),
            NOISY,
            NOISY,
            "memorised",
        )
        for component in ("crrelu", "compander")
    ),
    *(
        Claim(
            COMPONENTS,
            "Two bits a weight and `shrink` memorise less (by 35.5 and 33.7, 63.1 and 67.7 points)",
            "components",
            _with(component),
            "cross-entropy",
            NOISY,
            NOISY,
            "memorised",
        )
        for component in ("quantise[bits=2]", "shrink")
    ),
    Claim(
        COMPONENTS,
        "in accuracy only `shrink` under 60 % noise is told apart from cross-entropy, by 13.0",
        "components",
        _with("shrink"),
        "cross-entropy",
        ("symmetric[rate=0.6]",),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "in accuracy only `shrink` under 60 % noise is told apart from cross-entropy, by 13.0",
        "components",
        _with("quantise[bits=2]"),
        "cross-entropy",
        (),
        (ALL,),
        "",
    ),
    Claim(
        COMPONENTS,
        "with noisy ones its mean is 9.7 and 5.7 points below cross-entropy, which the test does not tell apart",
        "components",
        _with("hyper-clean"),
        "cross-entropy",
        (),
        NOISY,
        "",
    ),
    *(
        Claim(
            COMPONENTS,
            "Starts (`critical`, `gg-start`, `max-update`), pretexts and random teachers are overrun: none is told apart from cross-entropy on any track",
            "components",
            _with(component),
            "cross-entropy",
            (),
        )
        for component in ("critical", "gg-start", "max-update", "pretext", "random-teacher")
    ),
]


SAID_OTHERWISE = (
    "Two strategies share a letter exactly when they are statistically indistinguishable",
    "nothing here was told to beat it",
    "two methods share a letter where they are statistically indistinguishable",
    '"statistically indistinguishable" are meant by the test',
    '"beats" in these pages means by that test',
    '"beats" below goes by it',
    "whoever beats chance there leaks",
    "Nobody beats chance on a table without a rule",
)
"""What speaks of comparisons, or of chance, and says of no strategy that it is better than another."""


@cache
def _verdicts(board: str, first: str, second: str, metric: str = "") -> list[PairedComparison]:
    matchups = on_board(BOARDS / board, (first, second))
    found = [
        paired_comparison(matchup, metric_of(matchup.metrics, metric, matchup.label)) for matchup in matchups
    ]
    return [each for each in found if each is not None]


@cache
def _text(page: str) -> str:
    return " ".join((ROOT / page).read_text(encoding="utf-8").replace("**", "").split())


PAGES = [
    page
    for page in ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    if page not in ("docs/gallery.md", "docs/glossary.md")
]


@pytest.mark.parametrize("page", PAGES)
def test_every_comparison_of_strategies_on_a_page_is_held_to_its_board(page: str) -> None:
    """Each is quoted in this file: by a claim, by a test of its own, or as no comparison."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    quoted = {value for value in constants if isinstance(value, str)}
    text, compares = _text(page), re.compile(r"\bbeats?\b|\bindistinguishable\b")
    held = [
        found.span()
        for sentence in quoted
        if len(sentence) > 20 and sentence != "statistically indistinguishable" and compares.search(sentence)
        for found in re.finditer(re.escape(sentence), text)
    ]
    loose = [
        text[max(0, found.start() - 60) : found.end() + 60]
        for found in compares.finditer(text)
        if not any(start <= found.start() < end for start, end in held)
    ]
    assert loose == []


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.first} {claim.second} {claim.metric}")
def test_a_strategy_beats_another_where_the_pages_say_so_and_nowhere_else(claim: Claim) -> None:
    assert claim.sentence in _text(claim.page)
    asked = [
        each
        for each in _verdicts(claim.board, claim.first, claim.second, claim.metric)
        if any(part in each.scenario for part in claim.among)
    ]
    assert asked
    for each in asked:
        is_told = any(part in each.scenario for part in claim.told_on)
        assert each.p_holm is not None
        assert (each.p_holm <= 1 - LEVEL) is is_told, each.words
        if is_told:
            assert each.words.startswith(f"{claim.first} is better than {claim.second}")


@pytest.mark.parametrize(
    ("page", "board", "columns"),
    [
        (
            "docs/noisy-labels.md",
            "noisy-labels",
            [
                ("elr", "cross-entropy"),
                ("elr-plus", "elr"),
                ("co-teaching", "cross-entropy"),
                ("nested-co-teaching", "co-teaching"),
            ],
        )
    ],
)
def test_a_table_of_differences_is_the_boards(page: str, board: str, columns: list[tuple[str, str]]) -> None:
    """The lines of the table are the protocols in the board's order."""
    lines = re.findall(
        r"^\| (?:digits|mnist5k), .*$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    shown = [re.findall(r"[+-][\d.]+ \[-?[\d.]+, -?[\d.]+\]", line) for line in lines]
    expected = [[_span(each) for each in _verdicts(board, *sides)] for sides in columns]
    assert shown == [list(line) for line in zip(*expected, strict=True)]


def test_the_table_of_novel_classes_is_the_boards() -> None:
    text = (ROOT / "docs/novel-classes.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([^|]+) - ([^|]+) \| (.*) \|$", text, re.MULTILINE)
    assert len(lines) == 5
    for first, second, cells in lines:
        assert cells.split(" | ") == [_span(each) for each in _verdicts("ncd", first, second)]


def test_the_table_of_components_is_the_boards() -> None:
    text = (ROOT / COMPONENTS).read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([^`]+)` \| ([\d.]+ \| .*) \|$", text, re.MULTILINE)
    shown = {
        name if name in ("joint", "cross-entropy") else _with(name): cells.split(" | ")
        for name, cells in lines
    }
    expected: dict[str, list[str]] = {}
    rankings = read_board(BOARDS / "components").rankings()
    for metric, digits, own in (("tail_accuracy", 1, rankings), ("memorised", 0, rankings[:2])):
        for ranking in own:
            for row in ranking.rows:
                mean = 100 * row.intervals[metric].mean
                expected.setdefault(row.strategy, []).append(f"{mean:.{digits}f}")
    assert shown == expected


def _span(found: PairedComparison) -> str:
    return f"{100 * found.difference:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def test_no_two_weights_of_cr_kd_are_told_apart_on_digits() -> None:
    assert "five seeds tell no two of the six weights apart" in _text("docs/novel-classes.md")
    (ranking,) = read_board(BOARDS / "ncd-alpha").rankings()
    assert len(ranking.leaders) == 6
    assert {row.letters for row in ranking.rows if row.role == "contender"} == {("a",)}


def test_six_are_not_told_from_the_matrix_that_is_told() -> None:
    assert "six others are statistically indistinguishable from it, ELR among them" in _text(
        "docs/noisy-labels.md"
    )
    pair = next(
        each for each in read_board(BOARDS / "noisy-labels-views").rankings() if "noise=pair" in each.scenario
    )
    assert pair.best == "loss-correction[matrix=told]"
    assert len(pair.leaders) == 7
    assert "elr" in pair.leaders


def test_what_is_memorised_lies_in_the_ranges_that_the_page_gives() -> None:
    assert "Cross-entropy ends with 93 to 100 % of the wrong labels memorised, ELR+ with 1 to 16 %" in _text(
        "docs/noisy-labels.md"
    )
    shares: dict[str, list[float]] = {"cross-entropy": [], "elr-plus": []}
    for ranking in read_board(BOARDS / "noisy-labels").rankings():
        for row in ranking.rows:
            if row.strategy in shares:
                shares[row.strategy].append(100 * row.intervals["memorised"].mean)
    assert [f"{min(own):.0f} to {max(own):.0f}" for own in shares.values()] == ["93 to 100", "1 to 16"]


# --- boards -------------------------------------------------------------------------------------------------


def _tables(board: str) -> list[Ranking | Aggregate]:
    rankings = read_board(BOARDS / board).rankings()
    return [*rankings, *([aggregate(rankings)] if len(rankings) > 1 else [])]


def _compared(table: Ranking | Aggregate) -> dict[tuple[str, str], Comparison]:
    """Return the test of all pairs, made anew; an aggregate does not hold the figures by seed."""
    if isinstance(table, Aggregate):
        return {}
    return compare_all(
        {
            row.strategy: [row.figures[table.primary.name][seed] for seed in table.seeds]
            for row in table.rows
            if row.letters
        }
    )


def _range(place: str) -> tuple[int, int]:
    first, _, last = place.partition("-")
    return int(first), int(last or first)


@pytest.mark.parametrize("board", sorted(path.parent.name for path in BOARDS.glob("*/protocol.yaml")))
def test_no_board_calls_tied_what_its_test_tells_apart_nor_apart_what_it_does_not(board: str) -> None:
    for table in _tables(board):
        rows = [row for row in table.rows if row.letters]
        compared = _compared(table)
        for first, second in itertools.combinations(rows, 2):
            shares = bool(set(first.letters) & set(second.letters))
            (top, bottom), (next_top, next_bottom) = _range(first.place), _range(second.place)
            if compared:
                assert shares is not (compared[first.strategy, second.strategy].p <= 0.05)
            if not shares:
                assert top < next_top
                assert bottom < next_bottom
            if bottom < next_top:
                assert not shares
        assert set(table.leaders) == {row.strategy for row in rows if set(row.letters) & set(rows[0].letters)}
