"""The peer of Lockstep's checkpoints: torch.save and torch.load of parameters and two moments.

A question is {"sizes"}, the floats of each tensor; the answer tells how long each of the two took.
"""

import os
import sys
import time

import torch

import group


def measure(question):
    generator = torch.Generator().manual_seed(1)
    names = ("parameters", "exp_avg", "exp_avg_sq")
    state = {name: [torch.randn(size, generator=generator) for size in question["sizes"]] for name in names}
    path = os.path.join(sys.argv[1], "peer-checkpoint.pt")
    start = time.perf_counter()
    torch.save(state, path)
    saved = time.perf_counter()
    loaded = torch.load(path)
    end = time.perf_counter()
    if not torch.equal(loaded["exp_avg"][-1], state["exp_avg"][-1]):
        raise RuntimeError("torch.load gave other values than torch.save was given")
    os.remove(path)
    return {"saveMs": (saved - start) * 1000, "loadMs": (end - saved) * 1000}


group.join()
group.serve(measure)
