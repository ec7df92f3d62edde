"""The store of results: what names a result, and how results are taken from and put into it."""
