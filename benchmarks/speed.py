"""Compares keras_vit's speed with that of other libraries: python benchmarks/speed.py [TASK...]

On a CPU with two threads, 224 x 224 pixels, the exact GELU, batches of 16 images or of 1:
  forward float32, forward bfloat16    a ViT-B/16, 16 images
  train float32, train bfloat16        a training step of a ViT-S/16, 16 images
  single float32                       a ViT-B/16, 1 image

All tasks run by default; a task is named by its two words, joined: forward-float32. `TARGETS` has the ratios that
keras_vit is to reach. Exits with status 1 and prints the reason if a target is missed, another library is missing or
fails, or the machine was busy.
"""

import argparse
import contextlib
import dataclasses
import statistics
import sys

import contestants
import interleave

PEERS = ("keras-hub", "timm", "transformers", "onnxruntime", "timm, OpenVINO")
SERVERS = ("keras_vit", "keras_vit, OpenVINO")  # routes for servers with a CPU
TRAINERS = ("keras_vit", "keras_vit on PyTorch")


@dataclasses.dataclass(frozen=True)
class Target:
    """A ratio of speeds: that of the fastest of `ours` to that of the fastest of `peers`."""

    task: str
    ours: tuple[str, ...]
    least: float
    peers: tuple[str, ...] = PEERS


TARGETS = (
    Target("forward-float32", ("keras_vit",), 1.0),
    Target("forward-bfloat16", ("keras_vit",), 0.75, ("timm",)),
    Target("forward-bfloat16", SERVERS, 0.95),
    Target("train-float32", TRAINERS, 1.0),
    Target("train-bfloat16", TRAINERS, 1.1),
    Target("single-float32", ("keras_vit, .tflite",), 1.0, ("onnxruntime",)),
)


def measure(task, count):
    """Returns {name: seconds of each round}, and a line for each contestant that failed or is another model."""
    failures = []
    variant = contestants.TASKS[task][0]
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in contestants.of_task(task):
            try:
                workers[name] = interleave.Worker(contestants.__file__, name, task)
            except RuntimeError as error:
                failures.append(f"{task}: {name} does not run:\n{error}")
                continue
            stack.callback(workers[name].close)
            expected = contestants.SIZES[variant][1]
            if (weights := workers[name].facts["weights"]) != expected:
                failures.append(f"{task}: {name} is another model: {weights:,} weights instead of {expected:,}")
        seconds, cores = interleave.rounds(workers, count)
        if reason := interleave.busy(cores):
            failures.append(f"{task}: {reason}")
    return seconds, failures


def compare(target, seconds):
    """Returns (fastest of ours, fastest peer, ratio of their speeds), or None if either side is missing."""
    sides = [[name for name in names if name in seconds] for names in (target.ours, target.peers)]
    if not all(sides):
        return None
    ours, peer = (min(names, key=lambda name: statistics.median(seconds[name])) for names in sides)
    return ours, peer, interleave.ratio(seconds[ours], seconds[peer])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(contestants.TASKS))
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - set(contestants.TASKS):
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}")
    reasons, lines = [], []
    for task in arguments.tasks or contestants.TASKS:
        variant, batch, *_ = contestants.TASKS[task]
        seconds, failures = measure(task, arguments.rounds)
        interleave.print_table(f"{task}, {variant}, batch of {batch}", seconds, contestants.OURS, batch)
        reasons += failures
        for target in (target for target in TARGETS if target.task == task):
            if (result := compare(target, seconds)) is None:
                reasons.append(f"{task}: {target.ours} and {target.peers} cannot be compared")
                continue
            ours, peer, ratio = result
            verdict = "reached" if ratio >= target.least else "missed"
            lines.append(f"{task}: {ours} is {ratio:.3f} times as fast as {peer}; target {target.least}, {verdict}")
            reasons += [lines[-1]] * (verdict == "missed")
    print("\n" + "\n".join(lines))
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "All targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
