"""Runs programs in forks of one process that has imported Keras and its backend: python warm.py SOCKET

A start of TensorFlow or JAX takes seconds; a fork takes none. Nothing of keras_vit is imported before the fork. Reads
one JSON line a connection, {"arguments": what follows `python`, "environment", "folder", "output", "errors": files};
answers with the exit status. Ends with the process that started it.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
import types

import keras  # noqa: F401  the import that is shared


def run(arguments):
    """Runs a program as `python PROGRAM ARGUMENT...` or `python -c CODE ARGUMENT...` does; returns the exit status."""
    program, *rest = arguments
    try:
        if program == "-c":
            code, *rest = rest
            sys.argv, sys.path[0] = ["-c", *rest], ""
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), sys.modules["__main__"].__dict__)
        else:
            sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(program))
            runpy.run_path(program, run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def answer(connection):
    """Does what a connection asks for, in a fork."""
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[1:1] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    status = run(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(status).encode())
    os._exit(status)


if __name__ == "__main__":
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        while os.getppid() == parent:
            if not select.select([server], [], [], 5.0)[0]:
                continue
            connection, _ = server.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                answer(connection)
            connection.close()
