"""Assembles an HTML page: one frame around sections, without the empty ones, in one file."""

import os
import re
from collections.abc import Mapping
from importlib import resources
from string import Template

from keras_vit._atomic import written_aside
from keras_vit.report.charts import text

SECTION = re.compile(r'<section id="(\w+)".*?</section>\n', re.DOTALL)  # applied before anything is filled in
HEADING = re.compile(r'<section id="(\w+)".*?<h2[^>]*>(.*?)</h2>', re.DOTALL)


def resource(name: str) -> str:
    """Returns the text of a file in this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def sections(template: str, bodies: Mapping[str, str], **parts: object) -> str:
    """Returns the sections of a template, filled in.

    Args:
        template: Name of the template file.
        bodies: {section: HTML}; a section with an empty body is left out, with its heading.
        parts: Values of the template's other placeholders.
    """
    kept = SECTION.sub(lambda section: section[0] if bodies[section[1]] else "", resource(template))
    return Template(kept).substitute(bodies, **parts)


def framed(
    main: str, title: str, summary: Mapping[str, object], style: str = "", script: str = "", lead: str = ""
) -> str:
    """Returns a complete, self-contained HTML page.

    Args:
        main: HTML, as `sections` returns it; the top of the page links to its headings.
        title: Heading of the page.
        summary: Label -> value with its unit, shown as large figures; the most important one first.
        style: CSS in addition to that of all pages.
        script: JavaScript; without it the page forbids all scripts.
        lead: HTML below the heading, above the figures.
    """
    figures = (f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in summary.items())
    return Template(resource("frame.html")).substitute(
        main=main,
        title=text(title),
        lead=lead,
        style=resource("page.css") + style,
        scripts=" script-src 'unsafe-inline';" if script else "",
        summary=f'<dl class="summary">{"".join(figures)}</dl>' if summary else "",
        links=links(main),
        script=f"<script>\n{script}</script>\n" if script else "",
    )


def links(page: str) -> str:
    """Returns the links to the sections of a page, empty without sections."""
    anchors = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in HEADING.findall(page))
    return f'<nav aria-label="Sections">{anchors}</nav>' if anchors else ""


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Writes a page; replaces an older file only by the complete new one, and creates missing folders."""
    # A file name may contain bytes that are not UTF-8; Python reads them as lone surrogates.
    with written_aside(path) as aside:
        aside.write_bytes(page.encode("utf-8", "backslashreplace"))
