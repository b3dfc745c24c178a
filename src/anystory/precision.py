"""Which device computes, and which precision it multiplies in."""

from __future__ import annotations

import torch

__all__ = ["bf16_is_native", "default_device", "native_bf16"]


def default_device(name: str | None) -> torch.device:
    """The device of this name; without one a GPU where there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def bf16_is_native(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware. Elsewhere it is emulated, up to hundreds of times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def native_bf16(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where the device multiplies in it; nothing elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16_is_native(device))
