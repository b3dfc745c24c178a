"""The page: Gradio's frame with a tab for each part, and the theme. What stands in a tab is a component of its own."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI

from anystory.studio.texts import texts

__all__ = ["add_page"]

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


def _part(name: str) -> gr.HTML:
    """A part of the page, which `static/NAME.js` draws.

    It is no class of its own: Gradio writes a file beside a module with one.
    """
    return gr.HTML(
        value="",
        html_template="<div class='studio-part'></div>",
        js_on_load=f"import('/static/main.js').then((studio) => studio.mount('{name}', element));",
        apply_default_css=False,
        elem_id=f"part-{name}",
    )


def add_page(app: FastAPI, language: str) -> None:
    """Add the page in one language at /LANGUAGE/."""
    gr.mount_gradio_app(
        app,
        _page(language),
        path=f"/{language}",
        theme=_theme(),
        head=_head(language),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )


def _page(language: str) -> gr.Blocks:
    """The page in one language."""
    told = texts(language)
    with gr.Blocks(title=told["title"], analytics_enabled=False, fill_width=True) as page:
        _part("top")
        with gr.Tabs(elem_id="tabs", selected="cast", overflow_behavior="wrap"):
            for name in told["tabs"]:
                with gr.Tab(told["tabs"][name], id=name, elem_id=f"tab-{name}", render_children=True):
                    _part(name)
    return page


def _theme() -> gr.themes.Base:
    """Paper by day, ink by night; fonts of the system alone."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.orange,
        neutral_hue=gr.themes.colors.stone,
        font=list(_SANS),
        font_mono=list(_MONO),
    ).set(
        body_background_fill="#faf6ef",
        body_background_fill_dark="#16151d",
        body_text_color="#2a2733",
        body_text_color_dark="#ece8df",
        background_fill_primary="#fffdf9",
        background_fill_primary_dark="#211f2a",
        border_color_primary="#e5dccd",
        border_color_primary_dark="#3a3746",
        block_border_width="0px",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_padding="0px",
    )


def _head(language: str) -> str:
    """What the page's head gets: the style sheet, and the language for scripts."""
    return (
        '<link rel="stylesheet" href="/static/studio.css">'
        '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">'
        f'<script>window.studioLanguage = "{language}";</script>'
    )
