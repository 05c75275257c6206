"""A model folder as Hugging Face's transformers reads it: what it misses, what BART computes with it, and the
tokenizer beside it. Writes the weights anew in the ways of transformers and torch, for others to read.

Arguments: the model folder, a JSON file with the inputs, a folder for the copies. Prints one line of JSON.
"""

import json
import os
import sys

import torch
from transformers import AutoTokenizer, BartForConditionalGeneration
from transformers.models.bart import modeling_bart

folder, inputs_file, copies = sys.argv[1:]
with open(inputs_file) as file:
    inputs = json.load(file)
torch.set_num_threads(1)
model, info = BartForConditionalGeneration.from_pretrained(
    folder, attn_implementation="eager", output_loading_info=True, local_files_only=True
)
model.eval()


def decoded(encoder, source_mask, ids):
    states = model.model.decoder(
        input_ids=torch.tensor(ids),
        encoder_hidden_states=encoder,
        encoder_attention_mask=source_mask,
        use_cache=False,
    ).last_hidden_state
    logits = model.lm_head(states) + model.final_logits_bias
    return {"states": states.flatten().tolist(), "logits": logits.flatten().tolist()}


with torch.no_grad():
    mask = torch.tensor(inputs["sourceMask"])
    encoder = model.model.encoder(input_ids=torch.tensor(inputs["sourceIds"]), attention_mask=mask).last_hidden_state
    causal = decoded(encoder, mask, inputs["causalIds"])
    # ELMER's decoder is BART's without the causal mask.
    modeling_bart.create_causal_mask = lambda *_, **__: None
    parallel = decoded(encoder, mask, inputs["parallelIds"])
    unmasked = decoded(encoder, mask, inputs["causalIds"])

tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
tokens = {
    "class": type(tokenizer).__name__,
    "ids": [tokenizer(text)["input_ids"] for text in inputs["texts"]],
    "texts": [tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) for text in inputs["texts"]],
    "specials": [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id],
}

model.save_pretrained(os.path.join(copies, "safetensors"))
for name, zipped in (("zip", True), ("legacy", False)):
    os.makedirs(os.path.join(copies, name))
    path = os.path.join(copies, name, "pytorch_model.bin")
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    model.config.save_pretrained(os.path.join(copies, name))

print(
    json.dumps(
        {
            "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
            "mismatched": [str(key) for key in info["mismatched_keys"]],
            "encoder": encoder.flatten().tolist(),
            "causal": causal,
            "parallel": parallel,
            "unmasked": unmasked,
            "tokenizer": tokens,
            "startId": model.generation_config.decoder_start_token_id,
        }
    )
)
