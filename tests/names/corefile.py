"""A strict reader of Corefiles, and an answerer that does what the plug-ins `template` and `forward` are documented to.

Grammar (CoreDNS manual, "Corefile"; Caddyfile lexer): server blocks `ZONE[:PORT] {`, one directive a line, blocks in
braces, tokens parted by blanks, quoted tokens in which a backslash escapes a quote alone, comments from `#`. Known
properties are those of the plug-ins' pages; anything else is an error.
"""

import re
from dataclasses import dataclass, field

TEMPLATE_PROPERTIES = {"match": 1, "answer": 1, "additional": 1, "authority": 1, "rcode": 1, "fallthrough": 0}
TYPES = {"A", "AAAA", "ANY", "TXT", "CNAME"}
RCODES = {"NXDOMAIN", "NOERROR"}


@dataclass
class Template:
    type: str
    matches: list[re.Pattern[str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    authority: list[str] = field(default_factory=list)
    rcode: str = "NOERROR"
    fallthrough: bool = False


@dataclass
class Server:
    zone: str
    templates: list[Template] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)


def parse(text: str) -> list[Server]:
    """The server blocks; raises ValueError for what CoreDNS would not start with."""
    lines = [tokens for line in text.splitlines() if (tokens := lexed(line))]
    servers: list[Server] = []
    while lines:
        servers.append(_server(lines))
    return servers


def lexed(line: str) -> list[str]:
    """The tokens of a line; raises ValueError for a quote that is not closed."""
    tokens: list[str] = []
    place = 0
    while place < len(line):
        if line[place].isspace():
            place += 1
        elif line[place] == "#":
            break
        elif line[place] == '"':
            token, place = _quoted(line, place + 1)
            tokens.append(token)
        else:
            end = next((at for at in range(place, len(line)) if line[at].isspace()), len(line))
            tokens.append(line[place:end])
            place = end
    return tokens


def answer(servers: list[Server], name: str, kind: str) -> tuple[str, list[str]] | None:
    """Code and records for a question; None where no server block has it, or it is forwarded."""
    wanted = f"{name}."
    mine = [server for server in servers if wanted == f"{server.zone}." or wanted.endswith(f".{server.zone}.")]
    if not mine:
        return None
    server = max(mine, key=lambda each: len(each.zone))
    for template in server.templates:
        if template.type not in (kind, "ANY"):
            continue
        if not template.matches or any(pattern.search(wanted) for pattern in template.matches):
            return template.rcode, [line.replace("{{ .Name }}", wanted) for line in template.answers]
        if not template.fallthrough:
            raise ValueError("a template that does not match and does not fall through is a server failure")
    return None


def _quoted(line: str, place: int) -> tuple[str, int]:
    token = ""
    while place < len(line):
        if line[place] == "\\" and line[place + 1 : place + 2] == '"':
            token += '"'
            place += 2
        elif line[place] == '"':
            return token, place + 1
        else:
            token += line[place]
            place += 1
    raise ValueError(f"a quote is not closed: {line}")


def _server(lines: list[list[str]]) -> Server:
    address, brace = lines.pop(0)
    zone, _, port = address.partition(":")
    if brace != "{" or port != "53":
        raise ValueError(f"not the head of a server block: {address} {brace}")
    server = Server(zone)
    while (tokens := lines.pop(0)) != ["}"]:
        match tokens:
            case ["errors"]:
                pass
            case ["forward", ".", target]:
                server.forward.append(target)
            case ["template", "IN", kind, "{"] if kind in TYPES:
                server.templates.append(_template(kind, lines))
            case _:
                raise ValueError(f"not a directive: {tokens}")
    return server


def _template(kind: str, lines: list[list[str]]) -> Template:
    template = Template(kind)
    while (tokens := lines.pop(0)) != ["}"]:
        name, *values = tokens
        if TEMPLATE_PROPERTIES.get(name) != len(values):
            raise ValueError(f"not a property of template: {tokens}")
        match name:
            case "match":
                template.matches.append(re.compile(values[0]))
            case "answer":
                template.answers.append(values[0])
            case "authority":
                template.authority.append(values[0])
            case "rcode" if values[0] in RCODES:
                template.rcode = values[0]
            case "fallthrough":
                template.fallthrough = True
            case _:
                raise ValueError(f"not used here: {tokens}")
    return template
