"""Spans as single emitters send them: a table of cases for each kind of emitter."""
