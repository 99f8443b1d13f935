"""Generates the parts of the docs that the package's own tables contain; a hook of MkDocs.

A line `{{ name }}` of a page is replaced by the Markdown of the function `name` of `GENERATED`. The pages in api/ have
an entry for each public name of their part of the package, and index.md is README.md with its links rewritten.
"""

import ast
import inspect
import pathlib
import re
import sys
from collections.abc import Iterator

import click
from mkdocs.structure.files import File

from keras_vit.commands.cli import main
from keras_vit.export.targets import ALIASES, TARGETS
from keras_vit.models.config import VARIANTS
from keras_vit.training.recipe import FIELDS, RANGE_OF, Recipe
from keras_vit.training.settings import type_description
from keras_vit.training.transfer import EPOCHS, FROM_NOTHING, SETTINGS

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import android  # noqa: E402  a module beside this one
import tables  # noqa: E402

PACKAGE = HERE.parents[1] / "keras_vit"

# The fields of a recipe in sections, each with its first field; the order is that of the dataclass.
SECTIONS = {
    "data": "Data",
    "weights": "Model and task",
    "freeze_to": "What is trained",
    "epochs": "Length and batches",
    "optimizer": "Optimizer and schedule",
    "loss": "Loss",
    "early_stopping": "Early stopping",
    "precision": "Speed and memory",
    "crop": "Augmentation",
    "evaluation": "Evaluation",
    "teacher": "Distillation",
    "seed": "Files and logs",
}


def recipe_fields() -> str:
    """Returns an entry for each field of a recipe: its type, default, range and meaning."""
    meanings = dict(_arguments(inspect.getdoc(Recipe) or ""))
    lines = []
    for name, annotation in FIELDS.items():
        if name in SECTIONS:
            lines += [f"### {SECTIONS[name]}", ""]
        default = inspect.signature(Recipe).parameters[name].default
        range_text = RANGE_OF.get(name, "")
        facts = [range_text] if range_text.startswith("one of") else [type_description(annotation), range_text]
        facts.append("required" if default is inspect.Parameter.empty else f"default `{default!r}`")
        lines += [f'<a id="{name}"></a>`{name}`', f":   *{'; '.join(filter(None, facts))}*<br>"]
        lines += [f"    {_capitalized(meanings[name])}", ""]
    return "\n".join(lines)


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _arguments(docstring: str) -> Iterator[tuple[str, str]]:
    """Yields (name, meaning) of each entry in the section Args of a docstring."""
    section = docstring.split("Args:\n")[1].split("\n\n")[0]
    for entry in re.split(r"\n(?=    \w)", section):
        name, _, meaning = entry.strip().partition(": ")
        yield name, " ".join(meaning.split())


def export_targets() -> str:
    """Returns the table of the files that a model can be exported to."""
    names = {target: [target] for target in TARGETS}
    for alias, target in ALIASES.items():
        names[target].append(alias)
    rows = ["| `--to` | file | contents |", "|---|---|---|"]
    for target, row in TARGETS.items():
        options = ", ".join(f"`{name}`" for name in names[target])
        rows.append(f"| {options} | {row.file} | {row.description} |")
    return "\n".join(rows)


def folder_recipe() -> str:
    """Returns the fields that `keras-vit fit DATA weights=none` sets, and their values."""
    variant = FROM_NOTHING["variant"]
    sizes = f"patch_size={variant.patch_size}, hidden_size={variant.hidden_size}, num_layers={variant.num_layers}"
    text = f"Variant({sizes}, num_heads={variant.num_heads}, mlp_dim={variant.mlp_dim})"
    values = {**FROM_NOTHING, "variant": text}
    return "\n".join(f"- `{name}={value}`" for name, value in values.items())


def transfer_settings() -> str:
    """Returns the fields that `keras-vit fit DATA` sets, and the epochs by the number of training images."""
    least, rows = 1, ["| training images | `epochs` |", "|---|---|"]
    for most, epochs in EPOCHS:
        rows.append(f"| {least:,} {'or more' if most is None else f'to {most:,}'} | {epochs} |")
        least = (most or 0) + 1
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    return "\n".join([*rows, "", f"For any number: {settings}."])


def commands() -> str:
    """Returns the usage, the description and the options of each command."""
    lines = ["These options stand before the command; `--traceback` and `--help` also after it.", ""]
    lines += _options(main, click.Context(main, info_name="keras-vit"))
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, info_name=f"keras-vit {name}")
        lines += [f"## keras-vit {name}", "", f"```text\n{' '.join(command.get_usage(context).split()[1:])}\n```", ""]
        lines += [inspect.cleandoc(command.help or ""), ""]
        lines += _options(command, context)
    return "\n".join(lines)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield from (f"`{record[0]}`", f":   {record[1]}", "")


def public_names(module: str) -> list[str]:
    """Returns the names in `__all__` of a module, read from its text, so that nothing is imported."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    raise ValueError(f"Expected {module} to define __all__")


BUILDERS = {re.sub(r"[+-]", "_", variant).replace("/", ""): variant for variant in VARIANTS}


def builders() -> str:
    """Returns the table of the functions that build one variant each; all have the arguments of `build`."""
    rows = ["| function | variant | parameters |", "|---|---|---:|"]
    rows += [f"| `{name}` | {variant} | {VARIANTS[variant].parameters:,} |" for name, variant in BUILDERS.items()]
    return "\n".join(rows)


def api_of(module: str) -> str:
    """Returns the entries of the public names of a part of the package."""
    return "\n\n".join(_entry(module, name) for name in public_names(module) if name not in BUILDERS)


def _entry(module: str, name: str) -> str:
    """Returns the entry of a public name; a function has the name of the module beside it in some parts."""
    folder = PACKAGE.joinpath(*module.split(".")[1:])
    text = (folder / "__init__.py").read_text("utf-8")
    defined = re.search(rf"^from (keras_vit[\w.]+) import [^\n]*\b{name}\b", text, re.MULTILINE)
    if not (folder / name).is_dir() and not (folder / f"{name}.py").exists() or not defined:
        return f"::: {module}.{name}"
    options = f"{{heading: {module}.{name}, toc_label: {name}}}"
    return f"::: {defined[1]}.{name}\n    options: {options}"


GENERATED = {
    "android_image": android.image,
    "android_litert": android.litert,
    "android_mediapipe": android.mediapipe,
    "android_self_test": android.self_test,
    "builders": builders,
    "checkpoints": tables.checkpoints,
    "commands": commands,
    "export_targets": export_targets,
    "families": tables.families,
    "folder_recipe": folder_recipe,
    "transfer_settings": transfer_settings,
    "recipe_fields": recipe_fields,
    "variants": tables.variants,
}


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Replaces each line `{{ name }}` by generated Markdown."""

    def replaced(match: re.Match) -> str:
        name, argument = match["name"], match["argument"]
        return api_of(argument) if name == "api" else GENERATED[name]()

    return re.sub(r"^\{\{ (?P<name>\w+)(?: (?P<argument>[\w.]+))? \}\}$", replaced, markdown, flags=re.MULTILINE)


def on_files(files, config):
    """Adds README.md as the first page."""
    readme = (HERE.parents[1] / "README.md").read_text("utf-8")
    files.append(File.generated(config, "index.md", content=readme.replace("](docs/", "](")))
    return files
