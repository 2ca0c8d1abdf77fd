"""Ctrl-C ends every kind of long work soon, and the interpreter lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import netweight
from netweight import _netweight
from netweight._api import packing_of

#: Starts work, sends itself Ctrl-C in the middle of it, and prints how long the end took.
PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import netweight

# A shell lets background jobs ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
large, stories, target = sys.argv[1:4]
weights = np.random.default_rng(0).standard_normal((2048, 4096), dtype=np.float32)
text = "Once upon a time, there was a little girl. " * 10000
work = {work}
sent = []
def send():
    time.sleep({after})
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
try:
    work()
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
else:
    print("finished", time.monotonic() - sent[0] if sent else None)
assert netweight.encode(weights[:2], "lossless").exact
"""

WORK = {
    "encode": 'lambda: netweight.encode(weights, "seedlm:preset=4bit")',
    "compress": 'lambda: netweight.compress(large, target, "seedlm-4bit")',
    "compress by trial": 'lambda: netweight.compress(large, target, codec="best:bits=3")',
    "bench": "lambda: netweight.bench({'w': weights})",
    "eval": "lambda: netweight.eval(stories, text, threads=1)",
}


@pytest.mark.skipif(os.name != "posix", reason="signals to oneself are those of POSIX")
@pytest.mark.parametrize("name", WORK)
def test_ctrl_c(name: str, large: Path, stories: Path, tmp_path: Path) -> None:
    program = PROGRAM.format(work=WORK[name], after=0.6)
    arguments = [large, stories, tmp_path / "out.nw.safetensors"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "finished" not in done.stdout
    # The aim is .2 s; a loaded machine takes longer.
    assert float(done.stdout) < 10.0, done.stdout
    assert not (tmp_path / "out.nw.safetensors").exists()


def test_a_run_goes_on(large: Path, tmp_path: Path) -> None:
    """The parts of an interrupted run are used by the next one."""
    target, codec = tmp_path / "out.nw.safetensors", "trellis:bits=3"

    def stop(stage: str, done: int, every: int) -> None:
        if done > every // 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        netweight.compress(large, target, codec=codec, progress=stop, threads=2)
    signal.signal(signal.SIGINT, before)
    assert not target.exists()
    plan = _netweight.Plan.make(
        large, target, packing_of("lossless", codec, (), seed=0, force=False, verify=True)
    )
    assert 0 < len(plan.missing()) < len(plan.weights())
    netweight.compress(large, target, codec=codec)
    whole = netweight.compress(large, tmp_path / "whole.nw.safetensors", codec=codec)
    assert target.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {target.name, whole.name}
