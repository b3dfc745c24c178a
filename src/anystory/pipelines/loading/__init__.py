"""Reading and saving pipelines: folders, single files, the hub; safetensors only."""
