"""How tensors meet the rest of torch: shapes, precision, derivatives, inference mode, subclasses and values known."""
