"""The peer of `npm run bench:gpu`: forward and backward of ELMER on one CUDA card, eager, in float32 without
TF32 and under bfloat16 autocast. Takes one argument, JSON: model, tokens, repeats, rows. Prints one line.
"""

import json
import statistics
import sys
import time

import torch

from elmer import Elmer

if not torch.cuda.is_available():
    sys.exit("this torch sees no CUDA card")
work = json.loads(sys.argv[1])
torch.set_default_device("cuda")
torch.backends.cuda.matmul.allow_tf32 = False
torch.manual_seed(1)
model = Elmer(work["model"], {"bos": 0, "pad": 1, "eos": 2, "mask": 3}).train()
tokens = work["tokens"]


def measure(rows, precision):
    ids = [torch.randint(4, work["model"]["vocabSize"], (rows, tokens)) for _ in range(2)]
    lengths = torch.full((rows,), tokens)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(work["repeats"] + 2):
        model.zero_grad()
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(ids[0], lengths, ids[1])
        loss.backward()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    # The first ones warm up.
    rate = rows * tokens / statistics.median(seconds[2:])
    peak = torch.cuda.max_memory_allocated()
    return {"precision": precision, "batchSize": rows, "tokensPerSecond": rate, "peakBytes": peak}


figures = []
for precision in ("float32", "bfloat16"):
    for rows in work["rows"]:
        try:
            figures.append(measure(rows, precision))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
print(json.dumps({"version": torch.__version__, "device": torch.cuda.get_device_name(), "figures": figures}))
