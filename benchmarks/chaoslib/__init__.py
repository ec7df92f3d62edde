"""The parts of `benchmarks/chaos.py`.

| module | what is in it |
|---|---|
| `tools` | programs that are put before a machine's own: make and gcc |
| `relay` | a program that is put between the boss and a worker |
| `lab` | three sshd machines, each behind a cable and with a small disk of its own where we may make them |
| `faults` | one class a kind of fault: what it does, how it is undone, how one sees that it was felt |
| `watch` | a round as the boss's journal tells it |
| `rounds` | a round: its plan out of a seed, and how it is carried out |
| `verdict` | what must hold when a round is over |
| `figures` | the counts of all rounds, as a table and as JSON |
"""
