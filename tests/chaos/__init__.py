"""`make chaos`: one large task on the embedded cloud while everything around it breaks.

Not collected by pytest: it takes minutes. See `python -m tests.chaos --help`.
"""
