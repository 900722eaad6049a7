"""A hook of mkdocs: tables of boards and results of benchmarks, which lie beside the pages in the repository and are
linked from them, are pages of the site too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = "repository"
LINK = re.compile(r"\]\(\.\./([^)#\s]+\.md)")
BESIDE = re.compile(r"\]\(([\w.-]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add every Markdown file outside the pages' folder that a page links to, and the files that it links to
    beside itself.
    """
    from mkdocs.structure.files import File

    pages = Path(config.docs_dir)
    texts = [page.read_text(encoding="utf-8") for page in sorted(pages.glob("*.md"))]
    for name in sorted({name for text in texts for name in LINK.findall(text)}):
        path = pages.parent / name
        content = path.read_text(encoding="utf-8")
        files.append(File.generated(config, f"{FOLDER}/{name}", content=content))
        for beside in sorted({own for own in BESIDE.findall(content) if path.with_name(own).is_file()}):
            place = (Path(FOLDER) / name).with_name(beside).as_posix()
            files.append(File.generated(config, place, content=path.with_name(beside).read_bytes()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links out of the pages' folder to what was added."""
    return LINK.sub(rf"]({FOLDER}/\1", markdown)
