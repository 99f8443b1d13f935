"""How a page is put together: one frame around sections, of which empty ones are cut out, in one file."""

import re
from importlib import resources
from string import Template

from keras_vit._atomic import written_aside
from keras_vit.report.charts import text

SECTION = re.compile(r'<section id="(\w+)".*?</section>\n', re.DOTALL)  # before anything is filled in
HEADING = re.compile(r'<section id="(\w+)".*?<h2[^>]*>(.*?)</h2>', re.DOTALL)


def resource(name):
    """Returns the text of a file beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def sections(template, bodies, **parts):
    """Returns the sections of a template, filled in.

    Args:
        template: the file's name.
        bodies: {section: HTML}; a section whose body is empty is cut out, with its heading.
        parts: what else the template asks for.
    """
    kept = SECTION.sub(lambda section: section[0] if bodies[section[1]] else "", resource(template))
    return Template(kept).substitute(bodies, **parts)


def framed(main, title, summary, style="", script=""):
    """Returns a page that needs nothing but itself.

    Args:
        main: HTML, as `sections` gives; its headings are linked to at the top.
        title: the page's heading.
        summary: label -> value with its unit, shown as large figures; the most important one first.
        style: CSS beside that of all pages.
        script: JavaScript; without any the page forbids all.
    """
    figures = (f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in summary.items())
    return Template(resource("frame.html")).substitute(
        main=main,
        title=text(title),
        style=resource("page.css") + style,
        scripts=" script-src 'unsafe-inline';" if script else "",
        summary=f'<dl class="summary">{"".join(figures)}</dl>' if summary else "",
        links=links(main),
        script=f"<script>\n{script}</script>\n" if script else "",
    )


def links(page):
    """Returns the links to the sections of a page."""
    found = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in HEADING.findall(page))
    return f'<nav aria-label="Sections">{found}</nav>' if found else ""


def write_page(path, page):
    """Writes a page; an older file of that name is replaced when the new one is whole. Missing folders are made."""
    # A file's name may hold bytes that are no UTF-8; Python reads them as lone surrogates.
    with written_aside(path) as aside:
        aside.write_bytes(page.encode("utf-8", "backslashreplace"))
