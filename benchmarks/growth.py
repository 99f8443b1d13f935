"""Measures how time and memory grow with tokens and images: python benchmarks/growth.py [--plot FILE.svg]

A ViT-S/16 with the exact GELU, in float32 on two threads, beside timm's. Two series: one image of 224 to 1,024 pixels
(196 to 4,096 patches), and 1 to 64 images of 224 pixels. Each series has its own process, from small to large. Memory
is the peak of the process in a step, less what it held before its model was made.

The exponent of a series is the slope of the logarithms between its two largest sizes; 1 is proportional. With tokens,
the products within attention grow by 2 and all others by 1: the exponent of time and memory must not exceed 2, nor
timm's by more than 0.15. A training step of 1,024 pixels with rematerialization must fit into 8 GiB.

Exits with status 1 and prints the reason if a target is missed.
"""

import argparse
import gc
import json
import math
import sys

import contestants
import interleave

SERIES = {"tokens": [(side, 1) for side in (224, 448, 736, 1024)], "images": [(224, n) for n in (1, 4, 16, 64)]}
TASKS = {"forward": 5, "train": 3}  # timed steps, after one that compiles
LIBRARIES = ("keras_vit", "timm")
VARIANT, REMAT = "ViT-S/16", "keras_vit, remat"
MOST_EXPONENT, MARGIN, MOST_GIB = 2.0, 0.15, 8.0


def keras_model(side, remat):
    """Returns a model of ours."""
    import keras_vit
    from keras_vit.training.fine_tuning import rematerialize

    options = {"input_shape": (side, side, 3), "classifier_activation": None, "dropout": 0.0, "gelu": "erf"}
    model = keras_vit.build(VARIANT, weights=None, **options)
    if remat:
        rematerialize(model)
    return model


def timm_model(side, _):
    """Returns a model of timm's."""
    contestants.declare_torchvision()
    import timm

    return timm.create_model("vit_small_patch16_224", img_size=side)


def make(library, task, side, batch):
    """Returns a function that runs a step."""
    contestants.TASKS[task] = (VARIANT, batch, "float32", side)
    model, step = (timm_model, contestants.torch_step) if library == "timm" else (keras_model, contestants.keras_step)
    return step(lambda variant: model(side, library == REMAT), task)[0]


def memory(name):
    """Returns a number of kilobytes of this process from Linux, in GiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 2**20


def work(library, task, sizes):
    """Prints a line of JSON for each size: its median seconds, and its peak memory in GiB."""
    make(library, task, 32, 1)()  # the libraries are imported and started
    base = memory("VmRSS")
    for side, batch in sizes:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak is that of now
        step = make(library, task, side, batch)
        seconds = interleave.median_seconds(step, TASKS[task])
        print(json.dumps({"seconds": seconds, "gib": memory("VmHWM") - base}), flush=True)
        del step
        gc.collect()


def measure(library, task, sizes):
    """Returns the results of `work` in a process of its own."""
    work = json.dumps([library, task, sizes])
    results = interleave.results_of(__file__, "--work", work, **interleave.ENVIRONMENT)
    if len(results) < len(sizes):
        raise RuntimeError(f"{library}, {task}: only {len(results)} of {len(sizes)} sizes end")
    return results


def amount(series, size):
    """Returns the tokens or the images of a size."""
    side, batch = size
    return (side // 16) ** 2 + 1 if series == "tokens" else batch


def exponent(series, values):
    """Returns the slope of the logarithms between the two largest sizes."""
    first, second = (amount(series, size) for size in SERIES[series][-2:])
    return math.log(values[-1] / values[-2]) / math.log(second / first)


def missed(rows):
    """Returns a line for each target that is missed, of {(series, task, quantity): {library: values}}."""
    lines = []
    for (series, task, quantity), of in rows.items():
        slopes = {library: exponent(series, values) for library, values in of.items()}
        ours = slopes["keras_vit"]
        most = min(MOST_EXPONENT, slopes["timm"] + MARGIN) if quantity == "seconds" else MOST_EXPONENT
        if ours > most:
            lines.append(f"{quantity} of {task} grow with the {ours:.2f}th power of the {series}, above {most:.2f}")
    return lines


def plot(rows, path):
    """Draws each quantity of each task over each series, on axes of logarithms."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text, not outlines
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(4, 2, figsize=(8, 12), layout="constrained")
    for axis, ((series, task, quantity), of) in zip(axes.flat, rows.items(), strict=True):
        sizes = [amount(series, size) for size in SERIES[series]]
        for library, values in of.items():
            axis.loglog(sizes, values, "o-", label=library)
        axis.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        label = {"seconds": "time (s)", "gib": "memory (GiB)"}[quantity]
        axis.set(xlabel=series, ylabel=label, title={"forward": "forward pass", "train": "training step"}[task])
        axis.grid(True, alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="FILE", help="draw the series into a file, such as growth.svg")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*json.loads(options.work))
        return 0
    rows = {}
    print(f"{'series':8}{'step':9}{'library':11}" + "time, s and memory, GiB, of each size; the exponents of both")
    for series, sizes in SERIES.items():
        for task in TASKS:
            for library in LIBRARIES:
                found = measure(library, task, sizes)
                cells = [f"{each['seconds']:8.3f}{each['gib']:7.2f}" for each in found]
                for quantity in ("seconds", "gib"):
                    values = [each[quantity] for each in found]
                    rows.setdefault((series, task, quantity), {})[library] = values
                    cells.append(f"{exponent(series, values):7.2f}")
                print(f"{series:8}{task:9}{library:11}" + "".join(cells), flush=True)
    (largest,) = measure(REMAT, "train", SERIES["tokens"][-1:])
    print(f"{REMAT}: a step of one image of 1,024 pixels: {largest['seconds']:.2f} s, {largest['gib']:.2f} GiB")
    failures = missed(rows)
    if largest["gib"] > MOST_GIB:
        failures.append(f"a step of 1,024 pixels with remat takes {largest['gib']:.1f} GiB, above {MOST_GIB}")
    if options.plot:
        plot(rows, options.plot)
    print(*failures, sep="\n", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
