"""Hold the machine's lock for one boss, and end everything when the boss is gone."""
