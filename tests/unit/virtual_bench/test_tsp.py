"""The TSP interpreter by itself: scripts, formats, error codes, and a sandbox that neither hangs nor leaks."""

import struct

import pytest

from simulated_backend.virtual_bench.tsp import TspInterpreter
from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_status import Register
from simulated_backend.virtual_bench.tsp_tree import Namespace


class Settings:
    size = 1.0
    mode = 0


@pytest.fixture
def tsp() -> TspInterpreter:
    errors = ErrorQueue(capacity=5)
    interpreter = TspInterpreter(errors, lambda: None, instruction_limit=200_000)
    box = Namespace("box")
    settings = Settings()
    box.number("size", settings, "size", errors, -2.0, 2.0)
    box.choice("mode", settings, "mode", errors, (0, 1, 3))
    box.attribute("fixed", lambda: 7)
    box.constants["ON"] = 1
    root = Namespace("")
    root.children["box"] = box
    interpreter.install(root)
    return interpreter


def say(tsp: TspInterpreter, *lines: str) -> str:
    return "".join((tsp.receive(line.encode()) or b"").decode() for line in lines)


def error(tsp: TspInterpreter) -> tuple[int, str]:
    entry = tsp.errors.next()
    return entry.code, entry.message


def test_print_formats_numbers_words_and_tabs(tsp: TspInterpreter) -> None:
    assert say(tsp, "print(1, nil, true, 'x', -2.5e-9)") == "1.00000e+00\tnil\ttrue\tx\t-2.50000e-09\n"
    assert say(tsp, "format.asciiprecision = 10 print(1/3)") == "3.333333333e-01\n"
    assert say(tsp, "print(1) print(2)") == "1.000000000e+00\n2.000000000e+00\n"
    assert tsp.receive(b"x = 1") is None


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("format.data = format.REAL64", "<2d"),
        ("format.data = format.DREAL format.byteorder = format.BIGENDIAN", ">2d"),
        ("format.data = format.SREAL", "<2f"),
    ],
)
def test_binary_numbers_are_a_block_of_undefined_length(tsp: TspInterpreter, settings: str, kind: str) -> None:
    reply = tsp.receive(f"{settings} printnumber(1.5, -2)".encode())
    assert reply == b"#0" + struct.pack(kind, 1.5, -2.0) + b"\n"


def test_ascii_numbers_are_separated_by_comma_and_space(tsp: TspInterpreter) -> None:
    assert say(tsp, "printnumber(1, 2)") == "1.00000e+00, 2.00000e+00\n"


def test_a_loaded_script_runs_only_when_called(tsp: TspInterpreter) -> None:
    assert say(tsp, "loadscript setup", "function twice(x) return 2 * x end", "print('ran')", "endscript") == ""
    assert say(tsp, "print(twice)") == "nil\n"
    assert say(tsp, "setup()") == "ran\n"
    assert say(tsp, "print(twice(4))") == "8.00000e+00\n"
    assert say(tsp, "setup.run()") == "ran\n"
    assert say(tsp, "print(setup.source)").startswith("function twice")
    assert say(tsp, "script.delete('setup') print(setup)") == "nil\n"


def test_load_and_run_and_scripts_made_by_scripts(tsp: TspInterpreter) -> None:
    assert (
        say(tsp, "loadandrunscript\r", "for i = 1, 2 do\r", "print(i)\r", "end\r", "endscript\r") == "1.00000e+00\n2.00000e+00\n"
    )
    assert say(tsp, "script.run()") == "1.00000e+00\n2.00000e+00\n"
    assert say(tsp, "s = script.new('print(9)', 'nine')", "nine()") == "9.00000e+00\n"
    say(tsp, "loadscript 9lives", "endscript")
    assert error(tsp)[0] == -282


def test_a_half_sent_script_can_be_dropped(tsp: TspInterpreter) -> None:
    say(tsp, "loadscript lost", "print(1)")
    tsp.forget_input()
    assert say(tsp, "print(lost)") == "nil\n"


def test_syntax_and_run_time_errors_carry_code_and_line(tsp: TspInterpreter) -> None:
    say(tsp, "x = = 3")
    code, message = error(tsp)
    assert (code, message[:29]) == (-285, "TSP Syntax error at line 1: u")
    say(tsp, "loadandrunscript", "local a = 1", "nothing.there = a", "endscript")
    code, message = error(tsp)
    assert code == -286
    assert "line 2" in message
    assert "'nothing'" in message


