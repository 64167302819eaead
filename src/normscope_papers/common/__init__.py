"""What the papers share: how experiments are put together, what is read from rows, cells and panels.

Nothing here knows a particular paper, and no paper knows another.
"""
