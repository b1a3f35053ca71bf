#!/usr/bin/env python3
"""Peers of the prefill engine on one GPU: a hand-fused torch forward and Hugging Face transformers.

    bench/peers/torch_prefill.py [--tokens 2048,8192,32768] [--repeats 5] [--peers fused,hf] [--out FILE]

Llama-3.1-8B shape, random bf16 weights, one request, nothing pruned. A run's time goes from prompt
ids in host memory to the last token's logits in host memory; K and V of all layers are kept. Median
of --repeats after two warm-up runs. Prints a JSON object:

    {"device", "torch", "gemm_tflops", "cudnn_tflops": {N: …}, "floor_ms": {N: …},
     "torch_fused_ms": {N: …}, "hf_ms": {N: …}}

gemm_tflops is the 8192 x 8192 x 8192 bf16 product on random data; the floor is the FLOP of the
layers' matmuls at that rate and of causal attention at cuDNN's rate for that N, all measured here.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCAB = 32, 4096, 32, 8, 128, 14336, 128256
EPS, ROPE_BASE = 1e-5, 500000.0
QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM
GEMM_PARAMETERS = LAYERS * (HIDDEN * QKV + HEADS * HEAD_DIM * HIDDEN + 3 * HIDDEN * MLP)


def cudnn():
    return sdpa_kernel([SDPBackend.CUDNN_ATTENTION])


def progress(text):
    print(text, file=sys.stderr, flush=True)


def median_ms(run, repeats):
    """Median wall time of `run`, which ends with its result on the host."""
    for _ in range(2):
        run()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def median_kernel_ms(run, repeats=10):
    """Median time between events around one call."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def gemm_tflops():
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    return 2 * 8192**3 / median_kernel_ms(lambda: a @ b, 20) / 1e9


def attention_flop(tokens):
    return 4 * HEAD_DIM * HEADS * tokens * (tokens + 1) / 2


def cudnn_tflops(tokens):
    q = torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda")
    k, v = (torch.randn(1, KV_HEADS, tokens, HEAD_DIM, device="cuda") for _ in range(2))

    def run():
        with cudnn():
            F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    return attention_flop(tokens) / median_kernel_ms(run) / 1e9


@torch.compile(dynamic=True)
def rms_norm(x, weight):
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + EPS)).to(x.dtype) * weight


@torch.compile(dynamic=True)
def silu_mul(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


@torch.compile(dynamic=True)
def split_and_rotate(qkv, cos, sin):
    """[N, QKV] to q [1, HEADS, N, d], k and v [1, KV_HEADS, N, d], q and k rotated."""
    tokens = qkv.shape[0]
    q, k, v = qkv.view(tokens, HEADS + 2 * KV_HEADS, HEAD_DIM).split(
        [HEADS, KV_HEADS, KV_HEADS], dim=1)

    def rotate(x):
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)

    heads_first = lambda x: x.transpose(0, 1).unsqueeze(0).contiguous()
    return heads_first(rotate(q)), heads_first(rotate(k)), heads_first(v)


class FusedLlama:
    """What a good torch programmer would write: fused weights, cuDNN attention, compiled rest."""

    def __init__(self):
        def weight(*shape):
            return torch.randn(*shape, device="cuda") * 0.02

        self.embedding, self.head = weight(VOCAB, HIDDEN), weight(VOCAB, HIDDEN)
        self.layers = [{
            "norm1": torch.ones(HIDDEN, device="cuda"), "norm2": torch.ones(HIDDEN, device="cuda"),
            "qkv": weight(QKV, HIDDEN), "out": weight(HIDDEN, HEADS * HEAD_DIM),
            "gate_up": weight(2 * MLP, HIDDEN), "down": weight(HIDDEN, MLP)
        } for _ in range(LAYERS)]
        self.norm = torch.ones(HIDDEN, device="cuda")
        self.inv_freq = ROPE_BASE ** (
            -torch.arange(0, HEAD_DIM, 2, device="cuda", dtype=torch.float32) / HEAD_DIM)

    def prefill(self, ids):
        x = self.embedding[ids.cuda()]
        angles = torch.arange(len(ids), device="cuda", dtype=torch.float32)[:, None] * self.inv_freq
        cos, sin = angles.cos()[:, None, :], angles.sin()[:, None, :]
        cache = []
        for layer in self.layers:
            q, k, v = split_and_rotate(F.linear(rms_norm(x, layer["norm1"]), layer["qkv"]), cos, sin)
            cache.append((k, v))
            with cudnn():
                a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x.addmm_(a.squeeze(0).transpose(0, 1).reshape(len(ids), -1), layer["out"].t())
            x.addmm_(silu_mul(F.linear(rms_norm(x, layer["norm2"]), layer["gate_up"])),
                     layer["down"].t())
        return F.linear(rms_norm(x[-1:], self.norm), self.head).float().cpu()


def make_hf():
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=MLP, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, vocab_size=VOCAB,
        max_position_embeddings=131072, rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        attn_implementation="sdpa")
    return LlamaForCausalLM(config).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="2048,8192,32768")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", default="fused,hf")
    parser.add_argument("--out", help="also write the JSON there")
    args = parser.parse_args()
    sizes = [int(n) for n in args.tokens.split(",")]
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(1)
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}

    with torch.inference_mode():
        result["gemm_tflops"] = round(gemm_tflops(), 1)
        result["cudnn_tflops"] = {str(n): round(cudnn_tflops(n), 1) for n in sizes}
        result["floor_ms"] = {
            str(n): round((2 * GEMM_PARAMETERS * n / result["gemm_tflops"] +
                           LAYERS * attention_flop(n) / result["cudnn_tflops"][str(n)]) / 1e9, 2)
            for n in sizes}
        progress(json.dumps(result))
        peers = {}
        if "fused" in args.peers:
            fused = FusedLlama()
            peers["torch_fused_ms"] = (fused.prefill, contextlib.nullcontext)
        if "hf" in args.peers:
            with torch.device("cuda"):
                hf = make_hf()

            def run_hf(ids):
                return hf(ids.cuda()[None], use_cache=True, logits_to_keep=1).logits.float().cpu()

            peers["hf_ms"] = (run_hf, lambda: sdpa_kernel(
                [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True))
        for name, (prefill, context) in peers.items():
            result[name] = {}
            for n in sizes:
                ids = torch.randint(0, VOCAB, (n,), dtype=torch.int64)
                with context():
                    logits = prefill(ids)
                    assert torch.isfinite(logits).all(), f"{name}: logits at {n} tokens"
                    result[name][str(n)] = round(median_ms(lambda: prefill(ids), args.repeats), 2)
                progress(f"{name} {n}: {result[name][str(n)]} ms")
                torch.cuda.empty_cache()
    text = json.dumps(result)
    print(text)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
