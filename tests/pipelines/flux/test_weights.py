"""FLUX.1's weights in other forms: in fewer bits, compiled, offloaded. Subjects are drawn, and the base stays as it is.

bitsandbytes has kernels of its own for the CPU; those for GPUs are other code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
import pytest
import torch
from diffusers import PipelineQuantizationConfig
from torch import Tensor, nn

from anystory.pipelines.flux import AnyStoryFluxPipeline
from anystory.pipelines.loading.quantizing import quantization_config, store_in_fp8

from .tiny import FOX, ROBOT, build_pipeline, draw, pipeline

PARTS = ("transformer", "text_encoder_2")


@contextmanager
def untouched(pipe: Any) -> Iterator[None]:
    """Holds the transformer's weights and processors after the block against those before, bit for bit."""
    transformer = pipe._plain_transformer

    def weights() -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in transformer.named_parameters()}

    before, processors = weights(), dict(transformer.attn_processors)
    yield
    after = weights()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)
    assert dict(transformer.attn_processors) == processors


def two_subjects(pipe: Any, **arguments: Any) -> Tensor:
    """A picture of two, by a pipeline whose weights must stay as they are."""
    with untouched(pipe):
        return draw(pipe, subjects=[FOX, ROBOT], **arguments).images


def plain(weights: dict[str, Tensor]) -> AnyStoryFluxPipeline:
    """An ordinary pipeline with these weights in its transformer."""
    pipe = build_pipeline()
    pipe.transformer.load_state_dict(weights)
    return pipe


# --- 8-bit floats ---


def test_weights_stored_in_eight_bits_draw_what_their_values_draw() -> None:
    pipe = build_pipeline()
    store_in_fp8([getattr(pipe, part) for part in PARTS], torch.float32)
    kinds = {name: weight.dtype for name, weight in pipe.transformer.named_parameters()}
    eight = {name for name, kind in kinds.items() if kind == torch.float8_e4m3fn}
    assert "transformer_blocks.0.attn.to_q.weight" in eight
    assert not any("norm" in name for name in eight)
    assert torch.float8_e4m3fn in {weight.dtype for weight in pipe.text_encoder_2.parameters()}
    assert {weight.dtype for weight in pipe.adapter.parameters()} == {torch.float32}
    found = two_subjects(pipe)
    same = plain({name: weight.float() for name, weight in pipe.transformer.state_dict().items()})
    rounded = {name: weight.float() for name, weight in pipe.text_encoder_2.state_dict().items()}
    same.text_encoder_2.load_state_dict(rounded)
    torch.testing.assert_close(found, two_subjects(same), rtol=0, atol=1e-5)
    assert 1e-4 < (found - draw(subjects=[FOX, ROBOT]).images).abs().mean() < 0.2


# --- bitsandbytes ---


@pytest.fixture
def saved(tmp_path: Any) -> Any:
    pipeline().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_a_quantised_base_draws_what_its_values_draw(name: str, bitsandbytes_on_the_cpu: Any, saved: Any) -> None:
    config = quantization_config(name, PARTS, torch.float32)
    pipe = AnyStoryFluxPipeline.from_pretrained(saved, quantization_config=config)
    pipe.set_progress_bar_config(disable=True)
    linear = bitsandbytes_on_the_cpu.nn.Linear4bit if name == "nf4" else bitsandbytes_on_the_cpu.nn.Linear8bitLt
    for part in PARTS:
        assert any(isinstance(layer, linear) for layer in getattr(pipe, part).modules()), part
    for part in ("adapter", "image_encoder", "text_encoder", "vae"):
        assert not any(isinstance(layer, linear) for layer in getattr(pipe, part).modules()), part
    found = two_subjects(pipe)
    exact = draw(subjects=[FOX, ROBOT]).images
    assert 1e-4 < (found - exact).abs().mean() < 0.1
    if name == "int8":
        return  # it rounds what goes into a layer, too
    values = dict(pipe.transformer.state_dict())
    weights = {key: value for key, value in values.items() if ".weight." not in key}
    for layer_name, layer in pipe.transformer.named_modules():
        if isinstance(layer, linear):
            packed: Any = layer.weight
            weights[f"{layer_name}.weight"] = bitsandbytes_on_the_cpu.functional.dequantize_4bit(
                packed.data, packed.quant_state
            )
    same = plain(weights)
    same.text_encoder_2 = pipe.text_encoder_2
    torch.testing.assert_close(found, two_subjects(same), rtol=0, atol=1e-4)


