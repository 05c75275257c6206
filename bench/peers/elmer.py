"""ELMER in plain PyTorch, with the shapes of Lockstep's: BART's layers (post-LN, erf-GELU, learned
positions with two unused rows, one table for input and output), a decoder without causal mask, and the
LPLM loss as the published code computes it (arXiv 2210.13304): every layer computes every slot, the
states at which tokens exit are gathered, and one head predicts all slots.
"""

import torch
import torch.nn.functional as F
from torch import nn

POSITION_OFFSET = 2


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["dModel"]
        self.heads = config["heads"]
        self.dropout = config["attentionDropout"]
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, memory, mask):
        def split(rows):
            return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(memory)), split(self.v_proj(memory))
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout)
        return self.out_proj(context.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """An encoder layer, or with `cross` a decoder layer."""

    def __init__(self, config, cross):
        super().__init__()
        width = config["dModel"]
        self.self_attn, self.self_norm = Attention(config), nn.LayerNorm(width)
        self.cross_attn = Attention(config) if cross else None
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.fc1, self.fc2 = nn.Linear(width, config["ffnDim"]), nn.Linear(config["ffnDim"], width)
        self.final_norm = nn.LayerNorm(width)
        self.drop, self.drop_activation = nn.Dropout(config["dropout"]), nn.Dropout(config["activationDropout"])

    def forward(self, x, mask, memory=None, memory_mask=None):
        x = self.self_norm(x + self.drop(self.self_attn(x, x, mask)))
        if self.cross_attn is not None:
            x = self.cross_norm(x + self.drop(self.cross_attn(x, memory, memory_mask)))
        hidden = self.drop_activation(F.gelu(self.fc1(x)))
        return self.final_norm(x + self.drop(self.fc2(hidden)))


class Stack(nn.Module):
    def __init__(self, config, layers, cross):
        super().__init__()
        width = config["dModel"]
        self.positions = nn.Embedding(config["maxPositions"] + POSITION_OFFSET, width)
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(config["dropout"])
        self.layers = nn.ModuleList(Layer(config, cross) for _ in range(layers))

    def start(self, embedded):
        positions = self.positions.weight[POSITION_OFFSET : POSITION_OFFSET + embedded.shape[1]]
        return self.drop(self.norm(embedded + positions))


class Elmer(nn.Module):
    def __init__(self, config, special_ids):
        super().__init__()
        self.config, self.ids = config, special_ids
        self.shared = nn.Embedding(config["vocabSize"], config["dModel"])
        self.encoder = Stack(config, config["encoderLayers"], cross=False)
        self.decoder = Stack(config, config["decoderLayers"], cross=True)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=config["initStd"])
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, source, source_lengths, labels):
        """Sum of the loss over real target tokens. B batch, S source, T target: [B,S], [B], [B,T]."""
        is_key = torch.arange(source.shape[1]) < source_lengths[:, None]
        mask = is_key[:, None, None, :]
        memory = self.encoder.start(self.shared(source))
        for layer in self.encoder.layers:
            memory = layer(memory, mask)

        tokens = torch.full_like(labels, self.ids["mask"])
        tokens[:, 0] = self.ids["bos"]
        state = self.decoder.start(self.shared(tokens))
        exits = torch.randint(len(self.decoder.layers), labels.shape)
        exited = torch.zeros_like(state)
        for index, layer in enumerate(self.decoder.layers):
            state = layer(state, None, memory, mask)
            exited = torch.where((exits == index)[..., None], state, exited)
            # The copy of an exited state carries no gradient, as in the published code.
            state = torch.where((exits <= index)[..., None], exited.detach(), state)
        logits = F.linear(exited, self.shared.weight)
        pad = self.ids["pad"]
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=pad, reduction="sum")
