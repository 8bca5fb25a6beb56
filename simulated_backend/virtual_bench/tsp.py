"""Test Script Processor: messages of a TSP instrument run as Lua, in a sandbox, with scripts, error queue and formats.

Source: Series 2600B reference manual (2600BS-901-01), "TSP programming fundamentals" and "Remote commands". The
instrument runs Lua 5.0; this runs Lua 5.1 with its 5.0 compatibility (table.getn, math.mod, string.gfind, arg).
"""

import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_lua import PRELUDE
from simulated_backend.virtual_bench.tsp_tree import Namespace

_MEMORY = 64 * 2**20
_CACHED_CHUNKS = 512
_LONGEST_LINE = 1000
"""Characters between two line feeds, as the maker's own library knows them (tm_devices, issue 500): what is longer is lost."""
_PLACE = re.compile(r"tsp:(\d+): (.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _closed(owner: object, attribute: object, setting: bool) -> str:
    raise AttributeError(f"scripts cannot reach inside {type(owner).__name__}")


class TspInterpreter:
    """One script engine: ``receive`` takes a line, runs it and returns what it printed.

    ``complete()`` finishes overlapped work (waitcomplete, ``*OPC?``); ``instruction_limit`` ends endless loops.
    Number formats (format.*) and prompts are kept here because print belongs to the language.
    """

    def __init__(self, errors: ErrorQueue, complete: Callable[[], None], *, instruction_limit: int = 50_000_000) -> None:
        from lupa import lua51

        self.errors = errors
        self._complete = complete
        self._limit = instruction_limit
        self._lua_error: type[Exception] = lua51.LuaError
        lua: Any = lua51  # its stubs know no keyword of the runtime
        self._runtime: Any = lua.LuaRuntime(
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_closed,
            encoding="latin-1",
            max_memory=_MEMORY,
        )
        self._tostring: Any = self._runtime.globals()["tostring"]
        helpers: Any = self._runtime.execute(PRELUDE)
        self._wrap, self._make, self._callable = helpers["wrap"], helpers["make"], helpers["callable"]
        self._compile, self._sethook, self._alarm = helpers["compile"], helpers["sethook"], helpers["alarm"]
        self.globals: Any = self._runtime.globals()
        self._chunks: dict[str, Any] = {}
        self._output: list[bytes] = []
        self._recording: tuple[str, bool, list[str]] | None = None
        self._scripts: dict[str, Any] = {}
        self.common: dict[str, Callable[[], str | None]] = {}
        """The instrument's ``*`` commands: each returns its reply or None."""
        self.data_format = 1
        self.precision = 6
        self.little_endian = 1
        self.prompts = 0
        self.show_errors = 0
        self.install(self._language())

    # ---- tables -----------------------------------------------------------------------------------------------------

    def build(self, namespace: Namespace) -> Any:
        """The Lua table of ``namespace``."""
        table = self._runtime.table_from
        static: dict[str | int, object] = {}
        static.update(namespace.constants)
        static.update({name: self._wrap(function) for name, function in namespace.functions.items()})
        static.update({name: self.build(child) for name, child in namespace.children.items()})
        static.update({number: self.build(child) for number, child in namespace.numbered.items()})
        return self._make(
            namespace.name,
            table(namespace.getters),
            table(namespace.setters),
            table(static),
            namespace.handle,
            namespace.item,
        )

    def install(self, namespace: Namespace) -> None:
        """Put the contents of ``namespace`` among the global names of the scripts."""
        for name, child in namespace.children.items():
            self.globals[name] = self.build(child)
        for name, function in namespace.functions.items():
            self.globals[name] = self._wrap(function)
        for name, value in namespace.constants.items():
            self.globals[name] = value

    def run_factory_script(self, text: str) -> None:
        """Run Lua that belongs to the instrument itself."""
        self._runtime.execute(text)

    def _language(self) -> Namespace:
        root = Namespace("")
        root.functions["print"] = self._print
        root.functions["printnumber"] = self._print_number
        root.functions["waitcomplete"] = lambda *_group: self._complete()
        formats = root.child("format")
        formats.constants.update(
            ASCII=1, SREAL=2, REAL32=2, REAL=3, REAL64=3, DREAL=3,
            NORMAL=0, NETWORK=0, BIGENDIAN=0, SWAPPED=1, LITTLEENDIAN=1,
        )  # fmt: skip
        formats.choice("data", self, "data_format", self.errors, (1, 2, 3))
        formats.choice("byteorder", self, "little_endian", self.errors, (0, 1))
        formats.number("asciiprecision", self, "precision", self.errors, 1, 16, integer=True)
        queue = root.child("errorqueue")
        queue.attribute("count", lambda: len(self.errors))
        queue.functions["next"] = lambda *_: tuple(self.errors.next())
        queue.functions["clear"] = self.errors.clear
        script = root.child("script")
        script.functions["new"] = self._new_script
        script.functions["delete"] = self._delete_script
        script.functions["run"] = lambda *_: self._run_anonymous()
        script.child("user").attribute("scripts", lambda: self._runtime.table_from(self._scripts))
        return root

    # ---- messages ---------------------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> bytes | None:
        """Obey one line; what it printed (each response ended by LF), or None."""
        text = message.decode("latin-1")
        if len(text) > _LONGEST_LINE:
            self.errors.add(-363)
        elif self._recording is not None:
            self._record(text)
        else:
            words = text.split(None, 2)
            if not words:
                return None
            if words[0] in ("loadscript", "loadandrunscript"):
                self._recording = (words[1] if len(words) > 1 else "", words[0] == "loadandrunscript", [])
            elif text.lstrip().startswith("*"):
                self._common_commands(text)
            elif words == ["abort"]:  # a word of its own: it stops scripts, so it is no script
                self.execute("abort()")
            else:
                self.execute(text)
        if self.show_errors:
            while len(self.errors):
                entry = self.errors.next()
                self._output.append(f"{entry.code}, {entry.message}\n".encode("latin-1", "replace"))
        if self.prompts and self._recording is None:
            self._output.append(b"TSP?\n" if len(self.errors) else b"TSP>\n")
        if not self._output:
            return None
        reply = b"".join(self._output)
        self._output.clear()
        return reply

    def execute(self, text: str) -> None:
        """Run Lua text; errors go to the queue (-285 syntax, -286 run time, -225 memory)."""
        chunk = self._chunks.get(text)
        if chunk is None:
            chunk = self._compiled(text)
            if chunk is None:
                return
            if len(self._chunks) >= _CACHED_CHUNKS:
                self._chunks.clear()
            self._chunks[text] = chunk
        self.call(chunk)

    def call(self, function: Any) -> None:
        """Call a Lua function under the instruction limit; errors go to the queue."""
        self._sethook(self._alarm, "", self._limit)
        try:
            function()
        except self._lua_error as error:
            self._sethook()
            self._runtime_error(str(error))

    def forget_input(self) -> None:
        """Drop a half-sent script and output nobody read (device clear)."""
        self._recording = None
        self._output.clear()

    def _compiled(self, text: str) -> Any | None:
        if "\x1b" in text:  # Lua would take it for bytecode
            self.errors.add(-285, "at line 1: unexpected symbol")
            return None
        result = self._compile(text, "=tsp")
        if isinstance(result, tuple):
            place = _PLACE.match(str(result[1]))
            self.errors.add(-285, f"at line {place[1]}: {place[2]}" if place else str(result[1]))
            return None
        return result

    def _runtime_error(self, text: str) -> None:
        first = text.split("\nstack traceback", 1)[0]
        if "not enough memory" in first or not first.strip():
            self.globals["collectgarbage"]()
            self.errors.add(-225)
            return
        place = _PLACE.match(first)
        self.errors.add(-286, f"at line {place[1]}: {place[2]}" if place else f": {first}")

    def _record(self, line: str) -> None:
        if self._recording is None:
            return
        name, run, lines = self._recording
        if line.strip() != "endscript":
            lines.append(line)
            return
        self._recording = None
        text = "\n".join(lines)
        if name and not _NAME.match(name):
            self.errors.add(-282)
            return
        function = self._compiled(text)
        if function is None:
            return
        self._store_script(name or "anonymous", text, function)
        if run:
            self.call(function)

    def _common_commands(self, text: str) -> None:
        for part in text.split(";"):
            word = part.strip()
            command = self.common.get(word.upper())
            if command is None:
                self.errors.add(-285, f"at line 1: unexpected symbol near `{word[:20]}'")
                return
            reply = command()
            if reply is not None:
                self._output.append(reply.encode("latin-1", "replace") + b"\n")

    # ---- scripts ----------------------------------------------------------------------------------------------------

    def _store_script(self, name: str, text: str, function: Any) -> Any:
        space = Namespace(name)
        space.constants.update(name=name, source=text)
        space.functions["run"] = lambda *_: self.call_inside(function)
        space.functions["list"] = lambda *_: self.say(text)
        space.functions["save"] = lambda *_: None
        script = self._callable(self.build(space), function)
        self._scripts[name] = script
        if name != "anonymous":
            self.globals[name] = script
        return script

    @staticmethod
    def call_inside(function: Any) -> object:
        """Call a Lua function from within a running script: errors end that script."""
        return function()

    def _new_script(self, code: object = None, name: object = "", *_: object) -> object:
        if not isinstance(code, str):
            self.errors.add(-104)
            return None
        function = self._compiled(code)
        return None if function is None else self._store_script(str(name) or "anonymous", code, function)

    def _delete_script(self, name: object = None, *_: object) -> None:
        if self._scripts.pop(str(name), None) is None:
            self.errors.add(-292)
        elif self.globals[str(name)] is not None:
            self.globals[str(name)] = None

    def _run_anonymous(self) -> object:
        script = self._scripts.get("anonymous")
        if script is None:
            self.errors.add(-292)
            return None
        return self.call_inside(script)

    # ---- output -----------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Put one response line into the output."""
        self._output.append(text.encode("latin-1", "replace") + b"\n")

    def _print(self, *values: object) -> None:
        digits = self.precision - 1
        words = [
            f"{value:.{digits}e}" if isinstance(value, float | int) and not isinstance(value, bool) else self._word(value)
            for value in values
        ]
        self._output.append("\t".join(words).encode("latin-1", "replace") + b"\n")

    def _word(self, value: object) -> str:
        if value is None:
            return "nil"
        if isinstance(value, bool):
            return "true" if value else "false"
        return value if isinstance(value, str) else str(self._tostring(value))

    def _print_number(self, *values: object) -> None:
        numbers = [float(value) for value in values if isinstance(value, float | int)]
        if len(numbers) != len(values) or not numbers:
            self.errors.add(1400, 1)
            return
        self.say_numbers(numbers)

    def say_numbers(self, numbers: Iterable[float]) -> None:
        """Put numbers into the output as format.data says: ASCII with ", " between, or a ``#0`` block of binary reals."""
        if self.data_format == 1:
            digits = self.precision - 1
            self._output.append(", ".join([f"{number:.{digits}e}" for number in numbers]).encode() + b"\n")
            return
        data = tuple(numbers)
        kind = ("<" if self.little_endian else ">") + str(len(data)) + ("f" if self.data_format == 2 else "d")
        self._output.append(b"#0" + struct.pack(kind, *data) + b"\n")
