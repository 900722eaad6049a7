"""What a protocol says of weights that its network starts from: their digest, what they were trained on, what
of it is asked here.

A backbone names them in brackets: `timm:NAME[weights=FILE,pretrained_on=ImageNet-1k,overlap=partial]`, or
`pretrained=true` for timm's own, which lie in the cache of huggingface_hub. Only networks with weights say
anything, so that all other protocols keep their hash.

`overlap` is whether what the weights were trained on holds classes that the protocol calls novel. It cannot
be measured here, so the one who names the weights declares it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.places import below_data
from harness.stamps import Stamp, stamp_of
from harness.syntax import single

OVERLAPS = ("unknown", "none", "partial", "full")


def declared_weights(backbone: str) -> dict[str, str]:
    """Return sha256, pretrained_on and overlap of the weights that `backbone` names; nothing where it names
    none.

    Raises:
        UserError: no such file, a digest other than `sha256` says, an `overlap` that is no such word, or one
        of no weights.
    """
    selection = single(backbone)
    params = selection.params
    if not params.get("weights") and params.get("pretrained") is not True:
        for name in ("pretrained_on", "overlap"):
            if name in params:
                raise UserError(f"{backbone} says {name} and names no weights that it could speak of")
        return {}
    overlap = selection.text("overlap") or OVERLAPS[0]
    if overlap not in OVERLAPS:
        raise UserError(f"overlap of {backbone} should be one of {', '.join(OVERLAPS)}, got {overlap!r}")
    file = located(selection.text("weights")) if params.get("weights") else fetched(selection.name)
    digest = digest_of(file, selection.text("sha256"))
    return {"sha256": digest, "pretrained_on": selection.text("pretrained_on"), "overlap": overlap}


def located(file: str) -> Path:
    """Return where a weights file lies; a relative one counts from OWB_DATA where that is set."""
    return below_data(file)


class TimmsWeights(NamedTuple):
    """Timm's own weights of a model: where they come from, and the file in the cache of huggingface_hub, None
    where it is not there.
    """

    repository: str
    name: str
    cached: Path | None


def timms_weights(model: str) -> TimmsWeights:
    """Look for timm's own weights of a model on this disk.

    Raises:
        UserError: timm has none.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    known: Any = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    if known is None or not known.hf_hub_id:
        raise UserError(
            f"timm has no weights of its own for {model}, so pretrained=true means nothing; say weights=FILE"
        )
    name = known.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(known.hf_hub_id, name)
    return TimmsWeights(known.hf_hub_id, name, Path(cached) if isinstance(cached, str) else None)


def fetched(backbone: str) -> Path:
    """Return timm's own weights of `timm:NAME`, fetched by huggingface_hub where its cache lacks them.

    Raises:
        UserError: timm has none, or they cannot be fetched.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    model = backbone.removeprefix("timm:")
    repository, name, cached = timms_weights(model)
    if cached is not None:
        return cached
    try:
        get_hf_file_metadata(
            hf_hub_url(repository, name)
        )  # asks once, where the download would try for half a minute
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # offline, refused, gone: each library below has exceptions of its own
        raise UserError(
            f"cannot fetch timm's weights of {model} ({type(error).__name__}): where there is a network, "
            f"download {name} from "
            f"huggingface.co/{repository}, and say weights=FILE instead of pretrained=true"
        ) from None


def digest_of(file: Path, expected: str = "") -> str:
    """Return the SHA-256 of a weights file.

    Raises:
        UserError: it cannot be read, or its digest does not begin with `expected`.
    """
    try:
        stamp = stamp_of(file)
        digest = _read(file) if stamp is None else _known(file.resolve(), stamp)
    except OSError as error:
        raise UserError(f"cannot read weights file {file}: {error.strerror or error}") from None
    if not digest.startswith(expected.lower()):
        raise UserError(f"weights file {file}: digest {digest[:16]} where {expected[:16]} is expected")
    return digest


@lru_cache(maxsize=64)
def _known(file: Path, stamp: Stamp) -> str:
    """Return the SHA-256 of a file, read again only where its stamp differs."""
    return _read(file)


def _read(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
