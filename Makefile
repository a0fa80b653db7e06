EXTENSION = ferry
EXTVERSION = 0.1.0
MODULE_big = ferry

# One object per C file under src; the folders are the architecture (src/README).
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

# The install script is kept beside the C that serves it; the order is that of
# the dependencies between rooms.
SQL_PARTS = \
	src/node/identity.sql \
	src/node/member.sql \
	src/state/version.sql \
	src/state/range_tombstone.sql \
	src/capture/capture.sql \
	src/node/table.sql \
	src/node/holding.sql \
	src/node/strategy.sql \
	src/apply/apply.sql \
	src/apply/orphan.sql \
	src/link/peer.sql \
	src/link/mesh.sql \
	src/link/succession.sql \
	src/link/rights.sql \
	src/delta/delta.sql \
	src/bundle/bundle.sql \
	src/group/join.sql \
	src/verify/verify.sql \
	src/monitor/monitor.sql \
	src/monitor/check.sql \
	src/monitor/rights.sql

DATA_built = ferry--$(EXTVERSION).sql

PG_CPPFLAGS = -I$(srcdir)/src -I$(libpq_srcdir)
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-cast-function-type -Wno-clobbered
SHLIB_LINK_INTERNAL = $(libpq)
# names in our rooms must never resolve to the server's symbols
SHLIB_LINK = -Wl,-Bsymbolic -lcrypto -lzstd

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))

EXTRA_CLEAN = ferry--$(EXTVERSION).sql

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

ferry--$(EXTVERSION).sql: $(SQL_PARTS) Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION ferry" to load this file. \quit'; cat $(SQL_PARTS); } > $@

# every object depends on every header: the tree is small and this is never wrong
$(OBJS): $(wildcard src/*.h src/*/*.h)
