"""Hostile requests to ``align serve``: a corpus in kinds, and the attack that sends it and measures.

``python -m hostile`` in the folder of the tests starts a server, sends every request twice and prints a table by kind.
"""
