"""`anystory data build`: photos, videos and masked pictures to training samples in shards.

A *source* (`sources/`) lists items in a fixed order and reads one item as a candidate: photos with their instances.
*Steps* (`steps/`) turn a candidate into candidates or reject it. A *plan* (`plan.py`) names both with their options.
`worker.py` takes one item through the plan; what came out is kept in the work folder (`outcomes.py`), whoever ran it
(`local.py`, `on_ray.py`), and `assemble.py` writes the shards in the items' order. Nothing here imports torch unless a
step names a model.
"""
