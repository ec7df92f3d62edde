"""The store of results of earlier runs: keys, lookup, writing, and the decision what is reused."""
