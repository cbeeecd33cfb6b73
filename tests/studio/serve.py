"""Studios with a fake model, one for each host: ``serve.py FOLDER HOST ...``; the packages are loaded once.

Each writes its log to ``FOLDER/HOST.log`` and its number to ``FOLDER/HOST.pid``. They end when standard input is
closed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import scrfd_trt._studio.server  # noqa: F401 - loaded before the studios are forked
from scrfd_trt import SCRFDDetector

sys.path.append(str(Path(__file__).parents[1] / "cli"))
import spot_network


def main(folder: Path, hosts: list[str]) -> None:
    SCRFDDetector.from_pretrained = spot_network.stand_in()
    children = []
    for host in hosts:
        child = os.fork()
        if child == 0:
            log = os.open(folder / f"{host}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            from scrfd_trt._cli import main

            (folder / f"{host}.pid").write_text(str(os.getpid()))
            sys.argv = ["scrfd-trt", "studio", "--host", host, "--port", "0", "--no-browser", "--max-upload", "1"]
            main()
        children.append(child)
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
