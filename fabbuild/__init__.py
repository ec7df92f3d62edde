"""Build many boards of a Kbuild firmware tree at many commits, and tell which commit broke what.

``from fabbuild import ns`` gives the Invoke collection; ``ns.add_collection(fabbuild)`` adds the module itself.
The library below the tasks (`fabbuild.build` above all) can be used without Invoke.
"""

from fabbuild.tasks import collection

ns = collection()

__all__ = ["ns"]
