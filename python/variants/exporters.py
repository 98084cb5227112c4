"""What torch's own exporters give."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import diffusers
import onnx
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from onnx import ModelProto
from torch import Tensor, nn
from torch.onnx import symbolic_helper

from .bench import FP16_TOLERANCE, Bench, variant
from .graph import merge_equal_initializers
from .wan import EXAMPLE, INPUTS, OUTPUT, Dit, make_shared_model

DYNAMO = f"torch {torch.__version__.partition('+')[0]}, dynamo exporter"
TORCHSCRIPT = f"torch {torch.__version__.partition('+')[0]}, TorchScript exporter"
OPSET = 20
AUTO = torch.export.Dim.AUTO
AXES = {
    "hidden_states": {0: "batch", 2: "frames", 3: "height", 4: "width"},
    "timestep": {0: "batch"},
    "encoder_hidden_states": {0: "batch", 1: "text_length"},
}


def example(dtype: torch.dtype = torch.float32, timestep: Tensor | None = None) -> tuple[Tensor, ...]:
    latents, step, text = (torch.from_numpy(EXAMPLE.inputs()[name]).to(dtype) for name in INPUTS)
    return latents, step if timestep is None else timestep, text


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def export_dynamo(
    bench: Bench,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    opset: int = OPSET,
    optimize: bool = True,
    axes: dict[str, dict[int, str]] = AXES,
) -> ModelProto:
    shapes: dict[str, dict[int, object] | None] = {name: dict.fromkeys(axes[name], AUTO) for name in INPUTS}
    whole = isinstance(module, WanTransformer3DModel)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            inputs,
            kwargs={"return_dict": False} if whole else None,
            dynamo=True,
            optimize=optimize,
            opset_version=opset,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=shapes | ({"return_dict": None} if whole else {}),
            verbose=False,
        )
    file = bench.scratch / "dynamo.onnx"
    program.save(file, external_data=False)
    return onnx.load(file)


class StackedRope(WanAttnProcessor):
    """The same attention; only the rotation is written without assignment to slices, which the TorchScript exporter
    turns into a graph of one fixed size."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(context).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = (rotate(part, *rotary_emb) for part in (query, key))
        result = dispatch_attention_fn(query, key, value, attn_mask=attention_mask)
        return attn.to_out[1](attn.to_out[0](result.flatten(2, 3)))


def rotate(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def rms_norm(graph: object, value: object, _shape: object, weight: object, epsilon: object) -> object:
    """aten::rms_norm, which the TorchScript exporter does not know."""

    def scalar(number: float) -> object:
        return graph.op("Constant", value_t=torch.tensor(number))

    eps = symbolic_helper._maybe_get_const(epsilon, "f")
    square = graph.op("Pow", value, scalar(2.0))
    mean = graph.op("ReduceMean", square, axes_i=[-1], keepdims_i=1)
    root = graph.op("Sqrt", graph.op("Add", mean, scalar(eps)))
    return graph.op("Mul", graph.op("Div", value, root), weight)


def export_torchscript(bench: Bench, *, fold: bool) -> ModelProto:
    opset = 17
    file = bench.scratch / "torchscript.onnx"
    torch.onnx.register_custom_op_symbolic("aten::rms_norm", rms_norm, opset)
    processors = bench.model.attn_processors
    bench.model.set_attn_processor(StackedRope())
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                bench.model,
                (*example(), {"return_dict": False}),
                file,
                dynamo=False,
                opset_version=opset,
                do_constant_folding=fold,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_axes=AXES,
            )
    finally:
        bench.model.set_attn_processor(processors)
        torch.onnx.unregister_custom_op_symbolic("aten::rms_norm", opset)
    return onnx.load(file)


def half_model(bench: Bench) -> WanTransformer3DModel:
    """As diffusers loads it: norms, modulation tables and the time embedder stay in float32."""
    diffusers.utils.logging.disable_progress_bar()
    model = WanTransformer3DModel.from_pretrained(bench.checkpoint, torch_dtype=torch.float16)
    return model.eval().requires_grad_(False)


