"""What runs on a build machine. Standard library only, Python 3.8 and newer; sent as one zipapp.

Nothing in here may import the rest of fabbuild; the boss imports `protocol` from here.
"""
