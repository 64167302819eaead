"""Papers whose every figure, table and claim is an item or a claim here, on the public names of normscope alone.

A paper is a package with a `normscope.study.Paper`; `normscope run PAPER/ITEM` finds it by its entry point.
"""
