"""The program that runs on a build machine: one zipapp, standard library only, Python 3.8 or newer.

It imports nothing of fabbuild but `fabbuild.protocol`, which is in the zipapp, too.
"""
