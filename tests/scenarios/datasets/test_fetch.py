"""`owb data fetch` against a real server on this machine: whole or not at all, whatever the server, the
archive or the disk does.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import importlib
import io
import os
import resource
import shutil
import socket
import tarfile
import tempfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import disk_formats as formats
import pytest
from runs import Owb

from harness.errors import UserError
from scenarios.datasets.on_disk import download as downloads
from scenarios.datasets.on_disk.cifar import Cifar100
from scenarios.datasets.on_disk.fine_grained import Aircraft
from scenarios.datasets.on_disk.idx import Emnist, Mnist
from scenarios.datasets.on_disk.place import OnDisk
from scenarios.datasets.on_disk.svhn import SVHN
from scenarios.datasets.on_disk.unpack import unpack

ARCHIVE = "cifar-100-python.tar.gz"


@dataclass
class Site:
    """A publisher: what it has, how it misbehaves, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """How many bytes each further answer ends after."""
    failures: list[int] = field(default_factory=list)
    """Codes of the next answers."""
    ranges: bool = True
    leads: dict[str, str] = field(default_factory=dict)
    """Where a file has moved."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def transfers(self) -> list[str | None]:
        """Return the ranges that were asked for, but for the look at the size."""
        return [wanted for _, wanted in self.asked if wanted != "bytes=0-0"]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append((self.path, wanted))
            if site.failures and wanted != "bytes=0-0":
                self.send_error(site.failures.pop(0))
                return
            content = site.files.get(self.path.lstrip("/"))
            if self.path.lstrip("/") in site.leads:
                self.send_response(302)
                self.send_header("Location", site.leads[self.path.lstrip("/")])
                self.end_headers()
                return
            if content is None:
                self.send_error(404)
                return
            first = 0
            if wanted and site.ranges:
                first, _, last = wanted.removeprefix("bytes=").partition("-")  # type: ignore[assignment]
                first = int(first)
                if first >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                rest = content[first : int(last) + 1 if last else len(content)]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(rest) - 1}/{len(content)}")
            else:
                rest = content
                self.send_response(200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            cuts = site.cuts.get(self.path.lstrip("/"), [])
            self.wfile.write(rest[: cuts.pop(0)] if cuts and wanted != "bytes=0-0" else rest)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing of a client that hangs up, which the tests want and which would go to their
            standard error.
            """

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setenv("OWB_MIRROR", site.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "PAUSES_S", (0.0, 0.0, 0.0))
    yield site
    server.shutdown()
    server.server_close()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _published(
    monkeypatch: pytest.MonkeyPatch, cls: type[OnDisk], items: int, classes: int, **stated: dict[str, str]
) -> None:
    """Let a tiny set be what its publisher published."""
    monkeypatch.setattr(cls, "published", replace(cls.published, items=items, classes=classes))
    for name, value in stated.items():
        monkeypatch.setattr(cls, name, MappingProxyType(value))


