"""Graphs that must be refused, or whose weights lie where they cannot be quantized."""

import copy

import numpy as np
import onnx
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from onnx import ModelProto
from torch import Tensor, nn

from .bench import Bench, variant
from .exporters import DYNAMO, OPSET, StackedRope, example, export_dynamo, quiet
from .graph import Linear, add_initializer, block_linears, remove_unused_initializers, replace_nodes, scope, set_opset
from .tools import MICROSOFT, microsoft, remove_dead_nodes
from .wan import BLOCKS, HEADS, SEED, Arrays

ENCODER_DIM = 32


class PlainAttention(StackedRope):
    """Attention without norms and rotation, the only kind com.microsoft.Attention can compute."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        parts = (part(hidden_states).unflatten(2, (attn.heads, -1)) for part in (attn.to_q, attn.to_k, attn.to_v))
        return attn.to_out[0](dispatch_attention_fn(*parts).flatten(2, 3))


def make_plain_model(model: WanTransformer3DModel) -> WanTransformer3DModel:
    """Self-attention without norms and rotation, GELU by erf."""
    plain = copy.deepcopy(model)
    for block in plain.blocks:
        block.attn1.set_processor(PlainAttention())
        block.ffn.net[0].approximate = "none"
    return plain


@variant(
    "contrib-attention",
    "Self-attention as com.microsoft.Attention with packed q, k and v weights inside, which cannot be quantized as "
    "linears; BiasGelu. No q and k norms, no rotation, GELU by erf, so it has outputs of its own.",
    f"{DYNAMO}; rewritten by this script",
    reference="contrib-attention",
)
def contrib_attention(bench: Bench) -> ModelProto:
    model = export_dynamo(bench, make_plain_model(bench.model), example())
    linears = block_linears(model)
    for block in range(BLOCKS):
        pack_attention(model, linears, f"blocks.{block}.attn1")
        up = linears[f"blocks.{block}.ffn.net.0.proj"]
        (gelu,) = (node for node in model.graph.node if up.output in node.input)
        fused = microsoft("BiasGelu", [up.matmul.output[0], up.bias_name], gelu.output[0], f"{up.name}/BiasGelu")
        replace_nodes(model, [up.add, gelu], [fused])
    remove_dead_nodes(model)
    remove_unused_initializers(model)
    set_opset(model, MICROSOFT, 1)
    return model


def pack_attention(model: ModelProto, linears: dict[str, Linear], name: str) -> None:
    parts = [linears[f"{name}.{part}"] for part in ("to_q", "to_k", "to_v")]
    weight = add_initializer(model, f"{name}.qkv.weight", np.concatenate([part.weight for part in parts], axis=1))
    bias = add_initializer(model, f"{name}.qkv.bias", np.concatenate([part.bias for part in parts]))
    result = linears[f"{name}.to_out.0"].input
    inside = [node for node in model.graph.node if scope(node) == name]
    node = microsoft("Attention", [parts[0].input, weight, bias], result, f"{name}/Attention", num_heads=HEADS)
    (last,) = (entry for entry in inside if result in entry.output)
    replace_nodes(model, [last], [node])


def make_encoder() -> nn.Module:
    torch.manual_seed(SEED)
    layer = nn.TransformerEncoderLayer(ENCODER_DIM, 2, 64, dropout=0, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().requires_grad_(False)


def encoder_references() -> dict[str, Arrays]:
    encoder = make_encoder()
    result = {}
    for name, shape in {"one": (1, 9, ENCODER_DIM), "two": (2, 12, ENCODER_DIM)}.items():
        values = np.random.default_rng([SEED, *shape]).standard_normal(shape, np.float32)
        result[name] = {"inputs_embeds": values, "output": encoder(torch.from_numpy(values)).numpy()}
    return result


@variant(
    "not-wan",
    "A text encoder of two layers that has nothing of Wan; to be refused.",
    DYNAMO,
    reference="not-wan",
    timestep="",
)
def not_wan(bench: Bench) -> ModelProto:
    axes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    torch.manual_seed(SEED)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            make_encoder(),
            (torch.randn(2, 12, ENCODER_DIM),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["inputs_embeds"],
            output_names=["last_hidden_state"],
            dynamic_shapes=(axes,),
            verbose=False,
        )
    file = bench.scratch / "encoder.onnx"
    program.save(file, external_data=False)
    return onnx.load(file)
