"""
Fresh processes that skip the seconds of importing torch and transformers: they are forked from one that has done so.

`python()` is for `sys.executable`. The process that runs has imported nothing of this project, and what it starts by
its own `sys.executable` begins as fast. A signal to it kills it.

This file is all three: the module that tests import, the process that has done the imports, and the command.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from pathlib import Path

IMPORTED = ["accelerate", "av", "datasets", "numpy", "tokenizers", "torch", "torch.distributed", "transformers"]
# What nearly every process loads of transformers, which is lazy.
IMPORTED += [f"transformers.{name}" for name in ("pipelines", "trainer", "models.auto", "models.bert.modeling_bert")]
# What features of sound and faces, and pictures of runs, load only when they need it.
IMPORTED += ["ai_edge_litert.interpreter", "librosa_alone", "matplotlib.figure", "soxr"]
# Variables of the environment. A process with other values is begun from nothing, as is one with other options.
FIXED_BY_IMPORTS = ("HF_", "OMP_", "TRANSFORMERS_", "PYTHONHASHSEED")
MODULES = "HF_MODULES_CACHE"  # its value is replaced in each process
_server: subprocess.Popen | None = None


def python() -> str:
    """Returns a command that takes what `python` takes: `-c code`, `-m module` or a script."""
    global _server
    if "SELFMM_FRESH" not in os.environ:
        folder = tempfile.mkdtemp()
        os.environ["SELFMM_FRESH"] = folder
        command = Path(folder, "python")
        command.write_text(f'#!/bin/sh\nSELFMM_FRESH="{folder}" exec "{sys.executable}" -I -S "{__file__}" "$@"\n')
        command.chmod(0o755)
        # Pipes: Python would seek in streams over files, but the streams of a command, of any kind, take their place.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        _server = subprocess.Popen([sys.executable, __file__, "--serve"], **pipes)
        atexit.register(_end_server)
    return f"{os.environ['SELFMM_FRESH']}/python"


def _end_server() -> None:
    """Waits for the server alone, not for what it has forked."""
    _server.stdin.close()
    _server.stdout.close()
    _server.wait()


def _address() -> str:
    return f"{os.environ['SELFMM_FRESH']}/socket"


def _fixed(environment) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(FIXED_BY_IMPORTS) and name != MODULES}


def _command() -> None:
    """Hands on arguments, environment, folder and standard streams, and ends as the process that takes them does."""
    server = socket.socket(socket.AF_UNIX)
    for _ in range(6000):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):  # it still imports
            server.connect(_address())
            break
        time.sleep(0.1)
    given = json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    socket.send_fds(server, [len(given).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(given)
    status = int(server.makefile().readline())
    if status < 0:
        if status != -signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _serve() -> list[str]:
    """Forks a process for each command; returns in each of these, with the arguments of Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in IMPORTED:
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(_address())
    listening.listen()
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return _begun(client)
        client.close()
    shutil.rmtree(os.environ["SELFMM_FRESH"])
    os._exit(0)


def _begun(client: socket.socket) -> list[str]:
    """Forks the process in which this returns; the parent tells the command how that one has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as file:
        given = json.loads(file.read(int.from_bytes(length, "big")))
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if select.select([client], [], [], 0.02)[0]:  # the command has been killed
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            client.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
        os._exit(0)
    client.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(given["folder"])
    arguments = given["arguments"]
    if arguments[0] == "-u":
        del arguments[0]
    options = arguments[0].startswith("-") and arguments[0] not in ("-c", "-m")
    if options or _fixed(given["environment"]) != _fixed(os.environ):
        os.execve(sys.executable, [sys.executable, *arguments], given["environment"])
    before = os.environ.get("PYTHONPATH", "")
    os.environ.clear()
    os.environ.update(given["environment"])
    if (added := os.environ.get("PYTHONPATH", "")) != before:
        sys.path[1:1] = added.split(os.pathsep)
    if MODULES in os.environ:
        for module in list(sys.modules.values()):
            if MODULES in getattr(module, "__dict__", {}):
                setattr(module, MODULES, os.environ[MODULES])
    sys.executable = python()
    return arguments


def _run(arguments: list[str]) -> None:
    """Does what `python` does with these arguments."""
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        this, main = sys.modules["__main__"], types.ModuleType("__main__")
        main.this = this
        sys.modules["__main__"] = main
        exec(compile(arguments[1], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def _end(arguments: list[str]) -> None:
    """Runs, and ends as Python does, but without the second that it takes to take all modules apart."""
    try:
        _run(arguments)
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _end(_serve())
    else:
        _command()
