"""The storyboard JSON of AnyStory's authors.

    {"故事梗概": "…", "角色表": [{"alias": "ROLE-A", "角色名": "小明", "simple_prompt": "a boy in a red cap."}],
     "分镜头": [{"序号": 1, "prompt": "ROLE-A walks to school", "act_roles": ["ROLE-A"], "旁白": "…"}]}

As there, an alias counts wherever it stands in a prompt, and every mention becomes the whole description.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from anystory.story.positions import Key, Located, Problem, StoryProblems, read_located

__all__ = ["is_storyboard", "read_storyboard"]

_CAST, _SHOTS, _NUMBER = "角色表", "分镜头", "序号"
_TITLE, _NAME, _NARRATION, _SCENE = "故事梗概", "角色名", "旁白", "场景描述"
_LONGEST_TITLE = 80


def is_storyboard(value: Any) -> bool:
    """Whether a file's content is one."""
    return isinstance(value, dict) and _SHOTS in value


def read_storyboard(path: Path) -> dict[str, Any]:
    """A storyboard as a story file's content. Its characters have no pictures yet.

    Raises:
        StoryProblems: everything that is wrong with it, with line and column.
        OSError: it cannot be read.
    """
    located = read_located(path)
    if not is_storyboard(located.value):
        raise StoryProblems([located.problem((), f"is no storyboard: it has no {_SHOTS!r}")])
    return _Storyboard(located).story()


class _Storyboard:
    """One storyboard, and what is wrong with it."""

    def __init__(self, located: Located) -> None:
        self.located, self.problems = located, list[Problem]()
        self.members: dict[str, str] = {}

    def wrong(self, *where: Key, text: str) -> None:
        self.problems.append(self.located.problem(where, text))

    def story(self) -> dict[str, Any]:
        """The whole."""
        cast = {}
        for number, role in enumerate(self._list(_CAST)):
            if (member := self._member(number, role)) is not None:
                cast[member[0]] = member[1]
        panels = [panel for number, shot in enumerate(self._list(_SHOTS)) if (panel := self._panel(number, shot))]
        if not panels and not self.problems:
            self.wrong(_SHOTS, text=f"{_SHOTS!r} has no shots")
        numbers = [panel["id"] for panel in panels]
        for number, name in enumerate(numbers):
            if name in numbers[:number]:
                self.wrong(_SHOTS, number, _NUMBER, text=f"{_NUMBER!r} is that of an earlier shot")
        if self.problems:
            raise StoryProblems(self.problems)
        synopsis = str(self.located.value.get(_TITLE) or "Untitled").strip()
        title = synopsis if len(synopsis) <= _LONGEST_TITLE else f"{synopsis[:_LONGEST_TITLE]}…"
        return {"title": title, "language": "zh", "cast": cast, "panels": panels}

    def _list(self, name: str) -> list[Any]:
        found = self.located.value.get(name, [])
        if not isinstance(found, list):
            self.wrong(name, text=f"{name!r} must be a list")
            return []
        return found

    def _text(self, entry: Any, name: str, *where: Key) -> str | None:
        found = entry.get(name) if isinstance(entry, dict) else None
        if not isinstance(found, str) or not found.strip():
            self.wrong(*where, name, text=f"needs a text {name!r}")
            return None
        return found

    def _member(self, number: int, role: Any) -> tuple[str, dict[str, Any]] | None:
        alias = self._text(role, "alias", _CAST, number)
        looks = self._text(role, "simple_prompt", _CAST, number)
        if alias is None or looks is None:
            return None
        if alias in self.members:
            self.wrong(_CAST, number, "alias", text=f"the alias {alias!r} is there twice")
            return None
        member = re.sub(r"[^\w-]+", "-", alias.strip())
        member = member if re.match(r"[^\W\d_]", member) else f"role-{member}"
        self.members[alias] = member
        looks = looks.rstrip(".").strip()
        name = role.get(_NAME)
        own = {"name": name} if isinstance(name, str) and name.strip() else {}
        return member, {**own, "looks": looks, "short": looks}

    def _panel(self, number: int, shot: Any) -> dict[str, Any] | None:
        prompt = self._text(shot, "prompt", _SHOTS, number)
        if prompt is None:
            return None
        found: dict[str, Any] = {"id": f"shot-{shot.get(_NUMBER, number + 1)}", "prompt": prompt}
        if self.members:
            aliases = "|".join(map(re.escape, sorted(self.members, key=len, reverse=True)))
            found["prompt"] = re.sub(aliases, lambda match: f"{{{self.members[match[0]]}}}", prompt)
        roles = shot.get("act_roles") or []
        for place, role in enumerate(roles if isinstance(roles, list) else [roles]):
            if role not in self.members:
                self.wrong(_SHOTS, number, "act_roles", place, text=f"{role!r} is no alias of {_CAST!r}")
            elif f"{{{self.members[role]}}}" not in found["prompt"]:
                found.setdefault("cast", []).append(self.members[role])
        for name, key in (("narration", _NARRATION), ("alt", _SCENE)):
            if isinstance(text := shot.get(key), str) and text.strip():
                found[name] = text.strip()
        return found
