"""A first draft of a story's panels by a language model that runs on this machine. Nothing else needs one.

The model writes one line at a time into a form, so that any chat model, however small, gives a whole story file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["draft_story", "load_writer"]

_TASK = (
    "You write picture books. Each panel has one short sentence that says what is seen (who, what they do), and one"
    " short sentence of narration. Answer with one line and nothing else."
)
_LONGEST = 60
"""Tokens of a line."""


def load_writer(model: str) -> Callable[[str], str]:
    """A function that answers a question in one line.

    Args:
        model: Hub id or folder of a causal language model. Weights must be safetensors; code that comes with a model is
            never run.

    Raises:
        ValueError: it cannot be loaded.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        net: Any = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False, use_safetensors=True).eval()
    except Exception as error:  # a hub and a model's files fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"--llm {model} cannot be loaded ({reason}): give the folder or hub id of a chat model"
        ) from error

    def answer(question: str) -> str:
        text = _asked(tokenizer, question)
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
        limit = getattr(net.config, "max_position_embeddings", None)
        ids = tokens.input_ids if limit is None else tokens.input_ids[:, -max(1, limit - _LONGEST) :]
        with torch.inference_mode():
            found = net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_LONGEST,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )
        return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)

    return answer


def _asked(tokenizer: Any, question: str) -> str:
    if not tokenizer.chat_template:
        return f"{_TASK}\n\n{question}\n"
    messages = [{"role": "user", "content": f"{_TASK}\n\n{question}"}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def draft_story(idea: str, panels: int, answer: Callable[[str], str]) -> dict[str, Any]:
    """A story file's content, written line by line.

    Args:
        idea: What it is about.
        panels: How many there are.
        answer: Answers a question in one line; see `load_writer`.
    """
    so_far = [f"The story: {idea}"]

    def line(question: str, otherwise: str) -> str:
        said = answer("\n".join([*so_far, question])).strip()
        text = " ".join(said.splitlines()[0].split()).strip('"*#- ') if said else ""
        text = text.replace("{", "(").replace("}", ")") or otherwise
        so_far.append(f"{question} {text}")
        return text

    title = line("Title:", idea)
    drafted = []
    for number in range(1, panels + 1):
        seen = line(f"Panel {number} of {panels}, what is seen:", idea)
        drafted.append({"prompt": seen, "narration": line(f"Panel {number} of {panels}, narration:", "…")})
    return {"title": title, "panels": drafted}
