"""Variables: read from the environment, built from each other, and never shown in an error."""

from __future__ import annotations

import pytest

import cloacina
from cloacina.errors import ValidationError, VariableError
from cloacina.variables import LONGEST, var, var_or

SECRET = "hunter2"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "PLAIN": "text",
        "EMPTY": "",
        "HOST": "db.example.org",
        "PORT": "5432",
        "ADDRESS": "{{HOST}}:{{ PORT }}",
        "URL": "postgresql://me:" + SECRET + "@{{\tADDRESS }}/sales",
        "TWICE": "{{ADDRESS}},{{ADDRESS}}",
        "OPEN": "{{",
        "LITERAL": "{{ OPEN }} HOST }}",
        "JSON": '{"a": {"b": 1}}',
        "HALF": "50 }} of {{",
        "lower": "case",
        "GAP": SECRET + "{{ MISSING }}",
        "FAR": "{{ GAP }}",
        "SELF": SECRET + "{{ SELF }}",
        "A": SECRET + "{{ B }}",
        "B": "{{ C }}",
        "C": "{{ A }}",
        "TO_A": "{{ A }}",
        "WRONG": SECRET + "{{ my-host }}",
        "NOTHING": SECRET + "{{ }}",
        "GROWN0": SECRET * 10,
        **{f"GROWN{n}": f"{{{{ GROWN{n - 1} }}}}" * 10 for n in range(1, 20)},
    }
    for name, value in values.items():
        monkeypatch.setenv(f"CLOACINA_VAR_{name}", value)
    monkeypatch.setenv("UNPREFIXED", "x")


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAIN", "text"),
        ("EMPTY", ""),
        ("URL", f"postgresql://me:{SECRET}@db.example.org:5432/sales"),
        ("TWICE", "db.example.org:5432,db.example.org:5432"),
        ("LITERAL", "{{ HOST }}"),
        ("JSON", '{"a": {"b": 1}}'),
        ("HALF", "50 }} of {{"),
        ("lower", "case"),
    ],
)
def test_a_variable_is_read_and_its_templates_are_filled(name: str, value: str) -> None:
    assert cloacina.var(name) == value
    assert cloacina.var_or(name, None) == value


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("default", ["text", "{{ HOST }}", None, 3])
def test_a_default_stands_in_as_it_is(default: object) -> None:
    assert var_or("MISSING", default) is default


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MISSING", "variable 'MISSING' is not set: set CLOACINA_VAR_MISSING in the environment"),
        ("HOSTS", "the environment. Did you mean 'HOST'?"),
        ("CLOACINA_VAR_HOST", "the environment. Did you mean 'HOST'?"),
        ("UNPREFIXED", "set CLOACINA_VAR_UNPREFIXED"),
        ("GAP", "variable 'MISSING', which GAP needs, is not set"),
        ("FAR", "variable 'MISSING', which FAR → GAP needs, is not set"),
        ("SELF", "in a cycle, SELF → SELF"),
        ("A", "in a cycle, A → B → C → A"),
        ("TO_A", "in a cycle, A → B → C → A"),
        ("WRONG", "begins at character 8 of CLOACINA_VAR_WRONG"),
        ("NOTHING", "begins at character 8"),
        ("GROWN19", f"over {LONGEST:,} characters"),
    ],
)
def test_what_cannot_be_read_is_told_without_any_value(name: str, said: str) -> None:
    with pytest.raises(VariableError) as refused:
        var(name)
    assert said in str(refused.value)
    assert SECRET not in repr(refused.value)
    assert refused.value.__context__ is None


@pytest.mark.usefixtures("environ")
def test_a_default_hides_no_broken_template() -> None:
    with pytest.raises(VariableError, match="'MISSING', which GAP needs"):
        var_or("GAP", "default")


@pytest.mark.parametrize("name", ["", "A B", "A-B", "1A", "{{ A }}", "Ä", "A\n", 7, None])
def test_what_is_no_name(name: object) -> None:
    for call in (lambda: var(name), lambda: var_or(name, "x")):  # type: ignore[arg-type]
        with pytest.raises(VariableError, match="is no name of a variable"):
            call()


def test_an_error_can_be_caught_as_what_it_is() -> None:
    with pytest.raises(LookupError):
        var("MISSING")
    with pytest.raises(ValidationError):
        var("MISSING")
