"""`License`: the licence of the checkpoint that a model is made from, and what it asks for."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

UNKNOWN_LICENSE = "unknown"


class Terms(NamedTuple):
    """What a licence asks for.

    Args:
        permissive: whether any use is allowed, of what is made from the checkpoint, too.
        obligations: of whoever uses or passes on the checkpoint or what is made from it; a part of a sentence.
        source: address of the licence.
        title: how its text begins.
    """

    permissive: bool
    obligations: str
    source: str
    title: str


# {identifier on the Hugging Face Hub: its terms}. A summary for orientation; the text of the licence counts.
TERMS = {
    "apache-2.0": Terms(
        True,
        "copies keep the licence, its notices and a note of changes",
        "https://www.apache.org/licenses/LICENSE-2.0",
        "Apache License",
    ),
    "mit": Terms(
        True, "copies keep the copyright notice and the licence", "https://opensource.org/license/mit", "MIT License"
    ),
    "apple-ascl": Terms(
        True,
        "unchanged copies keep Apple's notice, Apple's names endorse nothing, and no patent is licensed",
        "https://huggingface.co/apple/DFN2B-CLIP-ViT-L-14/blob/main/LICENSE",
        "Copyright (C) 2023 Apple",
    ),
    "cc-by-nc-4.0": Terms(
        False,
        "no commercial use, of what is made from it either; copies name the author, the licence and the changes",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        "Attribution-NonCommercial 4.0 International",
    ),
    "dinov3-license": Terms(
        False,
        "copies and what is made from it come under the same licence, with its text and the words Built with DINOv3; "
        "publications name it; no military, nuclear, espionage or weapons use",
        "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
        "DINOv3 License",
    ),
    "fair-noncommercial-research-license": Terms(
        False,
        "for noncommercial research alone, its outputs, too; copies and what is made from it come under the same "
        "licence, with its text",
        "https://huggingface.co/facebook/Perception-LM-8B",
        "FAIR Noncommercial Research License",
    ),
    "apple-amlr": Terms(
        False,
        "for research alone, in no product, what is made from it either; copies keep the licence and Apple's notice",
        "https://huggingface.co/apple/DFN5B-CLIP-ViT-H-14-378/blob/main/LICENSE",
        "Apple Machine Learning Research Model",
    ),
}
_OTHER_NAMES = {
    "apple-sample-code-license": "apple-ascl",
    "dinov3": "dinov3-license",
    "fair-noncommercial-research": "fair-noncommercial-research-license",
}


@dataclasses.dataclass(frozen=True)
class License:
    """The licence of the checkpoint that a model is made from.

    Args:
        name: identifier on the Hugging Face Hub, such as "apache-2.0", or another name; "unknown" where nothing
            states it.
        origin: what states it, in words.

    Example:
        ```python
        from keras_vit.models.license import License

        license = License("CC-BY-NC-4.0", "README.md")
        assert license.name == "cc-by-nc-4.0" and license.permissive is False
        ```
    """

    name: str
    origin: str

    def __post_init__(self) -> None:
        name = re.sub(r"[^a-z0-9.+-]+", "-", self.name.lower()).strip("-") or UNKNOWN_LICENSE
        object.__setattr__(self, "name", _OTHER_NAMES.get(name, name))

    @property
    def is_known(self) -> bool:
        """Whether anything states the licence."""
        return self.name != UNKNOWN_LICENSE

    @property
    def permissive(self) -> bool | None:
        """Whether it allows any use; None where its terms are not known."""
        return TERMS[self.name].permissive if self.name in TERMS else None

    @property
    def text(self) -> str:
        """The name, what states it, and what it asks for with the address of the licence."""
        stated = f"{self.name} ({self.origin})"
        if self.name in TERMS:
            terms = TERMS[self.name]
            return f"{stated}: {terms.obligations}; {terms.source}"
        return f"{stated}: read it before you pass on what is made from the checkpoint" if self.is_known else stated

    def description(self) -> dict[str, Any]:
        """Returns what run.json says of it."""
        terms = TERMS.get(self.name)
        return {
            **dataclasses.asdict(self),
            "permissive": self.permissive,
            "obligations": terms and terms.obligations,
            "source": terms and terms.source,
        }


def as_license(license: License | Mapping[str, str] | None) -> License | None:
    """Returns a `License`, or its fields as a dictionary as one; None for None."""
    return License(**license) if isinstance(license, Mapping) else license
