"""Hooks of mkdocs.yml for the documentation site.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages of the site. Equations in TeX, written as GitHub renders them
(a fence named math, or a code span between dollar signs), become MathML at build time, so that pages need no script.
"""

from __future__ import annotations

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "LICENSE",
    "NOTICE": "NOTICE",
    "CITATION.cff": "CITATION.cff",
    "partnerface_ns/flame/OPEN_HEAD_LICENSE.txt": "OPEN_HEAD_LICENSE.txt",
}
"""Files of the repository outside docs/ that the site contains, with their places on the site."""
_BLOCK = re.compile(r"```math\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"\$`([^`]+)`\$")
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\ssrc=[\"']?https?:"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload))[^>]*\bhref=[\"']?https?:"
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ to the site."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Point links to where the site has their targets, and convert equations."""
    for source, target in OUTSIDE.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(source)}(?=[)#])", f"]({target}", markdown)
    markdown = markdown.replace("](docs/", "](")
    markdown = _BLOCK.sub(lambda match: _equation(match[1].strip()), markdown)
    # Python-Markdown takes a bare <math> at the start of a line for a block.
    return _INLINE.sub(lambda match: f"<span>{convert(match[1])}</span>", markdown)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site that loads anything from another host when a page is opened.

    Raises:
        PluginError: names the page and the tag.
    """
    for page in Path(config.site_dir).rglob("*.html"):
        if loaded := _LOADED.search(page.read_text(encoding="utf8")):
            raise PluginError(f"{page}: a page of the site may load nothing from other hosts: {loaded[0]}")


def _equation(tex: str) -> str:
    return f'<div class="equation">{convert(tex, display="block")}</div>'
