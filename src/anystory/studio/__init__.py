"""The studio: a page in your browser for characters, scenes and stories. A face: nothing about drawing lives here.

`app` makes the page and what answers it; `worker` is the process that draws. Gradio is imported when `anystory studio`
runs, torch in the worker only.
"""
