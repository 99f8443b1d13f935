"""Compares keras_vit's speed with keras-hub, timm and transformers: python benchmarks/speed.py

Two targets, on a CPU with two threads, float32, 224 x 224 pixels, batches of 16 images:
  forward  a ViT-B/16 at 0.98 times keras-hub's speed or more;
  train    a training step of a ViT-S/16 at 1.05 times the speed of the fastest other library or more.

Exits with status 1 and prints the reason if a target is missed, another library is missing or fails, or the machine was
busy.
"""

import argparse
import contextlib
import sys

import contestants
import interleave

OURS = "keras_vit, erf"  # the GELU of the other libraries; the official weights use "keras_vit, tanh"
PEERS = ("keras-hub", "timm", "transformers")
TARGETS = {"forward": (0.98, ("keras-hub",)), "train": (1.05, PEERS)}


def measure(task, count):
    """Returns {name: seconds of each round}, and a line for each contestant that failed or is another model."""
    failures = []
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in contestants.CONTESTANTS:
            try:
                workers[name] = interleave.Worker(contestants.__file__, name, task)
            except RuntimeError as error:
                failures.append(f"{task}: {name} does not run:\n{error}")
                continue
            stack.callback(workers[name].close)
            expected = contestants.SIZES[contestants.TASKS[task]][1]
            if (weights := workers[name].facts["weights"]) != expected:
                failures.append(f"{task}: {name} is another model: {weights:,} weights instead of {expected:,}")
        seconds, cores = interleave.rounds(workers, count)
        if reason := interleave.busy(cores):
            failures.append(f"{task}: {reason}")
    return seconds, failures


def missed_targets(task, seconds):
    """Returns a line for each target that is missed."""
    target, peers = TARGETS[task]
    if OURS not in seconds:
        return []
    ratios = {name: interleave.ratio(seconds[OURS], seconds[name]) for name in peers if name in seconds}
    return [
        f"{task}: {OURS} is {ratio:.3f} times as fast as {name}, below the target of {target}"
        for name, ratio in ratios.items()
        if ratio < target
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TARGETS, help="run this task only")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    arguments = parser.parse_args()
    reasons = []
    for task in [arguments.task] if arguments.task else TARGETS:
        seconds, failures = measure(task, arguments.rounds)
        interleave.print_table(f"{task}, {contestants.TASKS[task]}", seconds, OURS, contestants.BATCH)
        reasons += failures + missed_targets(task, seconds)
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "Both targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
