"""The testing kit: run workflows in tests, on a clock that is driven by hand, and break them on purpose.

Each name is loaded when it is first asked for, so that the pytest plugin costs a test session nothing that does not
use it. `docs/how-to/testing.md` shows all of it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloacina.testing.asserts import (
        assert_attempts,
        assert_completed,
        assert_context,
        assert_failed,
        assert_order,
        assert_skipped,
    )
    from cloacina.testing.blocking import BlockingTestRunner
    from cloacina.testing.crashes import Crash, CrashReport, crash_everywhere
    from cloacina.testing.failpoints import FAILPOINTS, Armed, failpoint
    from cloacina.testing.recording import Recording, record
    from cloacina.testing.replays import Difference, Replay, replay, rerun
    from cloacina.testing.runner import TestRunner
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'cloacina.testing' has no attribute {name!r}")
        from cloacina.testing import asserts, blocking, crashes, failpoints, recording, replays, runner

        for module in (asserts, blocking, crashes, failpoints, recording, replays, runner):
            globals().update({one: getattr(module, one) for one in __all__ if hasattr(module, one)})
        return globals()[name]

    def __dir__() -> list[str]:
        return __all__


__all__ = [
    "FAILPOINTS",
    "Armed",
    "BlockingTestRunner",
    "Crash",
    "CrashReport",
    "Difference",
    "Recording",
    "Replay",
    "TestRunner",
    "assert_attempts",
    "assert_completed",
    "assert_context",
    "assert_failed",
    "assert_order",
    "assert_skipped",
    "crash_everywhere",
    "failpoint",
    "record",
    "replay",
    "rerun",
]