@pytest.fixture
def cifar100(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """The archive of a tiny CIFAR-100 that the site has."""
    folder = formats.cifar100(tmp_path / "published")
    content = formats.tar_of(folder, tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).unlink()
    site.files[f"cifar100/{ARCHIVE}"] = content
    files = {name: _md5((folder / name).read_bytes()) for name in Cifar100.md5s}
    _published(monkeypatch, Cifar100, 300, 100, archives={ARCHIVE: _md5(content)}, md5s=files)
    return content


def _left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


# --- what goes well -----------------------------------------------------------------------------------------


def test_an_archive_comes_is_unpacked_and_checked_and_nothing_else_is_left(
    site: Site, cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"{ARCHIVE}  from {site.address}cifar100/{ARCHIVE}"
    assert (
        lines[1]
        == f"CIFAR-100: {len(cifar100) / 1e6:.1f} MB to come, into {tmp_path / 'data' / 'cifar-100-python'}"
    )
    assert lines[2].startswith("licence: none stated by its publisher; source: A. Krizhevsky 2009")
    assert lines[3].startswith("cifar100: 300 items of 100 classes, 3 to 3 per class, 3x32x32, digest ")
    assert _left(tmp_path / "data") == [
        "cifar-100-python",
        *(f"cifar-100-python/{name}" for name in ("meta", "test", "train")),
    ]
    for name in ("meta", "test", "train"):
        published = (tmp_path / "published" / "cifar-100-python" / name).read_bytes()
        assert (tmp_path / "data" / "cifar-100-python" / name).read_bytes() == published


def test_what_is_there_and_right_is_not_fetched_again(site: Site, cifar100: bytes, call_owb: Owb) -> None:
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0
    site.asked.clear()
    said = call_owb("data", "fetch", "cifar100")
    assert (said.code, said.out) == (0, "cifar100: is there already, and right\n")
    assert not site.asked


@pytest.mark.usefixtures("cifar100")
def test_another_folder_can_be_said(call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA")
    said = call_owb("data", "fetch", "cifar100")
    assert (said.code, said.err) == (
        2,
        "error: set OWB_DATA to the folder that cifar100 shall lie in, or say --to\n",
    )
    said = call_owb("data", "fetch", "cifar100", "--to", str(tmp_path / "other" / "place"), "--yes")
    assert said.code == 0, said.err
    folder = tmp_path / "other" / "place" / "cifar-100-python"
    assert f"found by OWB_DATA={folder.parent} or cifar100[root={folder}]" in said.err
    assert call_owb("data", "check", f"cifar100[root={folder}]").code == 0


def test_an_archive_from_elsewhere_is_taken_and_stays(
    site: Site, cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ARCHIVE).write_bytes(cifar100)
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 0, said.err
    assert not site.asked
    assert ARCHIVE in _left(tmp_path / "data")


def test_files_that_are_no_archive_come_one_by_one_and_those_that_are_there_stay(
    site: Site, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = formats.svhn(tmp_path / "published")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    site.files |= {f"svhn/{name}": content for name, content in files.items()}
    _published(monkeypatch, SVHN, 40, 10, md5s={name: _md5(content) for name, content in files.items()})
    assert call_owb("data", "fetch", "svhn", "--yes").code == 0
    assert _left(tmp_path / "data") == ["svhn", "svhn/test_32x32.mat", "svhn/train_32x32.mat"]
    site.asked.clear()
    assert (
        call_owb("data", "fetch", "svhn[extra=true]", "--yes").code == 1
    )  # published are 531,131 extra digits, here are 20
    assert {path for path, _ in site.asked} == {"/svhn/extra_32x32.mat"}
    assert _left(tmp_path / "data") == [
        "svhn",
        *(f"svhn/{name}_32x32.mat" for name in ("extra", "test", "train")),
    ]


def test_mnist_and_its_namesake_have_places_of_their_own_on_a_mirror(
    site: Site, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = formats.mnist(tmp_path / "published")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    site.files |= {f"mnist/{name}": content for name, content in files.items()}
    _published(monkeypatch, Mnist, 30, 10, md5s={name: _md5(content) for name, content in files.items()})
    assert call_owb("data", "fetch", "mnist", "--yes").code == 0
    assert len(_left(tmp_path / "data" / "mnist")) == 4


def test_a_zip_whose_folder_has_another_name_gets_the_one_it_is_looked_for_under(
    site: Site, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in formats.emnist_letters(tmp_path / "published").iterdir():
            archive.writestr(f"gzip/{path.name}", path.read_bytes())
    site.files["emnist/gzip.zip"] = packed.getvalue()
    _published(monkeypatch, Emnist, 1, 1, archives={"gzip.zip": _md5(packed.getvalue())})
    said = call_owb("data", "fetch", "emnist[split=letters]", "--yes")
    assert (said.code, said.err.splitlines()[-1]) == (
        1,
        "error: emnist has 78 items of 26 classes, 145600 of 26 were published",
    )
    assert len(_left(tmp_path / "data" / "emnist")) == 5


def test_where_no_digest_is_published_that_of_what_came_is_said(
    site: Site, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = formats.tar_of(
        formats.aircraft(tmp_path / "published"), tmp_path / "packed.tar.gz"
    ).read_bytes()
    site.files["aircraft/fgvc-aircraft-2013b.tar.gz"] = content
    _published(monkeypatch, Aircraft, 20, 5)
    said = call_owb("data", "fetch", "aircraft", "--yes")
    assert said.code == 0, said.err
    assert (
        f"its publisher states no digest; what came has SHA-256 {hashlib.sha256(content).hexdigest()}"
        in said.err
    )


# --- consent ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cifar100")
def test_it_asks_first(call_owb: Owb, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call_owb("data", "fetch", "cifar100")
    assert (said.code, said.err) == (2, "error: say --yes to fetch it without being asked\n")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    said = call_owb("data", "fetch", "cifar100")
    assert said.code == 0
    assert "Fetch it?" in said.out
    assert not site.transfers()
    assert not _left(tmp_path / "data")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert call_owb("data", "fetch", "cifar100").code == 0
    assert site.transfers() == [None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet", "'imagenet' cannot be fetched by a program: get it from image-net.org after signing up"),
        ("cars", "'cars' cannot be fetched by a program: its page is gone"),
        ("animal10n", "'animal10n' cannot be fetched by a program: ask for the raw images at"),
        ("clothing1m", "'clothing1m' cannot be fetched by a program: "),
        ("mvtec", "'mvtec' is not fetched by this program: get it from mvtec.com"),
        ("anomaly[source=realiad]", "'realiad' is not fetched by this program: ask for it at"),
        ("cifar10n", "'cifar10n' is not fetched by this program: get data/CIFAR-10_human.pt from"),
        ("digits", "'digits' comes with a package that is installed"),
        ("cifar100[root=here]", "say --to here rather than root=here"),
        ("cifar1000", "unknown dataset 'cifar1000'; did you mean 'cifar100'?"),
    ],
)
@pytest.mark.usefixtures("site")
def test_what_cannot_be_fetched_is_told_how_to_get(
    name: str, expected: str, call_owb: Owb, tmp_path: Path
) -> None:
    for options in (("--yes",), ("--to", str(tmp_path / "data")), ()):
        said = call_owb("data", "fetch", name, *options)
        assert said.code == 2
        assert said.err.startswith(f"error: {expected}")
        assert said.err.count("\n") == 1
    assert not _left(tmp_path / "data")


# --- the network --------------------------------------------------------------------------------------------


def test_a_broken_connection_is_taken_up_where_it_broke(
    site: Site, cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    half = len(cifar100) // 2
    site.cuts[f"cifar100/{ARCHIVE}"] = [half]
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 0, said.err
    assert site.transfers() == [None, f"bytes={half}-"]
    assert len(_left(tmp_path / "data")) == 4


def test_a_server_that_breaks_off_again_and_again_leaves_what_has_come_for_the_next_call(
    site: Site, cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    site.cuts[f"cifar100/{ARCHIVE}"] = [1000, 500, 0, 0]
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert (
        f"{site.address}cifar100/{ARCHIVE} broke off 4 times (1500 of {len(cifar100)} bytes came): the "
        "same command continues"
    ) in said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert _left(tmp_path / "data") == [f"{ARCHIVE}.part"]
    site.asked.clear()
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0
    assert site.transfers() == ["bytes=1500-"]


def test_a_server_that_knows_no_ranges_sends_all_again(site: Site, cifar100: bytes, call_owb: Owb) -> None:
    site.ranges = False
    site.cuts[f"cifar100/{ARCHIVE}"] = [len(cifar100) // 2]
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 0, said.err
    assert site.transfers() == [None, f"bytes={len(cifar100) // 2}-"]


def test_a_part_that_is_the_whole_or_longer_is_told(
    site: Site, cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{ARCHIVE}.part").write_bytes(cifar100)
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0
    assert site.transfers() == [f"bytes={len(cifar100)}-"]
    shutil.rmtree(tmp_path / "data" / "cifar-100-python")
    (tmp_path / "data" / f"{ARCHIVE}.part").write_bytes(cifar100 + b"more")
    site.asked.clear()
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0
    assert site.transfers() == [f"bytes={len(cifar100) + 4}-", None]


def test_two_fetches_at_once_do_not_write_into_each_other(
    cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    part = tmp_path / "data" / f"{ARCHIVE}.part"
    with part.open("wb") as other:
        other.write(cifar100[:1000])
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        said = call_owb("data", "fetch", "cifar100", "--yes")
        assert (said.code, said.err) == (2, f"error: {part} is being written by another fetch: wait for it\n")
    assert part.read_bytes() == cifar100[:1000]
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0


@pytest.mark.usefixtures("cifar100")
def test_a_busy_server_is_asked_again_and_a_refusal_is_not(site: Site, call_owb: Owb, tmp_path: Path) -> None:
    site.failures = [503, 429]
    assert call_owb("data", "fetch", "cifar100", "--yes").code == 0
    assert site.transfers() == [None, None, None]
    shutil.rmtree(tmp_path / "data")
    site.asked.clear()
    site.failures = [403]
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert "answered 403 Forbidden; the publisher may have moved it" in said.err
    assert site.transfers() == [None]


def test_without_a_network_it_says_what_to_do(
    call_owb: Owb, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:  # a port that nothing listens on
        bound.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("OWB_MIRROR", gone)
        said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert said.err == (
        f"error: {gone}/cifar100/{ARCHIVE} cannot be reached (Connection refused): try again; without a network, "
        f"bring {ARCHIVE} from elsewhere into {tmp_path / 'data'} and say it again\n"
    )
    assert not _left(tmp_path / "data")
    monkeypatch.setenv("OWB_MIRROR", "http://no-such-host.invalid/")
    said = call_owb("data", "fetch", "mnist", "--yes")
    assert said.code == 2
    assert "(its host has no address: is this machine online?)" in said.err
    assert f"into {tmp_path / 'data' / 'mnist'} and say it again" in said.err


@pytest.mark.usefixtures("site")
def test_a_mirror_is_a_web_address(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_MIRROR", "file:///etc/")
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert (said.code, said.err) == (
        2,
        "error: OWB_MIRROR should be an address such as https://example.org/data/, got 'file:///etc/'\n",
    )


def test_every_address_is_the_publishers_own_file_under_its_own_name() -> None:
    from harness.plugins import find, registered

    classes = [find("dataset", name).cls for name in registered("dataset")]
    fetchable = [cls for cls in classes if issubclass(cls, OnDisk) and cls.addresses]
    assert {cls.name for cls in fetchable} >= {
        "cifar10",
        "cifar100",
        "cifar100-c",
        "svhn",
        "mnist",
        "fashion-mnist",
        "emnist",
        "tinyimagenet",
        "cub",
        "aircraft",
    }
    for cls in fetchable:
        assert all(address.startswith(("http://", "https://")) for address in cls.addresses.values())
        assert all(address.rpartition("/")[2] == name for name, address in cls.addresses.items())
        assert all(name in cls.archives or cls.md5s[name] for name in cls.addresses)


def test_addresses_and_digests_are_those_of_torchvision() -> None:
    datasets: Any = importlib.import_module("torchvision.datasets")

    from scenarios.datasets.on_disk.cifar import Cifar10
    from scenarios.datasets.on_disk.idx import FashionMnist

    for ours, theirs in ((Cifar10, datasets.CIFAR10), (Cifar100, datasets.CIFAR100)):
        assert dict(ours.addresses) == {theirs.filename: theirs.url}
        assert dict(ours.archives) == {theirs.filename: theirs.tgz_md5}
    for digits, their_digits in ((Mnist, datasets.MNIST), (FashionMnist, datasets.FashionMNIST)):
        assert dict(digits.addresses) == {
            name: f"{their_digits.mirrors[0]}{name}" for name, _ in their_digits.resources
        }
        assert dict(digits.md5s) == dict(their_digits.resources)
    assert dict(Emnist.addresses) == {"gzip.zip": datasets.EMNIST.url}
    assert dict(Emnist.archives) == {"gzip.zip": datasets.EMNIST.md5}
    assert {(url, SVHN.md5s[name]) for name, url in SVHN.addresses.items()} == {
        (url, md5) for url, _, md5 in datasets.SVHN.split_list.values()
    }
    assert [*Aircraft.addresses.values()] == [datasets.FGVCAircraft._URL]


# --- files that are not what they should be -----------------------------------------------------------------


@pytest.mark.usefixtures("cifar100")
def test_a_wrong_digest_leaves_nothing(site: Site, call_owb: Owb, tmp_path: Path) -> None:
    site.files[f"cifar100/{ARCHIVE}"] = b"\x1f\x8b" + bytes(5000)
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert (
        f"{ARCHIVE} from {site.address}cifar100/{ARCHIVE} has MD5 {_md5(site.files[f'cifar100/{ARCHIVE}'])}, "
        in said.err
    )
    assert "is the publisher's; nothing was kept" in said.err
    assert not _left(tmp_path / "data")


@pytest.mark.usefixtures("cifar100")
def test_a_web_page_leaves_nothing(site: Site, call_owb: Owb, tmp_path: Path) -> None:
    site.files[f"cifar100/{ARCHIVE}"] = formats.web_page()
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert said.err.endswith(f"/{ARCHIVE} answered with a web page, not with {ARCHIVE}; nothing was kept\n")
    assert not _left(tmp_path / "data")


def test_an_archive_from_elsewhere_that_is_damaged_stays_for_its_owner(
    cifar100: bytes, call_owb: Owb, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ARCHIVE).write_bytes(cifar100[:-9])
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert "truncated or damaged, get it again" in said.err
    assert _left(tmp_path / "data") == [ARCHIVE]


@pytest.mark.usefixtures("cifar100")
def test_data_that_is_there_and_wrong_is_not_written_over(site: Site, call_owb: Owb, tmp_path: Path) -> None:
    folder = formats.cifar100(tmp_path / "data")
    (folder / "test").write_bytes(b"mine")
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert f"{folder} is there and not right: " in said.err
    assert "; move it away, and fetch it again" in said.err
    assert (folder / "test").read_bytes() == b"mine"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes.txt").write_text("")
    assert (
        f"{folder} holds something else than cifar100: move it away"
        in call_owb("data", "fetch", "cifar100", "--yes").err
    )
    formats.svhn(tmp_path / "data")
    said = call_owb("data", "fetch", "svhn", "--yes")
    assert f"{tmp_path / 'data' / 'svhn' / 'train_32x32.mat'} has MD5" in said.err
    assert not site.asked


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


HOSTILE = {
    "up": (_tar((_member("fgvc/../../outside"), b"x")), "'fgvc/../../outside' leads out of its folder"),
    "absolute": (_tar((_member("/tmp/outside"), b"x")), "'/tmp/outside' leads out of its folder"),
    "symlink": (
        _tar((_member("a", tarfile.SYMTYPE, "/"), b""), (_member("a/tmp/outside"), b"x")),
        "'a' leads out of its folder",
    ),
    "symlink up": (_tar((_member("a/b", tarfile.SYMTYPE, "../../.."), b"")), "'a/b' leads out of its folder"),
    "hard link": (_tar((_member("a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "'a' leads out of its folder"),
    "pipe": (_tar((_member("a", tarfile.FIFOTYPE), b"")), "'a' is a device or a pipe"),
    "device": (_tar((_member("a", tarfile.CHRTYPE), b"")), "'a' is a device or a pipe"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_leads_out_is_refused_and_nothing_is_left(
    kind: str, site: Site, call_owb: Owb, tmp_path: Path
) -> None:
    content, expected = HOSTILE[kind]
    site.files["aircraft/fgvc-aircraft-2013b.tar.gz"] = content
    before = _left(tmp_path)
    said = call_owb("data", "fetch", "aircraft", "--yes")
    assert said.code == 2
    assert f"is not safe: {expected}" in said.err
    assert _left(tmp_path) == sorted([*before, "data"])


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("../outside", 0o100644, "leads out"),
        ("a\\..\\..\\b", 0, "leads out"),
        ("C:/b", 0, "leads out"),
        ("a", 0o120777, "is a link"),
    ],
)
def test_a_zip_that_leads_out_is_refused(name: str, mode: int, expected: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.filename = name
        member.external_attr = mode << 16
        archive.writestr(member, "/etc/passwd")
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError, match=f"hostile.zip is not safe: .*{expected}"):
        unpack(tmp_path / "hostile.zip", tmp_path / "into")
    assert not _left(tmp_path / "into")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("packed", ["member", "beyond the end", "header", "holes", "zip"])
def test_an_archive_that_unpacks_to_many_times_its_size_is_refused(packed: str, tmp_path: Path) -> None:
    """A hundred MiB of zeros take a hundred KiB, as a member, behind the last one, as the header of one, or as a
    hole.
    """
    zeros = bytes(100 << 20)
    path = tmp_path / ("bomb.zip" if packed == "zip" else "bomb.tar.gz")
    if packed == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", zeros)
    elif packed == "member":
        path.write_bytes(_tar((_member("a"), zeros)))
    else:
        parts = {
            "beyond the end": bytes(1024) + zeros,
            "header": _long(len(zeros)).tobuf(tarfile.GNU_FORMAT) + zeros,
            "holes": _hole(1 << 40),
        }
        path.write_bytes(gzip.compress(parts[packed], 1))
    assert path.stat().st_size < 1 << 20
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError, match=r"is not safe: it unpacks to more than 64 MiB \(an archive bomb\?\)"):
        unpack(path, tmp_path / "into")
    assert not _left(tmp_path / "into")


def _long(size: int) -> tarfile.TarInfo:
    """Return the header of a name of `size` letters."""
    member = _member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    member.size = size
    return member


def _hole(size: int) -> bytes:
    """Return a sparse file (GNU format 1.0) of `size` bytes that are all in one hole."""
    member = _member("a")
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "a",
        "GNU.sparse.realsize": str(size),
    }
    member.size = 512
    return member.tobuf(tarfile.PAX_FORMAT) + f"1\n{size}\n0\n".encode().ljust(512, b"\0") + bytes(1024)


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", ""])
def test_a_tar_is_unpacked_whatever_it_is_packed_with(pack: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, f"w:{pack}") as archive:
        archive.addfile(_member("x"))
    (tmp_path / "into").mkdir()
    unpack(path, tmp_path / "into")
    assert _left(tmp_path / "into") == ["x"]


def test_a_server_that_leads_out_of_the_web_is_not_followed(
    site: Site, call_owb: Owb, tmp_path: Path
) -> None:
    address = "ftp://127.0.0.1:1/a"
    site.leads["aircraft/fgvc-aircraft-2013b.tar.gz"] = address
    said = call_owb("data", "fetch", "aircraft", "--yes")
    assert said.code == 2
    assert f"leads to '{address}', which is neither http nor https" in said.err
    assert not _left(tmp_path / "data")


def test_a_server_may_lead_to_another_address(site: Site, call_owb: Owb, tmp_path: Path) -> None:
    site.leads["aircraft/fgvc-aircraft-2013b.tar.gz"] = f"{site.address}moved"
    site.files["moved"] = _tar((_member("other/readme"), b"x"))
    assert "holds none of data/variants.txt" in call_owb("data", "fetch", "aircraft", "--yes").err


def test_links_within_an_archive_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(
        _tar((_member("x/one"), b"1"), (_member("x/two", tarfile.SYMTYPE, "one"), b""))
    )
    (tmp_path / "into").mkdir()
    unpack(tmp_path / "a.tar.gz", tmp_path / "into")
    assert (tmp_path / "into" / "x" / "two").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: content[:-200], "is truncated or damaged"),
        (lambda content: content[:-8] + bytes(4) + content[-4:], "is truncated or damaged"),
        (lambda _: _tar((_member("other/readme"), b"x")), "holds none of data/variants.txt"),
    ],
)
def test_an_archive_without_published_digest_that_is_damaged_or_another_leaves_nothing(
    damage: Callable[[bytes], bytes], expected: str, site: Site, call_owb: Owb, tmp_path: Path
) -> None:
    content = formats.tar_of(
        formats.aircraft(tmp_path / "published"), tmp_path / "packed.tar.gz"
    ).read_bytes()
    site.files["aircraft/fgvc-aircraft-2013b.tar.gz"] = damage(content)
    said = call_owb("data", "fetch", "aircraft", "--yes")
    assert said.code == 2
    assert expected in said.err
    assert not _left(tmp_path / "data")


# --- the disk -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cifar100")
def test_a_disk_without_room_is_said_before_anything_is_written(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert f"{tmp_path / 'data'} has no room for {ARCHIVE}: " in said.err
    assert not _left(tmp_path / "data")


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Let this process write no file longer than what is asked for."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_while_it_comes_leaves_nothing(
    cifar100: bytes, call_owb: Owb, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    small_files(len(cifar100) // 2)
    said = call_owb("data", "fetch", "cifar100", "--yes")
    assert said.code == 2
    assert (
        f"cannot keep {tmp_path / 'data' / ARCHIVE}: File too large; nothing half-written is left" in said.err
    )
    assert not _left(tmp_path / "data")


def test_a_disk_that_fills_up_while_unpacking_keeps_the_whole_archive(
    site: Site,
    call_owb: Owb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_files: Callable[[int], None],
) -> None:
    name = "fgvc-aircraft-2013b.tar.gz"
    folder = formats.aircraft(tmp_path / "published")
    (folder / "data" / "large").write_bytes(bytes(1_000_000))
    site.files[f"aircraft/{name}"] = formats.tar_of(folder, tmp_path / "packed.tar.gz").read_bytes()
    _published(monkeypatch, Aircraft, 20, 5)
    small_files(200_000)
    said = call_owb("data", "fetch", "aircraft", "--yes")
    assert said.code == 2
    assert (
        f"cannot unpack {tmp_path / 'data' / name} into {tmp_path / 'data'}: File too large; the archive "
        "is whole and stays"
    ) in said.err
    assert _left(tmp_path / "data") == [name]
    small_files(10_000_000)
    site.asked.clear()
    assert call_owb("data", "fetch", "aircraft", "--yes").code == 0
    assert not site.asked


@pytest.mark.usefixtures("cifar100")
def test_a_place_that_cannot_be_written_is_said(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    said = call_owb("data", "fetch", "cifar100", "--yes", "--to", str(tmp_path / "file" / "inside"))
    assert (said.code, said.err) == (
        2,
        f"error: cannot write to {tmp_path / 'file' / 'inside'}: Not a directory; "
        "nothing half-written is left\n",
    )


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that this process may read and not write; root gives its rights away for that long."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield folder
    if was_root:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.mark.usefixtures("cifar100")
def test_a_folder_that_cannot_be_written_is_said(locked: Path, call_owb: Owb) -> None:
    said = call_owb("data", "fetch", "cifar100", "--yes", "--to", str(locked))
    assert (said.code, said.err) == (
        2,
        f"error: cannot keep {locked / ARCHIVE}: Permission denied; nothing half-written is left\n",
    )
    said = call_owb("data", "fetch", "cifar100", "--yes", "--to", str(locked / "inside"))
    assert (said.code, said.err) == (
        2,
        f"error: cannot write to {locked / 'inside'}: Permission denied; nothing half-written is left\n",
    )
