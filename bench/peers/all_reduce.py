"""The peer of Lockstep's all-reduce: torch.distributed.all_reduce over gloo, float32, sum.

A question is {"floats", "warmup", "iterations"}; the answer holds this rank's time of each
iteration, and the processor time it took.
"""

import time

import torch
import torch.distributed as dist

import group


def measure(question):
    floats = question["floats"]
    # Rank r holds r + 1 everywhere, so that the sum is known.
    source = torch.full((floats,), float(rank + 1))
    expected = ranks * (ranks + 1) / 2
    values = torch.empty_like(source)
    milliseconds = []
    cpu_milliseconds = []
    for iteration in range(question["warmup"] + question["iterations"]):
        values.copy_(source)
        dist.barrier()
        start, start_cpu = time.perf_counter(), time.process_time()
        dist.all_reduce(values)
        elapsed = (time.perf_counter() - start) * 1000
        elapsed_cpu = (time.process_time() - start_cpu) * 1000
        if values[0].item() != expected or values[-1].item() != expected:
            raise RuntimeError(f"gloo summed to {values[0].item()}, not {expected}")
        if iteration >= question["warmup"]:
            milliseconds.append(elapsed)
            cpu_milliseconds.append(elapsed_cpu)
    return {"milliseconds": milliseconds, "cpuMilliseconds": cpu_milliseconds}


rank, ranks = group.join()
group.serve(measure)
