"""Mutation testing of ``protocol/``: ``python -m tests.mutation``; see docs/how-to/run-the-tests.md.

cosmic-ray says which mutants there are and makes them; here is what it lacks: a runner that forks a process
with pytest already imported for each, so that thousands take minutes. No file of the tree is changed.

mutants.py      which mutants a module has, and their text
trial.py        one mutant against the tests, in a process of its own
session.py      all of them, several at once; what is known is kept in a file of cosmic-ray's format
survivors.py    who may live and why (survivors.toml), the page that says so
"""
