#!/usr/bin/env python3
"""cuDNN's causal attention through torch: the yardstick of bench/attention_cuda_bench.cu.

    bench/peers/torch_attention.py [--tokens 2048,4096,8192,16384,32768] [--repeats 21]

Heads of Llama-3.1-8B (32 query, 8 kv, of 128), bf16, batch 1, random data; median time between
events. Prints {"device", "torch", "cudnn", "dense": {N: {"ms", "tflops"}}}.
"""

import argparse
import json

import torch
import torch.nn.functional as F
from torch_prefill import HEAD_DIM, HEADS, KV_HEADS, attention_flop, cudnn, median_kernel_ms


def measure(tokens, repeats):
    q = torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
    k, v = (
        torch.randn(1, KV_HEADS, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
        for _ in range(2)
    )
    with cudnn():
        ms = median_kernel_ms(
            lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
            repeats,
        )
    return {"ms": round(ms, 4), "tflops": round(attention_flop(tokens) / ms / 1e9, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", default="2048,4096,8192,16384,32768")
    parser.add_argument("--repeats", type=int, default=21)
    args = parser.parse_args()
    lengths = [int(n) for n in args.tokens.split(",")]
    print(json.dumps({
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "dense": {n: measure(n, args.repeats) for n in lengths},
    }))


if __name__ == "__main__":
    main()
