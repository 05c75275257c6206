"""What both peers share: joining the gloo group, and answering questions one JSON line at a time.

RANK, WORLD_SIZE and RENDEZVOUS_FILE come in the environment (see src/bench/torch-fleet.ts).
"""

import json
import os
import sys

import torch
import torch.distributed as dist

# Lockstep computes with one thread per worker; the peer does too.
torch.set_num_threads(1)


def join():
    """Joins the group; returns (rank, number of ranks)."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    rendezvous = "file://" + os.environ["RENDEZVOUS_FILE"]
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=ranks)
    return rank, ranks


def serve(answer):
    """Answers each line of standard input by answer(question), until the input ends."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
    dist.destroy_process_group()
