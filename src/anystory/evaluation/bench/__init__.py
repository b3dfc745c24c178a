"""What subjects cost over the stock pipeline: operations counted (`flops.py`), time and memory taken (`speed.py`)."""
