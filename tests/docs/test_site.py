"""The docs site: it builds without a warning, its links lead somewhere, and it names all that a user can name."""

import html.parser
import importlib
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

import keras_vit
from keras_vit.commands.cli import main
from keras_vit.export.targets import ALIASES, TARGETS
from keras_vit.training.recipe import FIELDS

ROOT = pathlib.Path(__file__).parents[2]


class Page(html.parser.HTMLParser):
    """The links, the anchors and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.images, self.text = set(), set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links |= {attributes[name] for name in ("href", "src") if attributes.get(name)}
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "img":
            self.images.append(attributes)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Builds the site; returns its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Returns {path: `Page`} of the site."""
    return {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(site, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            address = urllib.parse.urlsplit(link)
            if address.scheme or address.netloc:
                continue
            base = site if path.name == "404.html" else path.parent
            target = base / urllib.parse.unquote(address.path).lstrip("/") if address.path else path
            target = (target / "index.html" if target.is_dir() else target).resolve()
            if not target.exists():
                dead.append(f"{path.relative_to(site)}: {link}")
            elif address.fragment and target in pages:
                if urllib.parse.unquote(address.fragment) not in pages[target].anchors:
                    dead.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 25 and not dead


def test_every_image_has_a_description(pages):
    assert not [image for page in pages.values() for image in page.images if not image.get("alt")]


def test_no_page_loads_anything_from_another_host(pages):
    loaded = {attributes["src"] for page in pages.values() for attributes in page.images}
    assert not [link for link in loaded if link.startswith(("http", "//"))]


def names_of_users():
    """Yields (kind, name) of all that a user can name."""
    for module in (keras_vit, *(importlib.import_module(f"keras_vit.{part}") for part in keras_vit._PARTS)):
        yield from (("public name", f"{module.__name__}.{name}") for name in module.__all__)
    yield from (("recipe field", name) for name in FIELDS)
    yield from (("export target", name) for name in (*TARGETS, *ALIASES))
    for name, command in main.commands.items():
        yield "command", f"keras-vit {name}"
        options = (
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in parameter.opts
            if option.startswith("--")
        )
        yield from (("option", option) for option in options)


def test_a_page_mentions_each_public_name_recipe_field_command_option_and_export_target(pages):
    text = "\n".join("".join(page.text) for page in pages.values())
    builders = text.split("Models - keras_vit")[-1]
    missing = [
        f"{kind} {name}"
        for kind, name in names_of_users()
        if name not in text and name.rpartition("keras_vit.")[2] not in builders
    ]
    assert not missing
