"""`keras-vit lint`: what delegates do not support of .tflite files."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

from keras_vit._arguments import counted
from keras_vit.runtime.lint import Delegate, Finding, lint


@dataclasses.dataclass(frozen=True)
class LintResult:
    """The findings of a file for a delegate.

    Args:
        file: path of the file.
        delegate: name of the delegate.
        findings: what it does not support.
    """

    file: str
    delegate: str
    findings: Sequence[Finding]

    @property
    def count(self) -> int:
        """Number of findings that count."""
        return sum(not finding.listed for finding in self.findings)

    def lines(self) -> list[str]:
        """Returns a line with the number of findings, and one for each kind of them, the operators in brackets."""
        listed = len(self.findings) - self.count
        line = f"{self.file}, {self.delegate}: {counted(self.count, 'finding')}"
        lines = [line + (f", and {listed} operators of known exceptions" if listed else "")]

        def kind(finding: Finding) -> tuple[bool, str, str, str]:
            return finding.listed, finding.rule, finding.operator.partition(" ")[2], finding.problem

        for (is_listed, rule, name, problem), group in itertools.groupby(sorted(self.findings, key=kind), kind):
            findings = list(group)
            numbers = [finding.operator.partition(" ")[0] for finding in findings]
            places = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
            remedy = "A known exception." if is_listed else findings[0].remedy
            lines.append(f"  {name} ({places}): {problem}. {remedy} [{rule}: {findings[0].source}]")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Returns all fields."""
        return dataclasses.asdict(self)


def lint_files(files: Iterable[str | os.PathLike[str]], delegates: Iterable[Delegate]) -> list[LintResult]:
    """Returns the findings of .tflite files, for each delegate.

    Raises:
        ValueError: if a file is not a .tflite file.
        OSError: if a file cannot be read.
    """
    delegates, results = list(delegates), []
    for file in files:
        findings = lint(file, *delegates)
        results += [
            LintResult(str(file), one, [item for item in findings if item.delegate == one]) for one in delegates
        ]
    return results
