"""What only POSIX systems have is nowhere needed to import a module, and where it is used, another way is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("vae_flows", "experiments", "examples") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"crypt", "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
ATTRIBUTES = {
    "os": {
        "chown", "chroot", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
        "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown", "mkfifo", "mknod", "nice",
        "openpty", "posix_spawn", "sched_getaffinity", "sched_setaffinity", "setpgid", "setpriority", "setsid",
        "setuid", "statvfs", "sync", "sysconf", "uname", "wait", "wait3", "wait4", "waitid", "O_CLOEXEC",
        "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGUSR1",
        "SIGUSR2", "SIGWINCH", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait",
    },
}  # fmt: skip
ONLY_THERE = {
    # Runs in workers that were given a pipe, which those of Windows are not.
    ("vae_flows/benchmark/parent.py", "end_with_parent"),
}


def uses(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield each import and attribute of this node alone that only POSIX has, with its name."""
    if isinstance(node, ast.Import):
        yield from ((node, alias.name) for alias in node.names if alias.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module:
        if node.module.partition(".")[0] in MODULES:
            yield node, node.module
        yield from ((node, alias.name) for alias in node.names if alias.name in ATTRIBUTES.get(node.module, ()))
    elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES.get(ast.unparse(node.value), ()):
        yield node, ast.unparse(node)


def at_import(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield what is used when the module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from uses(child)
            yield from at_import(child)


def is_guarded(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether a function asks what the system has, or takes the answer that it has not."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            return True
        if isinstance(node, ast.ExceptHandler) and {"AttributeError", "ImportError", "OSError"} & {
            name.id for name in ast.walk(node.type or node) if isinstance(name, ast.Name)
        }:
            return True
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_only_posix_has_is_asked_for(path):
    name, tree = str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))
    found = [f"{name}:{node.lineno}: {what}, when it is imported" for node, what in at_import(tree)]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and (name, function.name) not in ONLY_THERE:
            used = [use for node in ast.walk(function) for use in uses(node)]
            if used and not is_guarded(function) and (name, _outer(tree, function)) not in ONLY_THERE:
                found += [f"{name}:{node.lineno}: {what}, without another way" for node, what in used]
    assert not found, "\n".join(found)


def _outer(tree: ast.AST, function: ast.AST) -> str | None:
    """Return the name of the function around another."""
    for outer in ast.walk(tree):
        if isinstance(outer, ast.FunctionDef) and outer is not function and function in ast.walk(outer):
            return outer.name
    return None


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import fcntl", 1),
        ("from os import fork", 1),
        ("class A:\n    limit = signal.SIGALRM", 1),
        ("if True:\n    import resource", 1),
        ("def f():\n    import fcntl", 0),
        ("import os", 0),
    ],
)
def test_the_search_finds_what_it_should(source, count):
    assert len(list(at_import(ast.parse(source)))) == count
