"""Which precision a device multiplies in."""

from __future__ import annotations

import torch

__all__ = ["bf16_is_native", "native_bf16"]


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
