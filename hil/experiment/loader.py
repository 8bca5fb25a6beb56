"""YAML to validated models, with one clear error: file, line, field, value, limit, remedy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hil.core.errors import ConfigError
from hil.experiment.fields import FieldError

M = TypeVar("M", bound=BaseModel)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}


@dataclass
class Document:
    """One YAML file as plain data (mapping keys are always text), with the line of every field."""

    path: Path
    text: str
    data: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    overridden: dict[str, str] = field(default_factory=dict)

    def where(self, dotted: str) -> str:
        """``file, line 12: a.b`` (or the ``--set`` that wrote it) for the nearest field that the file has."""
        for written, origin in self.overridden.items():
            if dotted == written or dotted.startswith(f"{written}."):
                return f"{origin}: {dotted}"
        known = dotted
        while known and known not in self.lines:
            known = known.rpartition(".")[0]
        line = self.lines.get(known, 1)
        return f"{self.path}, line {line}" + (f": {dotted}" if dotted else "")

    def error(self, message: str, dotted: str = "") -> ConfigError:
        """The one error for a field of this file."""
        return ConfigError(f"{self.where(dotted)}: {message}")

    def located(self, error: ConfigError) -> ConfigError:
        """``error`` with file and line, when it says which field it is about."""
        return self.error(str(error), error.field) if isinstance(error, FieldError) else ConfigError(f"{self.path}: {error}")

    def override(self, dotted: str, text: str, origin: str) -> None:
        """Set the field at ``dotted`` to the YAML value ``text``; sections that are missing are made."""
        parts = dotted.split(".")
        if not all(parts):
            raise ConfigError(f"{origin}: write --set path=value, with names between dots, for example stop.max_steps=50")
        here: Any = self.data
        for depth, part in enumerate(parts[:-1]):
            if not isinstance(here.get(part, {}), dict):
                below = ".".join(parts[: depth + 1])
                raise ConfigError(f"{origin}: {below} is {here[part]!r}, not a section that could hold {parts[depth + 1]!r}")
            here = here.setdefault(part, {})
        value, _, _ = _parse(text, origin)
        here[parts[-1]] = value
        self.overridden = {dotted: origin, **self.overridden}

    def model(self, kind: type[M]) -> M:
        """The validated model; ConfigError naming file, line and field of the first problem, and how many more there are."""
        try:
            return kind.model_validate(self.data)
        except ValidationError as error:
            self._require_format(kind)
            raise self._explained(error) from None

    def _require_format(self, kind: type[M]) -> None:
        """ConfigError where this is another kind of file: that explains everything else that is wrong with it."""
        wanted = get_args(kind.model_fields["format"].annotation) if "format" in kind.model_fields else ()
        if wanted and self.data.get("format") not in wanted:
            here = f"this file says {self.data['format']!r}" if "format" in self.data else "it is missing"
            raise self.error(f"`format: {wanted[0]}` is needed, and {here}", "format")

    def _explained(self, error: ValidationError) -> ConfigError:
        problems = error.errors(include_url=False)
        # An unknown key makes a required one missing; the first is the cause.
        first = min(problems, key=lambda problem: problem["type"] == "missing")
        dotted = ".".join(str(part) for part in first["loc"])
        context = first.get("ctx", {})
        if first["type"] == "hil" and context.get("field"):
            dotted = f"{dotted}.{context['field']}".lstrip(".")
        message = _sentence(first["type"], first["msg"], first.get("input"))
        more = len(problems) - 1
        return self.error(message + (f" (and {more} more problem{'s' * (more > 1)} in this file)" if more else ""), dotted)


def _sentence(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "this field is required; add it"
    if kind in ("hil", "value_error"):
        return message.removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}, not {value!r}"


def read(path: Path) -> Document:
    """Read one file; ConfigError when it is missing, no YAML, holds a key twice, or is not a mapping of fields."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the file is not UTF-8 text; save it as UTF-8") from None
    data, lines, _ = _parse(text, str(path))
    if data is None:
        raise ConfigError(f"{path}: the file is empty; a file of fields `name: value` is needed")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}, line 1: a file of fields `name: value` is needed, not {data!r}")
    return Document(path, text, data, lines)


def _parse(text: str, origin: str) -> tuple[Any, dict[str, int], None]:
    lines: dict[str, int] = {}
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) and event.start_mark is not None:
                raise ConfigError(f"{origin}, line {event.start_mark.line + 1}: anchors and aliases are not used in these files")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).replace(
            "found character '\\t' that cannot start any token", "there is a tab; indent with spaces"
        )
        problem = problem.replace(
            "mapping values are not allowed here", "a second ': ' in this line; put text that holds one in quotes"
        )
        raise ConfigError(f"{origin}, line {line}: not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    return (None if node is None else _build(node, "", lines, origin)), lines, None


def _build(node: yaml.Node, dotted: str, lines: dict[str, int], origin: str) -> Any:
    lines.setdefault(dotted, node.start_mark.line + 1)
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python/"):
        raise ConfigError(f"{origin}, line {node.start_mark.line + 1}: tag {node.tag!r} is not used in these files")
    if isinstance(node, yaml.MappingNode):
        section: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{origin}, line {line}: a key must be a plain name")
            name = str(key.value)
            below = f"{dotted}.{name}".lstrip(".")
            if name in section:
                raise ConfigError(f"{origin}, line {line}: {below} is given twice (first in line {lines[below]}); keep one")
            lines[below] = line
            section[name] = _build(value, below, lines, origin)
        return section
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, f"{dotted}.{number}", lines, origin) for number, item in enumerate(node.value)]
    if node.tag in _PLAIN_TAGS:
        return yaml.SafeLoader("").construct_object(node)
    return str(node.value)


def apply_overrides(settings: Iterable[str], protocol: Document, bench: Document | None = None) -> list[str]:
    """Apply ``path=value`` texts: short names by the protocol's ``aliases``, ``bench.…`` to the bench file, the rest here.

    Returns those for the bench file when ``bench`` is None, so that they can be applied once it has been found
    (``bench=FILE`` itself edits the protocol).
    """
    later: list[str] = []
    aliases = protocol.data.get("aliases")
    aliases = aliases if isinstance(aliases, Mapping) else {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        origin = f"--set {setting}"
        if not equals:
            raise ConfigError(f"{origin}: write --set path=value")
        path = path.strip()
        head, dot, rest = path.partition(".")
        if isinstance(aliases.get(head), str):
            path = f"{aliases[head]}{dot}{rest}"
        if not path.startswith("bench."):
            protocol.override(path, text, origin)
        elif bench is None:
            later.append(f"{path}={text}")
        else:
            bench.override(path.removeprefix("bench."), text, origin)
    return later


def find(name: str, beside: Path | None, shipped: Path, what: str) -> Path:
    """The file called ``name``: a path (as given, or beside ``beside``), or the name of a shipped one."""
    given = Path(name)
    candidates = [given] if beside is None else [beside.parent / given, given]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if given.name == name or name.startswith("benches/"):
        for ending in ("", ".yaml"):
            if (shipped / f"{name}{ending}").is_file():
                return shipped / f"{name}{ending}"
    if (shipped / given.name).is_file() and not given.is_absolute() and len(given.parts) <= 2:
        return shipped / given.name
    known = sorted(path.stem for path in shipped.glob("*.yaml"))
    near = get_close_matches(given.stem, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"give the path of a file, or the name of a shipped one: {', '.join(known)}"
    raise ConfigError(f"there is no {what} {name!r}; {hint}")
