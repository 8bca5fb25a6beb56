"""The child process of a virtual bench: a plan on the first line of standard input, then questions, one line of JSON each."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from hil.core.child import TYPED, hurry, ignore, take_input
from hil.core.errors import HilError
from simulated_backend.description import rebuild
from simulated_backend.devices.registry import names
from simulated_backend.virtual_bench.bench import Bench
from simulated_backend.virtual_bench.emulator import models
from simulated_backend.virtual_bench.faults import Order
from simulated_backend.virtual_bench.plan import BenchPlan, PlanError
from simulated_backend.virtual_bench.process import OFF


def answer(bench: Bench, question: Mapping[str, Any]) -> object:
    """The answer to one question from the program. ValueError for one that it does not know."""
    plant = bench.plant
    verb = question.get("ask")
    bench.traffic.stand_back()  # what the program wrote to an instrument before it asked here has been obeyed
    if verb == "inject":  # an instrument's own lock comes before the plant's
        _inject(bench, question)
        return None
    if verb == "renew":
        bench.renew()
        return None
    if verb in ("happened", "before", "messages"):
        return {"happened": bench.happened, "before": bench.before, "messages": bench.messages}[verb]
    plain: dict[object, Callable[[], object]] = {
        "now": plant.clock.now,
        "voltages": plant.node_voltages,
        "pressures": plant.node_pressures,
        "concentrations": plant.node_concentrations,
        "sources": plant.sources,
        "outlets": plant.outlets,
        "flows": plant.lines.facts,
        "extremes": plant.extremes,
        "troubles": lambda: plant.troubles,
    }
    with plant.lock:
        if verb == "advance":
            plant.clock.advance(float(question["seconds"]))
            return plant.clock.now()
        if verb == "mount":
            plant.mount(rebuild(question["network"]))
            return None
        if verb in plain:
            return plain[verb]()
    raise ValueError(f"the virtual bench does not know the question {verb!r}")


def _inject(bench: Bench, question: Mapping[str, Any]) -> None:
    order = Order(
        str(question["fault"]), float(question["amount"]), str(question.get("where", "")), int(question.get("after", 0))
    )
    bench.inject(str(question["instrument"]), order)


def main() -> int:
    """Serve until standard input ends. Returns the exit code.

    With ``--in-a-row``: a process of its own for each plan that comes, one after the other, from this one, which has everything
    loaded and no threads.
    """
    ignore(TYPED)  # the program closes our input when it is done
    questions = take_input()
    if "--in-a-row" not in sys.argv or sys.platform == "win32":
        return serve(questions.readline(), questions)
    for load in (models, names):
        load()
    while plan := questions.readline():
        child = os.fork()
        if child == 0:
            return serve(plan, questions)
        if os.waitpid(child, 0)[1] != 0:
            return 1
    return 0


def serve(text: str, questions: TextIO) -> int:
    """One bench by its plan ``text``, until it is told ``off`` or ``questions`` end. Returns the exit code."""
    try:
        plan = BenchPlan.from_json(text)
        bench = Bench(plan)
    except PlanError as error:
        _say({"error": str(error), "instrument": error.instrument, "port": error.port})
        return 1
    except HilError as error:
        _say({"error": str(error)})
        return 1
    if plan.real_time:
        # Real instruments do not share a processor with the program.
        hurry()
    bench.start()
    _say({"addresses": dict(bench.addresses)})
    for line in questions:
        try:
            question = json.loads(line)
            if question.get("ask") == OFF:
                bench.stop()
                _say({"answer": None})
                return 0
            _say({"answer": answer(bench, question)})
        except (ValueError, KeyError, HilError) as error:
            _say({"error": str(error)})
    bench.stop()
    return 0


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
