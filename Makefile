# SPDX-License-Identifier: GPL-3.0-or-later
VM ?= test-vm
# The playbook writes it, unless virtiofs_ssh_directory names another directory.
SSH_CONFIG ?= $(HOME)/.cache/keystone-virtiofs/ssh/config
# Passed on to ansible-playbook: ARGS='-i fleet.yml --check'
ARGS ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)
VIRSH := $(AS_ROOT) virsh --connect qemu:///system
.DEFAULT_GOAL := help
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif

##@ The main job
.PHONY: vm verify status benchmark destroy clean
vm: setup-run ## Prepare this host, start the VM with its share, verify it, show how to connect
	ansible-playbook playbooks/virtiofs-vm.yml $(ARGS)

verify: setup-run ## Check host and guest again
	ansible-playbook playbooks/verify.yml $(ARGS)

status: setup-run ## Show one line for each guest (ARGS='-e status_files=status.html' writes a page)
	ansible-playbook playbooks/status.yml $(ARGS)

benchmark: setup-run ## Measure how fast this host's store is in a guest, in every supported way
	ansible-playbook playbooks/benchmark.yml $(ARGS)

destroy: setup-run ## Remove the VM and everything created for it
	ansible-playbook playbooks/destroy.yml $(ARGS)

clean: destroy ## Remove the VM, the test lab and all caches
	$(AS_ROOT) molecule/_lab/lab down --all
	$(AS_ROOT) rm -rf /var/cache/keystone-virtiofs
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

##@ Tests
.PHONY: test check ruff mypy yamllint ansible-lint shellcheck unit cores sanity nix corpus docs lab molecule bookworm bench
.PHONY: walkthrough pictures generate
# The longest first, so that none of them is alone at the end. Of the cores, the oldest and the newest; the rest of the tests
# uses one between them.
test: ## Everything; the scenarios last, as they use all of the machine
	$(MAKE) --jobs=3 --output-sync=target SIDE_BY_SIDE=yes KEYSTONE_CORES=ends lab corpus check cores sanity docs nix
	$(MAKE) molecule

check: ruff mypy yamllint ansible-lint shellcheck unit ## The fast part

ruff: setup-test
	ruff check

mypy: setup-test
	mypy

yamllint: setup-test
	yamllint --strict .

ansible-lint: setup-test
	ansible-lint --strict

shellcheck: setup-test
	git grep -lE '^#!.*\<(ba|da)?sh\>' | xargs --no-run-if-empty shellcheck

unit: setup-test
	pytest --numprocesses=auto

cores: setup-test ## Use the built collection with every supported ansible-core
	pytest tests/cores

sanity: setup-test
	tests/run-sanity

nix: setup-test
	pytest tests/nix

corpus: setup-test ## Change domains that other tools wrote, and compare
	pytest tests/corpus

docs: setup-site ## Build the documentation site; try it and the page of the status in a browser
	scripts/docs
	pytest tests/site

lab: setup-test
	molecule/_lab/lab build trixie
	molecule/_lab/lab virtiofsd trixie

molecule: setup-test
	tests/run-molecule

# There, read-only shares are bind mounts. Not in `make test`, which has 90 minutes in CI; GitHub's workflow runs it.
bookworm: setup-test ## The scenarios that differ on Debian 12, in addition to `make test`
	tests/run-molecule faults@bookworm hostile@bookworm shares@bookworm

bench: setup-test ## Measure what the automation costs
	mkdir -p .cache
	tests/bench/automation >.cache/automation-cost.md
	mv .cache/automation-cost.md docs/automation-cost.md

walkthrough: setup-run ## Record the README's walkthrough again, with the VM test-vm of this machine
	scripts/walkthrough

pictures: setup-site
	scripts/pictures
	scripts/package-graph

generate: setup-test ## Generate docs/nix-options.md and the embedded guest's files from the Nix modules
	scripts/nix-options
	scripts/test-guest-files

##@ The VM, as the original Makefile had it (VM=test-vm)
.PHONY: vm-create vm-start vm-stop vm-destroy vm-reset vm-ssh vm-console vm-display vm-status vm-post-install
.PHONY: vm-reset-secureboot build-iso-ssh
vm-create: vm ## Create and start the VM

vm-start: ## Start the VM
	$(VIRSH) start $(VM)

vm-stop: ## Shut the VM down, and wait until it is off
	$(VIRSH) shutdown $(VM)
	@echo "Waiting up to 60 s until $(VM) is off"
	@$(AS_ROOT) timeout 60 sh -c 'until [ "$$(virsh --connect qemu:///system domstate "$$0")" = "shut off" ]; do sleep 0.5; done' $(VM) \
		|| { echo "$(VM) is still on; wait, or power it off: make vm-destroy" >&2; exit 1; }

vm-destroy: ## Power off the VM
	$(VIRSH) destroy $(VM)

vm-reset: destroy ## Remove the VM, to begin again

vm-ssh: ## Log in
	@grep --quiet --no-messages --fixed-strings --line-regexp 'Host $(VM)' $(SSH_CONFIG) \
		|| { echo "$(SSH_CONFIG) has no guest $(VM); start it: make vm" >&2; exit 1; }
	ssh -F $(SSH_CONFIG) $(VM)

vm-console: ## Attach to the VM's serial console (leave with Ctrl-])
	$(VIRSH) console $(VM)

vm-display: ## Open the VM's screen
	remote-viewer "$$($(VIRSH) domdisplay $(VM))"

vm-status: ## Show the VM's state
	$(VIRSH) dominfo $(VM)

vm-post-install: setup-run ## Snapshot the VM's disks, eject the installer, restart the VM
	ansible-playbook playbooks/post_install.yml $(ARGS)

vm-reset-secureboot: setup-run ## Reset the VM's UEFI variables to setup mode
	ansible-playbook playbooks/reset_secure_boot.yml $(ARGS)

build-iso-ssh: setup-run ## Build NixOS's installer with your ssh keys
	ansible-playbook playbooks/installer_iso.yml $(ARGS)

##@ Setting up
.PHONY: setup setup-run setup-test setup-site help
setup: setup-test ## Install what is missing for all targets

setup-run setup-test setup-site: setup-%:
	@scripts/setup $*

help: ## Show this list
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))
