# Every target sets up first what it needs: tools/setup.sh, silent and quick when nothing has changed.

T ?= tests
SOURCE ?= build/footage/bigbuckbunny.mp4
N ?= 20
J ?= 2
SEED ?= 1
# All tests run on two cores; of a few, which the start of two workers would only delay, the output is plain.
WORKERS ?= $(if $(subst tests,,$(T)),0,2)
# The shell has a SECONDS of its own, which counts; only make may expand this one.
SECONDS ?=
unexport SECONDS
export DESTDIR PREFIX EXTRAS

.PHONY: help demo test fuzz lint benchmark soak rig test-rig test-arm64 rig-shell powercut shell setup lock install uninstall clean \
        distclean

help:       ## This list
	@sed -n 's/^\([a-z0-9-]*\): *## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target line; do \
	  printf '%-16s %s\n' "$$target" "$$line"; done

demo:       ## Record, offload and check evidence before your eyes [SECONDS=30] [SOURCE=/dev/video0 or a video file]
	@tools/setup.sh
	@.venv/bin/bodycam demo $(if $(SECONDS),--seconds $(SECONDS)) --source "$(SOURCE)"

test:       ## All tests on two cores, or some [T=tests/unit] [T="tests -k ring -x"] [WORKERS=2]
	@tools/setup.sh
	@.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(T)

fuzz:       ## Feed hostile bytes to every reader [MINUTES=10] [TARGET=sei] [TARGET=sei REPLAY=build/fuzz/crashes/…/input]
	@tools/setup.sh --fuzz
	@.venv/bin/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(TARGET),--target $(TARGET)) \
	  $(if $(REPLAY),--replay "$(REPLAY)")

lint:       ## Style, format and types: ruff and mypy
	@tools/setup.sh
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

benchmark:  ## Measure against the bars and against ffmpeg, in a table and as JSON [B=cpu] [B="memory verify"] [QUICK=1]
	@tools/setup.sh
	@.venv/bin/python -m tests.benchmarks $(B) $(if $(QUICK),--quick)

soak:       ## Live through a shift of simulated hours with faults and clock steps, and judge it [HOURS=12] [LIVE=5 minutes more in real time] [SEED=1] [SYNC=1: to the disk]
	@tools/setup.sh
	@.venv/bin/python -m tests.soak --hours $(or $(HOURS),12) --seed $(SEED) --live $(or $(LIVE),5) $(if $(SYNC),--sync)

rig:        ## Build the virtual device, a camera in QEMU with a real kernel and systemd (some minutes the first time)
	@tools/setup.sh
	@.venv/bin/python -m tests.rig build

test-rig:   ## Tests in the virtual device, two at a time, or some [R="-k power"]
	@tools/setup.sh
	@.venv/bin/python -m tests.rig build
	@.venv/bin/python -m pytest -n $(if $(R),0,2) --dist loadfile tests/rig $(R)

test-arm64: ## Encode, sign and verify in an emulated arm64 Python, compared with this one's, or some [R="-k verify"]
	@tools/setup.sh
	@.venv/bin/python -m pytest -n $(if $(R),0,2) --dist loadfile tests/arm64 $(R)

rig-shell:  ## A root shell in the virtual device
	@tools/setup.sh
	@.venv/bin/python -m tests.rig shell

powercut:   ## Cut the virtual device's power many times, and print what it cost [N=20 cuts] [J=2 at once] [SEED=1] [LIE=1: a card that lies]
	@tools/setup.sh
	@.venv/bin/python -m tests.rig powercut --cuts $(N) --seed $(SEED) --jobs $(J) $(if $(LIE),--lie)

shell:      ## A shell in which `bodycam` is a command
	@tools/setup.sh
	@PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv" $${SHELL:-bash}

setup:      ## Only the set-up [PYTHON=/path/to/python3.13]
	@tools/setup.sh

lock:       ## Resolve the pinned Python packages again [UPGRADE=1]
	@tools/lock.sh

install:    ## Install on this machine, as root, or into DESTDIR=FOLDER [PREFIX=/opt/bodycam] [EXTRAS="encryption pkcs11"]
	@tools/install.sh install

uninstall:  ## Take it away again, but never vault, key or configuration [DESTDIR=] [PREFIX=]
	@tools/install.sh uninstall

clean:      ## Remove what running and testing left behind
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .lgd-nfy*
	@find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
distclean:  ## The same, and the virtual environment
	@rm -rf .venv .venv-lock *.egg-info
