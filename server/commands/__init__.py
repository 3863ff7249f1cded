"""The commands of ``llm-observatory``: a module each, with ``add(commands)`` for the parser and a runner.

Modules of the program are imported inside the functions, so that ``--help`` and ``config`` are quick.
"""
