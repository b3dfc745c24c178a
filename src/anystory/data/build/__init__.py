"""`anystory data build`: photos, videos and masked pictures to training samples in shards.

A *source* (`sources/`) lists items in a fixed order and reads one item as a candidate: photos with their instances.
*Steps* (`steps/`) turn a candidate into candidates or reject it. A *plan* (`plan.py`) names both with their options.
`worker.py` takes one item through the plan, in processes (`local.py`) or on Ray (`on_ray.py`). The work folder
(`outcomes.py`) keeps the results, and `assemble.py` writes the shards in the items' order. Nothing here imports torch
unless a step names a model.
"""
