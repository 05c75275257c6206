"""The peer of Lockstep's training: ELMER under DistributedDataParallel with gloo and AdamW.

Takes one argument, the workload that src/bench/workload.ts wrote: configuration and micro-batches, the
very ones that Lockstep trains on. A step's M micro-batches are dealt out evenly over the ranks; a rank
accumulates its own (no_sync) and reduces once. A question is {}: train through the workload once.
"""

import contextlib
import json
import sys
import time

import torch
from torch.nn.parallel import DistributedDataParallel

import group
from elmer import Elmer


def tensors_of(batch):
    source = torch.tensor(batch["sourceIds"]).view(batch["batchSize"], batch["sourceLength"])
    labels = torch.tensor(batch["labels"]).view(batch["batchSize"], batch["targetLength"])
    return source, torch.tensor(batch["sourceLengths"]), labels


def train(_question):
    settings = workload["optimizer"]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        weight_decay=settings["weightDecay"],
        fused=True,
    )
    parameters = list(model.parameters())
    steps = []
    ended = time.perf_counter()
    for step, rate, (tokens, mine) in zip(workload["steps"], workload["learningRates"], batches):
        loss_sum = 0.0
        for number, batch in enumerate(mine):
            last = number == len(mine) - 1
            with contextlib.nullcontext() if last else model.no_sync():
                # DDP takes the mean over ranks: times their number, it is the mean over the step's tokens.
                loss = model(*batch)
                (loss * (ranks / tokens)).backward()
            loss_sum += loss.item()
        if settings["clipNorm"] is not None:
            torch.nn.utils.clip_grad_norm_(parameters, settings["clipNorm"])
        for group_settings in optimizer.param_groups:
            group_settings["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        now = time.perf_counter()
        mine_tokens = sum(batch["realTokens"] for batch in mine_of(step))
        steps.append({"tokens": tokens, "milliseconds": (now - ended) * 1000, "loss": loss_sum / mine_tokens})
        ended = now
    return {"steps": steps, "parameters": sum(tensor.numel() for tensor in parameters)}


def mine_of(step):
    share = len(step) // ranks
    return step[rank * share : (rank + 1) * share]


with open(sys.argv[1], encoding="utf8") as file:
    workload = json.load(file)
rank, ranks = group.join()
torch.manual_seed(1 + rank)
model = DistributedDataParallel(Elmer(workload["model"], workload["specialIds"]))
batches = [
    (sum(batch["realTokens"] for batch in step), [tensors_of(batch) for batch in mine_of(step)])
    for step in workload["steps"]
]
group.serve(train)
