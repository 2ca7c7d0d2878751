# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation is true: examples are accepted, options and return values complete, role defaults as specified."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible.playbook.task import Task

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml

CHECKOUT = Path(__file__).parents[2]
COLLECTION = "keystone.virtiofs"
MODULES = sorted(path.stem for path in CHECKOUT.glob("plugins/modules/*.py"))
ROLES = sorted(path.name for path in CHECKOUT.glob("roles/*"))
SUPPORT = {"full", "none", "partial", "N/A"}


def documentation(kind: str, names: set[str]) -> dict[str, Any]:
    command = ["ansible-doc", "--json", "--type", kind, *sorted(names)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


@pytest.fixture(scope="session")
def module_docs() -> dict[str, Any]:
    """The modules' documentation with fragments merged in, by module."""
    docs = documentation("module", {f"{COLLECTION}.{name}" for name in MODULES})
    return {name.rpartition(".")[2]: doc for name, doc in docs.items()}


class Constructed(Exception):
    """A module has reached the construction of its AnsibleModule, with these arguments."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments


def construct(*_: object, **arguments: Any) -> NoReturn:
    raise Constructed(**arguments)


def module_arguments(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the module constructs its AnsibleModule with."""
    monkeypatch.setattr(AnsibleModule, "__init__", construct)
    with pytest.raises(Constructed) as constructed:
        importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.modules.{module}").main()
    return constructed.value.arguments


def argument_validator(module: str, monkeypatch: pytest.MonkeyPatch) -> ModuleArgumentSpecValidator:
    """The validator that the module itself would use."""
    given = module_arguments(module, monkeypatch)
    rules = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
    return ModuleArgumentSpecValidator(given["argument_spec"], **{rule: given.get(rule) for rule in rules})


def action(task: dict[str, Any]) -> str:
    (name,) = task.keys() - Task.fattributes.keys()
    return name


def tasks(examples: str) -> Iterator[dict[str, Any]]:
    for task in yaml.safe_load(examples):
        yield from task.get("block", [task])


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_tasks_that_the_module_accepts(
    module: str, module_docs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = argument_validator(module, monkeypatch)
    examples = list(tasks(module_docs[module]["examples"]))
    for task in examples:
        assert action(task).count(".") == 2, f"not a fully qualified name: {action(task)}"
        assert task.get("name"), f"a task without a name: {task}"
    own = [task[action(task)] or {} for task in examples if action(task) == f"{COLLECTION}.{module}"]
    assert own
    for arguments in own:
        assert validator.validate(arguments).error_messages == []


def outline(options: dict[str, Any], below: str) -> dict[str, dict[str, Any]]:
    """What documentation and argument_spec must agree on, for every option by name; ``below`` names suboptions."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": sorted(option.get("choices") or []),
            "elements": option.get("elements"),
            "options": outline(option.get(below) or {}, below),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("module", MODULES)
def test_options_are_documented_as_the_module_takes_them(
    module: str, module_docs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = outline(module_docs[module]["doc"]["options"], "suboptions")
    assert documented == outline(module_arguments(module, monkeypatch)["argument_spec"], "options")


@pytest.mark.parametrize("module", MODULES)
def test_options_and_modules_say_since_when(module: str, module_docs: dict[str, Any]) -> None:
    assert module_docs[module]["doc"]["version_added"] not in (None, "historical")


@pytest.mark.parametrize("module", MODULES)
def test_the_authors_have_one_spelling(module: str, module_docs: dict[str, Any]) -> None:
    author = module_docs[module]["doc"]["author"]
    assert (author if isinstance(author, str) else ", ".join(author)) == "keystone contributors (@ncrmro)"


FAILURE_VALUES = {"problem", "fix", "failed_domain", "failed_share"}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("host_info", "store_info")])
def test_failure_values_are_documented(module: str, module_docs: dict[str, Any]) -> None:
    """host_info and store_info report problems as results."""
    assert module_docs[module]["return"].keys() >= FAILURE_VALUES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_tells_its_check_mode_and_diff_support(module: str, module_docs: dict[str, Any]) -> None:
    attributes = module_docs[module]["doc"]["attributes"]
    assert {attributes[name]["support"] for name in ("check_mode", "diff_mode")} <= SUPPORT


@pytest.mark.parametrize("module", MODULES)
def test_a_module_describes_its_return_values_with_samples(module: str, module_docs: dict[str, Any]) -> None:
    values = module_docs[module]["return"]
    assert values
    for name, value in values.items():
        assert {"description", "returned", "type"} <= value.keys(), name
        assert {"sample", "contains"} & value.keys(), name


def dictionaries(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The documented return values that have keys of their own, by path."""
    for name, value in values.items():
        if "dict" in (value["type"], value.get("elements")):
            yield f"{path}{name}", value
        yield from dictionaries(value.get("contains") or {}, f"{path}{name}.")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_describes_the_keys_of_its_return_values(module: str, module_docs: dict[str, Any]) -> None:
    """Or says which module does."""
    for path, value in dictionaries(module_docs[module]["return"]):
        assert "contains" in value or f"({COLLECTION}." in "".join(value["description"]), path


def test_every_fact_of_a_domain_is_described(module_docs: dict[str, Any]) -> None:
    """The facts are the keys of the dictionary in describe(), and the options of its ``document.options()``."""
    source = ast.parse((CHECKOUT / "plugins/module_utils/_apply/describe.py").read_text())
    literals = [node for node in ast.walk(source) if isinstance(node, ast.Dict) and len(node.keys) > 3]
    keys = {key.value for literal in literals for key in literal.keys if isinstance(key, ast.Constant)}
    options = DomainXml((CHECKOUT / "tests/unit/golden/everything.xml").read_text()).options()
    assert module_docs["domain"]["return"]["domain"]["contains"].keys() == keys | options.keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_metadata_for_galaxy(role: str) -> None:
    specification = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    assert (
        read_yaml(f"roles/{role}/meta/main.yml")["galaxy_info"]["description"]
        == specification["main"]["short_description"]
    )
    assert all("version_added" in entry_point for entry_point in specification.values())


def read_yaml(path: str) -> Any:
    return yaml.safe_load((CHECKOUT / path).read_text())


def role_options(role: str) -> dict[str, Any]:
    """The options of all entry points of a role."""
    entry_points = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entry_points for name, option in entry.get("options", {}).items()}


def role_defaults(role: str) -> dict[str, Any]:
    file = CHECKOUT / f"roles/{role}/defaults/main.yml"
    return (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_documented(role: str) -> None:
    assert (CHECKOUT / f"roles/{role}/README.md").is_file()
    assert read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]


@pytest.mark.parametrize("role", ROLES)
def test_role_variables_carry_the_roles_name(role: str) -> None:
    assert [name for name in role_options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_defaults_are_those_of_its_specification(role: str) -> None:
    options, defaults = role_options(role), role_defaults(role)
    assert defaults.keys() <= options.keys()
    # What a default is computed from stands in the option's description.
    fixed = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert fixed == {name: option["default"] for name, option in options.items() if "default" in option}


def test_ansible_reads_the_roles_specifications() -> None:
    names = {f"{COLLECTION}.{role}" for role in ROLES}
    assert documentation("role", names).keys() == names


@pytest.mark.parametrize("kind", ["callback", "filter"])
def test_ansible_reads_the_documentation_of_plugins(kind: str) -> None:
    names = {f"{COLLECTION}.{path.stem}" for path in CHECKOUT.glob(f"plugins/{kind}/*.py")}
    docs = documentation(kind, names)
    assert docs.keys() == names
    assert [name for name, doc in docs.items() if doc["doc"].get("version_added") in (None, "historical")] == []
