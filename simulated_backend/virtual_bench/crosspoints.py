"""Crosspoints of a switch matrix between a terminal and the nodes: only a closed one connects, everything else floats."""

from collections.abc import Callable, Sequence

from simulated_backend.virtual_bench.plan import Wire
from simulated_backend.virtual_bench.terminals import Terminal


class Crosspoints:
    """All wires that go through a matrix. ``terminal`` and ``position``: the plant's terminals and nodes; ``report``: of the
    plant, for what it cannot follow."""

    def __init__(
        self,
        wires: Sequence[Wire],
        terminal: Callable[[str, str], Terminal],
        position: Callable[[str, str, str], int],
        report: Callable[[str], None],
    ) -> None:
        self._report = report
        self._routes: dict[str, tuple[Terminal, int, str]] = {}
        self._closed: list[str] = []
        for wire in wires:
            if wire.through:
                reached = terminal(wire.instrument, wire.port)
                reached.switched = True
                self._routes[wire.through] = (reached, position(wire.instrument, wire.port, wire.node), wire.node)

    def route(self, instrument: str, crosspoint: str, closed: bool) -> None:
        """A crosspoint has closed or opened. Two closed ones at one terminal would tie two nodes together: that is reported,
        and the terminal stays at the node it reached first."""
        name = f"{instrument}.{crosspoint}"
        if name not in self._routes or closed == (name in self._closed):
            return
        if closed:
            self._closed.append(name)
        else:
            self._closed.remove(name)
        terminal = self._routes[name][0]
        reached = [self._routes[one] for one in self._closed if self._routes[one][0] is terminal]
        nodes = list(dict.fromkeys(node for _, _, node in reached))
        if closed and len(nodes) > 1:
            self._report(f"closed crosspoints tie the nodes {' and '.join(map(repr, nodes))} together, which is not followed")
        terminal.connect(reached[0][1] if reached else None)
