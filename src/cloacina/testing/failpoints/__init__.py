"""Failpoints: named places of the engine at which a test lets it fail, wait or die.

Nothing in the engine knows of them. Arming one puts a wrapper around what stands at that place, and disarming takes
it away again: an engine in which none is armed runs exactly the code that it runs without this package.
"""

from cloacina.testing.failpoints.arming import Armed, failpoint
from cloacina.testing.failpoints.catalogue import FAILPOINTS

__all__ = ["FAILPOINTS", "Armed", "failpoint"]
