# SPDX-License-Identifier: MIT
# exed: every command of the project. `make help` lists them.
#
# Nothing here runs pkg-config or a compiler while the file is read: `make deps` must work on a machine
# that has neither. Flags that come from libraries are expanded in recipes only.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar
BUILD ?= build
DEPS := build/deps
PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
PYTHON ?= python3
V ?=
Q := $(if $(V),,@)

# ---- sources -------------------------------------------------------------------------------------------

PROGRAM_SRC := $(wildcard runtime/main.c runtime/run.c)
LIB_SRC := $(filter-out runtime/main.c runtime/run.c,$(wildcard runtime/*.c runtime/bind/*.c))
LIB_OBJ := $(LIB_SRC:runtime/%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libexed.a
PROGRAMS := $(if $(wildcard runtime/main.c),$(BUILD)/exed) $(if $(wildcard runtime/run.c),$(BUILD)/exed-run)

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_HELP_SRC := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
UNIT_HELP_OBJ := $(UNIT_HELP_SRC:tests/%.c=$(BUILD)/obj/tests/%.o)
UNIT := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)

FLEET_SRC := $(filter-out %_test.go,$(wildcard tests/support/fleet/*.go))
LOGINS_SRC := $(wildcard tests/support/logins/*.go)
FLOOR_SRC := $(wildcard tests/support/floor.c)
SUPPORT := $(if $(FLEET_SRC),build/support/fleet) $(if $(FLOOR_SRC),build/support/floor build/support/floor-plain) \
	$(if $(LOGINS_SRC),build/support/logins) build/support/left.so

# Without scdoc there are no man pages.
MAN := $(if $(shell command -v scdoc),$(addprefix $(BUILD)/man/,exed.8 exed-run.1 exed.conf.5))

# ---- flags ---------------------------------------------------------------------------------------------

# A package stands here once a source uses it; --as-needed leaves out what a program does not call.
PKGS := lua5.4 libpcre2-8 libevent libevent_pthreads libevent_openssl hiredis jansson inih libssl libcrypto libcurl libseccomp
# Without a pkg-config file: the flag, and the header to look for.
PLAIN_LIBS := -lwslay
PLAIN_HEADERS := wslay/wslay.h

OPT ?= -O2 -g
SAN ?=
# With a sanitizer gcc sees overflows that are none; the plain build is where warnings are errors.
WARN := -Wall -Wextra -Wshadow $(if $(SAN),,-Werror)
HARDEN := -fstack-protector-strong $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)

# The libssh2 that `make deps` built and patched, when there is one; else the system's.
OWN_SSH2 = $(wildcard $(DEPS)/lib/libssh2.a)
SSH2_CFLAGS = $(if $(OWN_SSH2),-isystem $(DEPS)/include,$(shell pkg-config --cflags libssh2))
SSH2_LIBS = $(if $(OWN_SSH2),$(OWN_SSH2),$(shell pkg-config --libs libssh2))

# Asked once, when a recipe first needs it.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(OPT) $(WARN) $(HARDEN) $(SAN) -fPIE -pthread -Iruntime \
	$(SSH2_CFLAGS) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN) $(LDFLAGS)
ALL_LIBS = $(SSH2_LIBS) $(PKG_LIBS) $(PLAIN_LIBS) -lm -ldl

# ---- build ---------------------------------------------------------------------------------------------

.PHONY: all
all: $(LIB) $(PROGRAMS) $(MAN) ## build exed and exed-run (needs `make deps` once)
	@:

# Holds the compiler and its flags; changes only when they do, and then everything is compiled again.
$(BUILD)/flags: FORCE | have-libs
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(ALL_LIBS)' > $@.new.$$PPID; \
	if cmp -s $@.new.$$PPID $@; then rm $@.new.$$PPID; else mv $@.new.$$PPID $@; fi
.PHONY: FORCE have-libs
have-libs:
	$(Q)sh tools/have.sh $(PKGS) libssh2
	$(Q)CC='$(CC)' sh tools/have.sh --header $(PLAIN_HEADERS)
	$(Q)sh tools/libssh2.sh --check

$(BUILD)/obj/%.o: runtime/%.c $(BUILD)/flags
	$(if $(V),,@echo "cc   $<")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/tests/%.o: tests/%.c $(BUILD)/flags
	$(if $(V),,@echo "cc   $<")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit -MMD -MP -c -o $@ $<

# A source that was taken away must leave the archive too, so the list of objects is a file it depends on.
$(BUILD)/objects: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(LIB_OBJ)' | cmp -s - $@ || echo '$(LIB_OBJ)' > $@

$(LIB): $(LIB_OBJ) $(BUILD)/objects
	$(Q)rm -f $@.$$PPID && $(AR) rcs $@.$$PPID $(LIB_OBJ) && mv $@.$$PPID $@

$(BUILD)/exed: $(BUILD)/obj/main.o $(LIB) $(OWN_SSH2)
	$(if $(V),,@echo "link $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

$(BUILD)/exed-run: $(BUILD)/obj/run.o $(LIB) $(OWN_SSH2)
	$(if $(V),,@echo "link $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

$(BUILD)/man/exed.conf.5: conf/exed.conf tools/conf_man.sh
	$(Q)mkdir -p $(@D)
	$(Q)sh tools/conf_man.sh $< >$@.scd && scdoc <$@.scd >$@
$(BUILD)/man/%: doc/%.scd
	$(Q)mkdir -p $(@D)
	$(Q)scdoc <$< >$@

.PHONY: unit-build
unit-build: $(UNIT)
	@:
# An archive, so that a test takes only what it calls and may have stand-ins for the rest. Each test is run through
# each_case.c, which looks what a case has left.
UNIT_HELP := $(BUILD)/unit/libhelp.a
$(UNIT_HELP): $(UNIT_HELP_OBJ)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@.$$PPID && $(AR) rcs $@.$$PPID $^ && mv $@.$$PPID $@
$(UNIT): $(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELP) $(LIB) $(OWN_SSH2)
	$(if $(V),,@echo "link $@")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--wrap=_cmocka_run_group_tests -o $@ $< $(UNIT_HELP) $(LIB) -lcmocka $(ALL_LIBS)
$(BUILD)/unit/test_ssh_farewell: | build/support/fleet

# ---- programs that the tests talk to -------------------------------------------------------------------

.PHONY: support
support: $(SUPPORT)
	@:
build/support/fleet: $(FLEET_SRC)
build/support/logins: $(LOGINS_SRC)
build/support/fleet build/support/logins:
	$(if $(V),,@echo "go   $@")
	$(Q)mkdir -p $(@D)
	$(Q)cd tests/support/$(@F) && GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= \
		GOCACHE=$(CURDIR)/build/support/gocache go build -buildvcs=false -o $(CURDIR)/$@ .
# The floor over the libssh2 that exed has, and over the system's.
build/support/floor-plain: private OWN_SSH2 :=
build/support/floor: $(OWN_SSH2)
build/support/floor build/support/floor-plain: $(FLOOR_SRC) build/flags
	$(if $(V),,@echo "cc   $@")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(FLOOR_SRC) $(ALL_LIBS)

build/support/left.so: tests/support/left.c
	$(if $(V),,@echo "cc   $@")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Wshadow -Werror -fPIC -shared -o $@ $<

build/bench/records: tests/bench/records.c $(LIB) $(OWN_SSH2)
	$(if $(V),,@echo "cc   $@")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

-include $(LIB_OBJ:.o=.d) $(BUILD)/obj/main.d $(BUILD)/obj/run.d
-include $(UNIT_SRC:tests/%.c=$(BUILD)/obj/tests/%.d) $(UNIT_HELP_OBJ:.o=.d)
-include $(patsubst tests/%.c,$(BUILD)/obj/tests/%.d,$(wildcard tests/torture/*.c))

# ---- tests ---------------------------------------------------------------------------------------------

T ?=
RUN_TESTS = $(PYTHON) tests/run.py --build $(BUILD) $(if $(T),--only '$(T)')
UNIT_NAMED := $(filter $(BUILD)/unit/test_$(T:test_%=%),$(UNIT))
UNIT_WANTED := $(if $(T),$(or $(UNIT_NAMED),$(foreach u,$(UNIT),$(if $(findstring $(T),$u),$u))),$(UNIT))
SUB = $(MAKE) --no-print-directory

.PHONY: test unit lua functional
test: ## install what is missing, build, run every suite; ends with "N passed, N failed"
	$(Q)sh tools/deps.sh build test
	$(Q)$(SUB) deps
	$(Q)$(SUB) all unit-build support torture-programs build/bench/records
	$(Q)$(RUN_TESTS) unit lua functional bench

unit: ## unit tests of the C files; T=known_hosts runs one
	$(Q)sh tools/have.sh cmocka
	$(Q)$(SUB) unit-wanted
	$(Q)$(RUN_TESTS) unit

.PHONY: unit-wanted
unit-wanted: $(UNIT_WANTED)
	@:

lua: all ## Lua tests, run by exed-run itself; T=name runs one
	$(Q)$(RUN_TESTS) lua

functional: all support torture-programs ## tests with a real redis-server and sshd; T=name runs one
	$(Q)$(RUN_TESTS) functional

.PHONY: slow
slow: all support torture-programs ## functional tests that take minutes, too; T=redis_faults
	$(Q)EXED_TEST_SLOW=1 EXED_TEST_LIMIT=1800 $(RUN_TESTS) functional

# The sanitizer builds have their own directories; tests/run.py fails on any report, whoever wrote it.
SAN_MAKE = $(SUB) BUILD=build/$@ OPT='-O1 -g -fno-omit-frame-pointer' SAN='$(SAN_$@)'
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined
SAN_tsan := -fsanitize=thread

.PHONY: asan tsan
asan: ## unit and functional suites under the address and undefined behaviour sanitizers
tsan: ## unit and functional suites under the thread sanitizer
asan tsan:
	$(Q)$(SUB) support
	$(Q)$(SAN_MAKE) all unit-wanted $(if $(filter asan,$@),torture-programs)
	$(Q)$(PYTHON) tests/run.py --build build/$@ --sanitizer $@ $(if $(T),--only '$(T)') unit functional

# What is broken and when comes from SEED, which is printed; without one it is a new one each time.
ROUNDS ?= 50
SEED ?=
SUITE ?=

.PHONY: chaos
chaos: all support ## break things at random moments; ROUNDS=50, SEED=N, SUITE=nodes,redis,stop,clock,followers,tasks
	$(Q)EXED_BUILD=$(BUILD) $(PYTHON) tests/chaos/chaos.py --rounds '$(ROUNDS)' --seed '$(SEED)' \
		--suite '$(SUITE)'

# Peers that are not installed are left out: `make bench-deps` installs them.
ROW ?=

.PHONY: bench bench-short bench-deps
bench: all support build/bench/records ## measure exed beside the floor and other tools; ROW=cold,warm
	$(Q)$(PYTHON) tests/bench/bench.py --only '$(ROW)'
bench-short: all support build/bench/records ## a minute of it, part of `make test`; fails at twice the bar
	$(Q)$(PYTHON) tests/bench/bench.py --short --only '$(ROW)'
bench-deps: ## install the tools that exed is measured beside
	$(Q)sh tools/deps.sh build test bench

# What breaks each call in turn: exed and exed-run linked with tests/torture. The names of libssh2's functions stand in faults.h.
TORTURE_SRC := $(wildcard tests/torture/*.c)
TORTURE_OBJ := $(TORTURE_SRC:tests/%.c=$(BUILD)/obj/tests/%.o)
TORTURE_WRAP = $(shell sed -n 's/.*FAULT_FUNCTIONS(X).*//; s/X(\(libssh2_[a-z0-9_]*\))/\n\1\n/gp' \
	tests/torture/faults.h | sed -n 's/^libssh2_/-Wl,--wrap=&/p') -Wl,--wrap=lua_newstate

# They are called before the sanitizer is ready.
$(TORTURE_OBJ): private CFLAGS += -fno-sanitize=all -U_FORTIFY_SOURCE

SCENARIO ?=
FUNCTION ?=
SECONDS ?=

.PHONY: torture gc torture-programs torture-build
torture-programs: $(BUILD)/torture-exed $(BUILD)/torture-exed-run
	@:
$(BUILD)/torture-exed: $(BUILD)/obj/main.o
$(BUILD)/torture-exed-run: $(BUILD)/obj/run.o
$(BUILD)/torture-exed $(BUILD)/torture-exed-run: $(TORTURE_OBJ) $(LIB) $(OWN_SSH2)
	$(if $(V),,@echo "link $@")
	$(Q)$(CC) $(ALL_LDFLAGS) $(TORTURE_WRAP) -o $@ $(filter %.o,$^) $(LIB) $(ALL_LIBS)
torture: ## fail each call in turn, under the address sanitizer (an hour); SCENARIO=exec,node FUNCTION=recv SEED=N SECONDS=60 JOBS=6
	$(Q)$(SUB) torture-build gc
	$(Q)EXED_BUILD=build/asan $(PYTHON) tests/torture/torture.py --scenario '$(SCENARIO)' --confirm \
		--function '$(FUNCTION)' --seed '$(SEED)' --seconds '$(or $(SECONDS),0)' --jobs '$(or $(JOBS),6)'
# A full collection at each GC_EVERY-th object that Lua makes.
GC_EVERY ?= 200
gc: ## the Lua suites with a collector that never rests, under the address sanitizer; T=name, GC_EVERY=200
	$(Q)$(SUB) torture-build
	$(Q)TORTURE_GC=$(GC_EVERY) $(PYTHON) tests/run.py --build build/asan --sanitizer asan \
		--exed-run torture-exed-run $(if $(T),--only '$(T)') lua
torture-build:
	$(Q)$(SUB) support
	$(Q)$(SUB) BUILD=build/asan CC=gcc OPT='-O1 -g -fno-omit-frame-pointer' SAN='$(SAN_asan)' torture-programs

# Each tests/fuzz/fuzz_X.c is a libFuzzer target; corpus_X beside it has the inputs to begin with.
FUZZ_SECONDS ?= 60
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_$(or $(T),*).c))