def test_an_adapter_keeps_its_bits_whatever_is_named(bitsandbytes_on_the_cpu: Any, saved: Any) -> None:
    """A configuration without names is for all components."""
    config = PipelineQuantizationConfig(quant_backend="bitsandbytes_8bit", quant_kwargs={"load_in_8bit": True})
    pipe = AnyStoryFluxPipeline.from_pretrained(saved, quantization_config=config)
    linear = bitsandbytes_on_the_cpu.nn.Linear8bitLt
    assert any(isinstance(layer, linear) for layer in pipe.transformer.modules())
    assert not any(isinstance(layer, linear) for layer in pipe.adapter.modules())


def test_without_a_gpu_it_is_said_that_one_is_needed(saved: Any) -> None:
    pytest.importorskip("bitsandbytes")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RuntimeError, match="^No GPU found. A GPU is needed for quantization.$"):
        AnyStoryFluxPipeline.from_pretrained(
            saved, quantization_config=quantization_config("nf4", PARTS, torch.float32)
        )


# --- GGUF ---


def test_a_gguf_base_draws_what_its_values_draw() -> None:
    """The layers that diffusers makes of a GGUF file; small ones stay as they are, as in such files."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
    from diffusers.quantizers.gguf import utils

    parameter: Any = utils.GGUFParameter
    pipe, kind = build_pipeline(), gguf.GGMLQuantizationType.Q8_0
    weights = {name: weight.clone() for name, weight in pipe.transformer.state_dict().items()}
    layers = [(name, layer) for name, layer in pipe.transformer.named_modules() if isinstance(layer, nn.Linear)]
    for name, layer in layers:
        if layer.in_features % 32:
            continue
        packed = torch.from_numpy(gguf.quants.quantize(layer.weight.detach().numpy(), kind))
        quantised = utils.GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, torch.float32)
        quantised.weight, quantised.bias = parameter(packed, quant_type=kind), layer.bias
        room, _, last = name.rpartition(".")
        setattr(pipe.transformer.get_submodule(room), last, quantised)
        weights[f"{name}.weight"] = utils.dequantize_gguf_tensor(quantised.weight).float()
    assert sum(isinstance(layer, utils.GGUFLinear) for layer in pipe.transformer.modules()) > 20
    pipe.adapter.check_fits(pipe.transformer)
    torch.testing.assert_close(two_subjects(pipe), two_subjects(plain(weights)), rtol=0, atol=1e-4)


# --- torch.compile ---


@pytest.mark.slow
def test_a_compiled_transformer_draws_the_same() -> None:
    """Traced as `torch.compile` does it, without its code generator; no layer and no kind of step is traced anew."""
    pipe = build_pipeline()
    expected, bare = two_subjects(pipe, num_inference_steps=8), draw(pipe).images
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        torch.testing.assert_close(two_subjects(pipe, num_inference_steps=8), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(draw(pipe).images, bare, rtol=0, atol=1e-5)


# --- offloading ---


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers numbers its device; accelerate takes "cpu:0" for another one than "cpu" and fails on the difference."""
    offload = accelerate.cpu_offload
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more)
    )


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("way", ["model", "sequential"])
def test_offloading_draws_the_same(way: str, fp8: bool, cpu_as_gpu: None) -> None:
    pipe, few = build_pipeline(), {"num_inference_steps": 3}
    if fp8:
        store_in_fp8([getattr(pipe, part) for part in PARTS], torch.float32)
    expected = [draw(pipe, subjects=[FOX, ROBOT], **few).images, draw(pipe, **few).images]
    getattr(pipe, f"enable_{way}_cpu_offload")(device="cpu")
    for _ in range(2):
        torch.testing.assert_close(draw(pipe, subjects=[FOX, ROBOT], **few).images, expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(draw(pipe, **few).images, expected[1], rtol=0, atol=1e-6)
    fox, robot = pipe.encode_subjects([FOX, ROBOT])
    torch.testing.assert_close(draw(pipe, subjects=[fox, robot], **few).images, expected[0], rtol=0, atol=1e-6)
