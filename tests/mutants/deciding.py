"""Mutants of what decides and drives: the rules, the driver, the committer, leases and recovery."""

from __future__ import annotations

from mutants.mutant import Mutant

DECIDING = (
    # The driver and its items.
    Mutant(
        "start-before-commit",
        "A body runs under a start that nobody may ever find stored: the next runner starts it once more.",
        "engine/driving/driver.py",
        "        self._fresh.append(attempt)\n",
        "        self._host.launch(attempt)\n",
    ),
    Mutant(
        "acknowledged-before-commit",
        "A caller is told that an execution is stored, and a crash a moment later loses it.",
        "engine/incarnation.py",
        "        self._unanswered[new.id] = (new, stored)\n",
        "        stored(None)\n",
    ),
    Mutant(
        "pause-forgotten",
        "Whoever takes over a paused execution starts its tasks.",
        "engine/driving/driver.py",
        "        self.paused = stored.status is ExecutionStatus.PAUSED\n",
        "        self.paused = False\n",
    ),
    Mutant(
        "start-after-pause",
        "A task that was offered a slot before the pause starts after it.",
        "engine/driving/driver.py",
        "and not (self.held or self.paused)",
        "and not self.held",
    ),
    Mutant(
        "command-struck-off",
        "The owner removes a command and does not carry it out.",
        "engine/driving/orders.py",
        "            if order.kind is CommandKind.PAUSE and not driver.paused:\n",
        "            if order.kind is CommandKind.PAUSE and driver.paused:\n",
    ),
    Mutant(
        "command-unheard",
        "A runner that is told of a write does not look for what others want of it.",
        "engine/engine.py",
        "        self.life.claims.expect_sleepers()\n        await self._obey()\n        elsewhere",
        "        self.life.claims.expect_sleepers()\n        elsewhere",
    ),
    Mutant(
        "deadline-missed",
        "An execution whose time ran out while nobody drove it goes on without a limit.",
        "engine/driving/waits.py",
        "        if moment <= now:\n            self._expired()\n",
        "        if moment <= now:\n            return\n",
    ),
    Mutant(
        "deadline-from-now",
        "Each runner that takes an execution over gives it its whole time again.",
        "engine/driving/driver.py",
        "            self._waits_of().expire_at(deadline, now)\n",
        "            self._waits_of().expire_at(deadline - (self.draft.started or now) + now, now)\n",
    ),
    Mutant(
        "retry-at-once",
        "A retry that is taken over by another runner does not wait for its time.",
        "engine/driving/driver.py",
        "self._waits_of().add(index, (due - now) / 1e6)",
        "self._waits_of().add(index, 0.0)",
    ),
    # The committer.
    Mutant(
        "halves-lose-one",
        "Of a group that the store refuses, one item is never written.",
        "engine/committer.py",
        "parts += [(middle, high), (low, middle)]",
        "parts += [(middle + 1, high), (low, middle)]",
    ),
    Mutant(
        "halved-in-doubt",
        "A group that may be stored already is sent again with other content under the same number.",
        "engine/committer.py",
        "if self._slow < 2 or high - low < 2 or self._unknown or self._doubt:",
        "if self._slow < 2 or high - low < 2:",
        ("tests/store/test_groups.py", "-k", "never_halved"),
    ),
    Mutant(
        "number-reused",
        "The number of a group that was given up in doubt is given to another one, which then counts as applied.",
        "engine/committer.py",
        "            if self._unknown:\n"
        "                self._doubt = error\n"
        "            else:\n"
        "                self._refuse(error)",
        "            self._refuse(error)",
        ("tests/store/test_groups.py", "-k", "in_doubt"),
    ),
    Mutant(
        "void-reused",
        "The number that made a group void counts as free.",
        "engine/committer.py",
        "written.number += 2",
        "written.number += 1",
        ("tests/store/test_groups.py", "-k", "in_doubt"),
    ),
    # The rules.
    Mutant(
        "retry-lost",
        "A task that waits for its retry when its runner dies waits for ever.",
        "logic/execution.py",
        "            self.due[index] = row.retry_at\n",
        "            pass\n",
    ),
    Mutant(
        "too-many-attempts",
        "Attempts that timed out before a restart are forgotten: a task has more than its policy allows.",
        "logic/execution.py",
        "        if row.state in (AttemptState.FAILED, AttemptState.TIMED_OUT):\n",
        "        if row.state is AttemptState.FAILED:\n",
    ),
    Mutant(
        "innocents-poisoned",
        "A task whose runners were shut down, or lost their leases, is given up as if it had crashed them.",
        "logic/execution.py",
        "            if row.reason is Reason.CRASH:\n",
        "            if row.reason is not Reason.DEFERRED:\n",
    ),
    Mutant(
        "suspects-unbounded",
        "A task that crashes its runner each time is tried for ever.",
        "logic/execution.py",
        "self.suspected[index] = self.suspected.get(index, 0) + int(row.suspect)",
        "self.suspected[index] = int(row.suspect)",
        ("tests/unit/logic/test_execution.py", "-k", "suspect"),
    ),
    Mutant(
        "merged-backwards",
        "Of two tasks that wrote one key the earlier one wins.",
        "logic/merge.py",
        "found.sort(key=itemgetter(0))",
        "found.sort(key=itemgetter(0), reverse=True)",
    ),
    Mutant(
        "joined-late",
        "Patches of earlier tasks are put on top of a view that has later ones: a body sees what no order explains.",
        "logic/views.py",
        "        if not known or known & ~mask or known >= more & -more or not self._plain:\n",
        "        if not known or known & ~mask or not self._plain:\n",
    ),
    Mutant(
        "result-of-last-task",
        "The result is what the last task saw, without what it wrote.",
        "logic/views.py",
        "return self._merge(None) if last is None else self.after(last)",
        "return self._merge(None) if last is None else self.of(last)",
    ),
    Mutant(
        "adopted-unseen",
        "An execution goes on under a version in which tasks that have run mean something else.",
        "logic/adoption.py",
        "        told = [self._difference(one.task, self._before) for one in touched]\n",
        "        told = [self._difference(one.task, self._before) for one in touched if not one.ended]\n",
    ),
    # Leases.
    Mutant(
        "dead-at-once",
        "A runner whose lease file was not touched between two looks is declared dead, though it lives.",
        "engine/liveness/files/observer.py",
        "return Reason.LOST_LEASE if now - seen.since >= lease else None",
        "return Reason.LOST_LEASE if now - seen.since >= 0 else None",
        ("tests/engine/test_leases.py", "-k", "frozen"),
    ),
    Mutant(
        "frozen-for-ever",
        "A runner that is frozen is never declared dead, and nobody does its work.",
        "engine/liveness/files/observer.py",
        "return Reason.LOST_LEASE if now - seen.since >= lease else None",
        "return None",
        ("tests/engine/test_leases.py", "-k", "frozen"),
    ),
    Mutant(
        "dead-without-file",
        "A dead runner whose lease file is gone is never found.",
        "engine/liveness/files/observer.py",
        "            if runner not in files and runner != mine:\n",
        "            if runner in files and runner == mine:\n",
    ),
    Mutant(
        "stale-lease-starts",
        "A runner that stood still for longer than its lease starts bodies whose tasks others have.",
        "engine/liveness/starts.py",
        "        if self._lease.fresh():\n            self._start(attempt)\n",
        "        if True:\n            self._start(attempt)\n",
        ("tests/engine/test_leases.py", "-k", "lease_that_has_passed"),
    ),
    Mutant(
        "one-look-kills",
        "On a server, one look at a moment in which a connection is replaced declares a runner dead.",
        "logic/deaths.py",
        "            if runner in before and last.signs[runner].renewed == look.signs[runner].renewed:\n",
        "            if runner in look.signs:\n",
        ("tests/unit/logic/test_deaths.py",),
    ),
    Mutant(
        "second-look-left-out",
        "On a server, executions that others had locked and did not take wait until something else happens.",
        "engine/claims.py",
        "second, self._is_second = self._is_second, False",
        "second, self._is_second = True, False",
        ("tests/unit/engine/test_claims.py",),
    ),
)