.PHONY: fuzz
fuzz: ## libFuzzer on each tests/fuzz/fuzz_X.c, with clang; T=http_parse, FUZZ_SECONDS=60
	$(Q)sh tools/deps.sh build fuzz
	$(Q)$(SUB) CC=clang BUILD=build/fuzz OPT='-O1 -g' SAN='-fsanitize=fuzzer-no-link,address,undefined' \
		$(FUZZ:%=build/fuzz/fuzz_%)
	$(Q)for f in $(FUZZ); do mkdir -p build/fuzz/corpus_$$f && build/fuzz/fuzz_$$f \
		-max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/ -verbosity=0 -print_final_stats=1 \
		build/fuzz/corpus_$$f tests/fuzz/corpus_$$f || exit 1; done

$(BUILD)/fuzz_%: tests/fuzz/fuzz_%.c $(LIB)
	$(if $(V),,@echo "link $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(LIB) $(ALL_LIBS)

# ---- lint ----------------------------------------------------------------------------------------------

LUA_DIRS = $(wildcard lua executors tasks tests)
TIDY := $(PROGRAM_SRC:runtime/%.c=$(BUILD)/tidy/%) $(LIB_SRC:runtime/%.c=$(BUILD)/tidy/%)

.PHONY: lint luacheck tidy
lint: luacheck tidy ## luacheck and clang-tidy, every warning an error
luacheck:
	$(Q)sh tools/have.sh --command luacheck
	$(Q)luacheck --no-color -q $(LUA_DIRS)
tidy: $(TIDY)

# A source is looked at again when it, a header or the set of checks has changed.
$(BUILD)/tidy/%: runtime/%.c .clang-tidy $(wildcard runtime/*.h runtime/bind/*.h)
	$(if $(V),,@echo "tidy $<")
	$(Q)sh tools/have.sh --command clang-tidy
	$(Q)mkdir -p $(@D)
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- $(ALL_CFLAGS) 2>$@.log || { cat $@.log; exit 1; }
	$(Q)touch $@

# ---- packages ------------------------------------------------------------------------------------------

.PHONY: deps test-deps lint-deps
deps: ## install the packages that building and running need; builds libssh2 when the system's is too old
	$(Q)sh tools/deps.sh build
	$(Q)CC='$(CC)' sh tools/libssh2.sh
test-deps: ## install the packages that the tests need
	$(Q)sh tools/deps.sh test
lint-deps: ## install luacheck and clang-tidy
	$(Q)sh tools/deps.sh lint

# ---- demo, install, clean, help ------------------------------------------------------------------------

.PHONY: demo
demo: ## a private sshd fleet, exed, and a first job; KEEP=1 leaves it running
	$(Q)sh tools/deps.sh build demo
	$(Q)$(SUB) deps
	$(Q)$(SUB) all
	$(Q)KEEP='$(KEEP)' sh tools/demo.sh

.PHONY: install uninstall
ROOT = $(DESTDIR)$(PREFIX)
SHARE = $(ROOT)/share/exed
ETC = $(DESTDIR)$(SYSCONFDIR)/exed
UNITS = $(ROOT)/lib/systemd/system
USERS = $(ROOT)/lib/sysusers.d
install: ## install under PREFIX (/usr/local), in DESTDIR when given; keeps settings that are there
	$(Q)ls $(BUILD)/exed $(BUILD)/exed-run $(MAN) >/dev/null 2>&1 || $(SUB) all
	$(Q)install -d $(ROOT)/bin $(SHARE) $(ETC) $(UNITS) $(USERS)
	$(Q)install -m 755 $(BUILD)/exed $(BUILD)/exed-run $(ROOT)/bin
	$(Q)sh tools/install_tree.sh $(SHARE) lua executors tasks
	$(Q)install -D -m 644 conf/luacheckrc $(SHARE)/conf/luacheckrc
	$(Q)for page in $(MAN); do \
		install -D -m 644 $$page $(ROOT)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	$(Q)for f in exed.conf hosts; do \
		test -e $(ETC)/$$f || install -m 644 conf/$$f $(ETC)/$$f || exit 1; done
	$(Q)sed 's,/usr/local/etc/exed,$(SYSCONFDIR)/exed,g; s,/usr/local/bin/,$(PREFIX)/bin/,g' \
		conf/exed.service > $(UNITS)/exed.service && chmod 644 $(UNITS)/exed.service
	$(Q)install -m 644 conf/exed.sysusers $(USERS)/exed.conf

uninstall: ## remove what install has installed, but for settings and jobs
	$(Q)rm -f $(ROOT)/bin/exed $(ROOT)/bin/exed-run $(UNITS)/exed.service $(USERS)/exed.conf
	$(Q)rm -f $(ROOT)/share/man/man1/exed-run.1 $(ROOT)/share/man/man5/exed.conf.5
	$(Q)rm -f $(ROOT)/share/man/man8/exed.8
	$(Q)rm -rf $(SHARE)
	@echo "kept: $(ETC)"

.PHONY: clean distclean help
clean: ## remove what was built, but for build/deps
	$(Q)for f in build/* build/.[!.]*; do [ "$$f" = build/deps ] || rm -rf "$$f"; done
distclean: ## remove all of build/
	$(Q)rm -rf build

help: ## this list
	@echo "usage: make [TARGET] [CC=clang] [V=1] [T=TEST]"; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo; echo "A first try: make demo. Not root: sudo is asked for when packages are missing."
