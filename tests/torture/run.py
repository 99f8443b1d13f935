"""Runs the torture run: cases of every part from a seed, in processes that may die, and a table of their outcomes.

python tests/torture/run.py [PART ...] [--seed 0] [--seconds 600] [--brief] [--json FILE]
python tests/torture/run.py PART --only NUMBER      repeats one case

A part is a module of this folder with

    SHARE                        its share of the seconds, in proportion to the other parts'
    GOOD                         results that are right, {"equal", "refused"} by default
    CASES                        the number of its cases, if they are finite
    HANG                         seconds without an answer after which its process is killed, 60 by default
    prepare(folder)              makes what its cases need, once for each process
    case(state, number, random)  runs a case and returns an `Outcome`; `random` depends on seed, part and number

Two processes share the cases of a part. A case that ends its process is a "crash"; one that does not end is a "hang";
an exception that it lets through is a "traceback". Exits with status 1 if any result is not good.
"""

import argparse
import collections
import dataclasses
import importlib
import itertools
import json
import os
import pathlib
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from outcome import Outcome

HERE = pathlib.Path(__file__).parent
PROCESSES = 2
START = 300  # seconds for the imports and `prepare`
SHOWN = 5  # faults of a kind and result
NOT_PARTS = {"outcome", "run", "test_torture"}


def parts():
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_PARTS)


def status(name):
    """Returns a number of kilobytes of this process from the kernel, in megabytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024


def measured(module, state, part, seed, number):
    """Runs a case; returns its outcome, seconds and added megabytes at the peak."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is that of now
    before, began = status("VmRSS"), time.perf_counter()
    try:
        outcome = module.case(state, number, random.Random(f"{seed}/{part}/{number}"))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {str(error)[:200]} ({pathlib.Path(place.filename).name}:{place.lineno})"
        outcome = Outcome("a case", f"traceback: {type(error).__name__}", detail)
    seconds, megabytes = time.perf_counter() - began, status("VmHWM") - before
    if outcome.result in good(module):
        if seconds > outcome.limit_s:
            outcome = dataclasses.replace(outcome, result="slow", detail=f"{seconds:.1f} s")
        elif outcome.limit_mb is not None and megabytes > outcome.limit_mb:
            detail = f"{megabytes:.0f} MB, at most {outcome.limit_mb:.0f}"
            outcome = dataclasses.replace(outcome, result="memory", detail=detail)
    return outcome, seconds, megabytes


def good(module):
    return getattr(module, "GOOD", {"equal", "refused"})


def numbers(module, first, step):
    cases = getattr(module, "CASES", None)
    return itertools.count(first, step) if cases is None else range(first, cases, step)