@variant(
    "dynamo",
    "Optimized export: weights folded to [in, out] under names like val_236, biases under torch names, "
    "scopes in metadata.",
    DYNAMO,
)
def dynamo(bench: Bench) -> ModelProto:
    return export_dynamo(bench, bench.model, example())


@variant(
    "dynamo-unoptimized",
    "optimize=False: Transpose(weight) in front of every MatMul, Cast, CastLike and Constant nodes, sequences, "
    "weights under torch names.",
    DYNAMO,
)
def dynamo_unoptimized(bench: Bench) -> ModelProto:
    return export_dynamo(bench, bench.model, example(), optimize=False)


@variant(
    "torchscript",
    "The old exporter: scopes in node names, folded weights named onnx::MatMul_123, GELU in parts. The rotation is "
    "written without assignment to slices, for which this exporter gives a graph of one fixed size.",
    TORCHSCRIPT,
)
def torchscript(bench: Bench) -> ModelProto:
    return export_torchscript(bench, fold=True)


@variant(
    "torchscript-nofold",
    "The old exporter without constant folding: Transpose(weight) in front of every MatMul.",
    TORCHSCRIPT,
)
def torchscript_nofold(bench: Bench) -> ModelProto:
    return export_torchscript(bench, fold=False)


@variant(
    "fp16",
    "The model as diffusers loads it in float16, float16 inputs and output; norms and the time embedder in float32.",
    DYNAMO,
    tolerance=FP16_TOLERANCE,
)
def fp16(bench: Bench) -> ModelProto:
    return export_dynamo(bench, half_model(bench), example(torch.float16))


@variant(
    "fp16-io32",
    "The float16 model between Casts: float32 inputs and output. Torch names have the prefix m.",
    DYNAMO,
    tolerance=FP16_TOLERANCE,
)
def fp16_io32(bench: Bench) -> ModelProto:
    return export_dynamo(bench, Dit(half_model(bench), torch.float16), example())


@variant(
    "timestep-int64",
    "The timestep as int64 [batch]; only whole timesteps can be given.",
    DYNAMO,
)
def timestep_int64(bench: Bench) -> ModelProto:
    steps = torch.tensor(EXAMPLE.timestep).long()
    return export_dynamo(bench, bench.model, example(timestep=steps))


@variant(
    "timestep-tokens",
    "The timestep as float32 [batch, tokens], as diffusers gives it with expand_timesteps: modulation by token.",
    DYNAMO,
    reference="tokens",
    timestep="batch, tokens",
)
def timestep_tokens(bench: Bench) -> ModelProto:
    steps = torch.from_numpy(EXAMPLE.inputs_by_token(first_frame_clean=False)["timestep"])
    axes = AXES | {"timestep": {0: "batch", 1: "tokens"}}
    return export_dynamo(bench, bench.model, example(timestep=steps), axes=axes)


@variant(
    "opset18",
    "Opset 18, IR 8: GELU in parts, Reduce operators with axes as an input.",
    DYNAMO,
)
def opset18(bench: Bench) -> ModelProto:
    model = export_dynamo(bench, bench.model, example(), opset=18)
    model.ir_version = 8
    return model


@variant(
    "opset23",
    "Opset 23, IR 11: Attention and RMSNormalization operators.",
    DYNAMO,
)
def opset23(bench: Bench) -> ModelProto:
    model = export_dynamo(bench, bench.model, example(), opset=23)
    model.ir_version = 11
    return model


@variant(
    "opset25",
    "Opset 25, IR 12, not optimized: Attention and RMSNormalization operators, Transpose(weight) in front of MatMul.",
    DYNAMO,
)
def opset25(bench: Bench) -> ModelProto:
    model = export_dynamo(bench, bench.model, example(), opset=25, optimize=False)
    model.ir_version = 12
    return model


@variant(
    "shared",
    "Both blocks use one ffn.up weight, the same biases, norms and modulation table; attn2.to_k and to_v of block 1 "
    "are one weight. Has outputs of its own.",
    DYNAMO,
    reference="shared",
)
def shared(bench: Bench) -> ModelProto:
    model = export_dynamo(bench, make_shared_model(bench.model), example())
    merge_equal_initializers(model)
    return model
