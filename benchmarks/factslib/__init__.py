"""Parts of `summary_facts.py`: what two programs say of one result tree, as facts that can be compared."""
