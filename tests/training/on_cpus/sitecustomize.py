"""Python imports this by itself in the processes that `accelerate launch` starts with this folder on PYTHONPATH."""

import os

if os.environ.get("ACCELERATE_USE_FSDP"):
    from patches import run_as_asked

    run_as_asked()