def work(part, seed, first, seconds, folder):
    """Runs cases in this process, and writes a line of JSON for each."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an outcome
    module = importlib.import_module(part)
    pathlib.Path(folder).mkdir(parents=True)
    state = module.prepare(pathlib.Path(folder))
    print("{}", file=lines, flush=True)
    end = time.monotonic() + seconds
    for number in numbers(module, first, PROCESSES):
        if time.monotonic() >= end:
            break
        outcome, took, megabytes = measured(module, state, part, seed, number)
        row = {**dataclasses.asdict(outcome), "number": number, "seconds": took, "megabytes": megabytes}
        print(json.dumps(row), file=lines, flush=True)


def answers(process, patience):
    """Yields the lines of a process; ends at its end, or when it has written nothing for too long."""
    rest, wait = b"", START
    while select.select([process.stdout], [], [], wait)[0]:
        if not (data := os.read(process.stdout.fileno(), 1 << 16)):
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)
        wait = patience
    yield None


def drive(part, seed, first, seconds, folder, rows):
    """Runs the cases first, first + 2, ... for some seconds, in a new process after each that died; fills `rows`."""
    module = importlib.import_module(part)
    number, began, end = first, None, None
    for attempt in itertools.count():
        left = seconds if end is None else end - time.monotonic()
        if left <= 0:
            return
        log = folder / f"{part}_{first}_{attempt}.log"
        arguments = [part, "--seed", seed, "--worker", number, "--seconds", left, "--folder", log.with_suffix("")]
        with log.open("wb") as errors:
            command = [sys.executable, __file__, *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        hung = False
        for row in answers(process, getattr(module, "HANG", 60)):
            if row is None:
                hung = True
            elif row:
                rows.append(row)
                number = row["number"] + PROCESSES
            else:
                began = time.monotonic()
                end = end or began + seconds
        if hung:
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        if process.wait() == 0:
            return
        tail = log.read_text("utf-8", "replace")[-300:]
        if began is None:
            raise RuntimeError(f"The part {part} did not start: {tail}")
        result = "hang" if hung else "crash"
        outcome = Outcome("a case", result, f"status {process.returncode}: {tail}")
        rows.append({**dataclasses.asdict(outcome), "number": number, "seconds": 0.0, "megabytes": 0.0})
        number += PROCESSES


def run(part, seed, seconds):
    """Runs a part; returns the rows of its cases."""
    rows, failures = [], []

    def guarded(first):
        try:
            drive(part, seed, first, seconds, pathlib.Path(folder), rows)
        except Exception as error:
            failures.append(error)

    with tempfile.TemporaryDirectory(prefix="torture_") as folder:
        threads = [threading.Thread(target=guarded, args=(first,)) for first in range(PROCESSES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return rows


def table(part, rows, brief):
    """Returns the lines of a part: its kinds, or all in one line, cases by result, and extremes."""
    module = importlib.import_module(part)
    kinds = collections.defaultdict(list)
    for row in rows:
        kinds["all" if brief else row["kind"]].append(row)
    for kind, of_kind in sorted(kinds.items()):
        counts = collections.Counter()
        for row in of_kind:
            counts[row["result"]] += row["count"]
        right = ", ".join(f"{counts[name]:,} {name}" for name in sorted(good(module)) if counts[name])
        wrong = sum(count for name, count in counts.items() if name not in good(module))
        slowest, most = (max(row[name] for row in of_kind) for name in ("seconds", "megabytes"))
        yield f"| {part} | {kind} | {sum(counts.values()):,} | {right} | {wrong} | {slowest:.1f} | {most:.0f} |"


def faults(part, rows):
    """Returns a line for each fault, the first of each kind and result."""
    module = importlib.import_module(part)
    seen = collections.Counter()
    for row in sorted(rows, key=lambda row: row["number"]):
        key = row["kind"], row["result"]
        if row["result"] not in good(module):
            seen[key] += 1
            if seen[key] <= SHOWN:
                yield f"{part} --only {row['number']}: {row['kind']}: {row['result']}: {row['detail']}"
    yield from (f"{part}: {kind}: {result}: {count} in all" for (kind, result), count in seen.items() if count > SHOWN)


def main(arguments=None):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(parts())}; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--brief", action="store_true", help="a line for each part, and not for each kind")
    parser.add_argument("--json", type=pathlib.Path, help="file for the rows of all cases")
    parser.add_argument("--only", type=int, help="number of one case, which is run in this process")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        work(options.parts[0], options.seed, options.worker, options.seconds, options.folder)
        return 0
    if options.only is not None:
        (part,) = options.parts
        module = importlib.import_module(part)
        with tempfile.TemporaryDirectory() as folder:
            state = module.prepare(pathlib.Path(folder))
            print(*measured(module, state, part, options.seed, options.only), sep="\n")
        return 0
    chosen = options.parts or parts()
    shares = {part: importlib.import_module(part).SHARE for part in chosen}
    print("| part | kind | tried | right | faults | slowest, s | peak memory, MB |\n|---|---|---|---|---|---|---|")
    every, lines = {}, []
    for part in chosen:
        every[part] = run(part, options.seed, options.seconds * shares[part] / sum(shares.values()))
        print(*table(part, every[part], options.brief), sep="\n", flush=True)
        lines += faults(part, every[part])
    if options.json:
        options.json.write_text(json.dumps(every))
    tried = sum(row["count"] for rows in every.values() for row in rows)
    print(f"\n{tried:,} tried, seed {options.seed}: {'no fault' if not lines else 'FAULTS'}", *lines, sep="\n")
    return 1 if lines or not tried else 0


if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))  # a part has the name of no library, but its folder comes last all the same
    sys.exit(main())
