"""What the documentation site adds to docs/: the command reference, and the pages beside docs/."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mailer.cli.reference import reference

ROOT = Path(__file__).parents[1]
BESIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)([^)\s]*)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for source, target in BESIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, page in BESIDE.items():
            text = text.replace(f"]({other}", f"]({page}")
        files.append(File.generated(config, target, content=text))
    files.append(File.generated(config, "reference/commands.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to source files, which are not part of the site, into their text."""
    folder = (Path(config.docs_dir) / page.file.src_uri).parent

    def without_source(found: re.Match[str]) -> str:
        inside = (folder / found[2]).resolve().is_relative_to(config.docs_dir)
        return found[0] if inside else found[1]

    return _LINK.sub(without_source, markdown)