def test_an_unknown_or_fixed_attribute_stops_the_script_a_bad_value_does_not(tsp: TspInterpreter) -> None:
    assert say(tsp, "box.colour = 1 print('not reached')") == ""
    assert "unknown attribute `box.colour'" in error(tsp)[1]
    assert say(tsp, "box.fixed = 1 print('not reached')") == ""
    assert "cannot be modified" in error(tsp)[1]
    assert say(tsp, "box.size = 5 print(box.size)") == "1.00000e+00\n"
    assert error(tsp) == (1101, "Parameter too big")
    for value, code in (("-5", 1102), ("'1'", -104), ("0/0", 1401), ("nil", -104), ("true", -104)):
        say(tsp, f"box.size = {value}")
        assert error(tsp)[0] == code
    say(tsp, "box.mode = 2")
    assert error(tsp)[0] == 1401
    assert say(tsp, "box.mode = 3 box.size = -2 print(box.mode, box.size, box.ON, box.none)") == (
        "3.00000e+00\t-2.00000e+00\t1.00000e+00\tnil\n"
    )


def test_the_error_queue_answers_in_order_and_overflows_honestly(tsp: TspInterpreter) -> None:
    for _ in range(7):
        say(tsp, "box.size = 5")
    assert say(tsp, "print(errorqueue.count)") == "5.00000e+00\n"
    assert say(tsp, "print(errorqueue.next())") == "1.10100e+03\tParameter too big\t2.00000e+01\t1.00000e+00\n"
    assert [tsp.errors.next().code for _ in range(4)] == [1101, 1101, 1101, -350]
    assert say(tsp, "print(errorqueue.next())") == "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00\n"


@pytest.mark.parametrize(
    "loop",
    ["while true do end", "while true do pcall(function() while true do end end) end", "repeat local x = 1 until false"],
)
def test_an_endless_loop_ends_and_the_interpreter_lives_on(tsp: TspInterpreter, loop: str) -> None:
    say(tsp, loop)
    assert error(tsp) == (-286, "TSP Runtime error : too many instructions")
    assert say(tsp, "print(1)") == "1.00000e+00\n"


def test_memory_is_bounded(tsp: TspInterpreter) -> None:
    say(tsp, "s = 'x' while true do s = s .. s end")
    assert error(tsp)[0] == -225
    assert say(tsp, "s = nil print(2)") == "2.00000e+00\n"


@pytest.mark.parametrize(
    "name",
    ["io", "os", "require", "package", "dofile", "loadfile", "load", "debug", "python", "coroutine", "getfenv", "newproxy"],
)
def test_nothing_reaches_the_host(tsp: TspInterpreter, name: str) -> None:
    assert say(tsp, f"print({name})") == "nil\n"


def test_python_objects_stay_closed_and_bytecode_is_refused(tsp: TspInterpreter) -> None:
    assert say(tsp, "print(getmetatable(box), string.dump, type(print))") == "false\tnil\tfunction\n"
    assert say(tsp, "print(loadstring('\\27Lua'))") == "nil\tnot a text\n"
    assert tsp.receive(b"\x1bLuaQ") is None
    assert error(tsp)[0] == -285


def test_prompts_and_shown_errors(tsp: TspInterpreter) -> None:
    tsp.prompts = 1
    assert say(tsp, "print(1)") == "1.00000e+00\nTSP>\n"
    assert say(tsp, "box.size = 9") == "TSP?\n"
    tsp.errors.clear()
    tsp.show_errors = 1
    assert say(tsp, "box.size = 9") == "1101, Parameter too big\nTSP>\n"


def test_lua_5_0_names_are_there(tsp: TspInterpreter) -> None:
    assert say(tsp, "print(table.getn({5, 6}), math.mod(7, 4))") == "2.00000e+00\t3.00000e+00\n"
    assert say(tsp, "function f(...) return arg.n end print(f(1, 2, 3))") == "3.00000e+00\n"


def test_a_register_latches_transitions_and_summarises() -> None:
    errors = ErrorQueue()
    parent = Register("parent", {"CHILD": 4})
    child = parent.add(4, Register("child", {"A": 1, "B": 2}, enable=1))
    child.set_condition(1, True)
    child.set_condition(1, False)
    assert parent.update() == 4  # the event stays latched after the condition has gone
    assert child.read_event() == 1
    assert parent.update() == 0
    child.set_condition(2, True)
    assert parent.update() == 0  # not enabled
    child.ptr, child.ntr = 0, 2
    child.read_event()
    child.set_condition(2, False)
    assert child.read_event() == 2
    assert parent.namespace(errors).getters["condition"]() == 0
