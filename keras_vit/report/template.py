"""How a page is put together: a template whose empty sections are cut out, as one file that needs nothing else."""

import re
from importlib import resources
from string import Template

from keras_vit.atomic import written_aside
from keras_vit.report.charts import text

SECTION = re.compile(r'<section id="(\w+)".*?</section>\n', re.DOTALL)  # before anything is filled in
HEADING = re.compile(r'<section id="(\w+)".*?<h2[^>]*>(.*?)</h2>', re.DOTALL)


def resource(name):
    """Returns the text of a file beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def fill(template, title, summary, bodies, **parts):
    """Returns a page.

    Args:
        template: the file's name.
        title: the page's heading.
        summary: label -> value with its unit, shown as large figures; the most important one first.
        bodies: {section: HTML}; a section whose body is empty is cut out, with its heading and its link.
        parts: what else the template asks for.
    """
    page = SECTION.sub(lambda section: section[0] if bodies[section[1]] else "", resource(template))
    figures = (f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in summary.items())
    return Template(page).substitute(
        bodies,
        title=text(title),
        style=resource("page.css"),
        summary=f'<dl class="summary">{"".join(figures)}</dl>' if summary else "",
        links=links(page),
        **parts,
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
