# setup.sh: what ./check and ./demo share: packages, build, an unprivileged user.
# Sourced with the top of the tree as the current folder.

FERRY_USER=${FERRY_USER:-postgres}
PG_MAJOR=${PG_MAJOR:-15}
export DEBIAN_FRONTEND=noninteractive

say() { echo "# $*" >&2; }

install_packages() {
	local wanted="gcc make libc6-dev perl libipc-run-perl libdbd-pg-perl libpq-dev
		postgresql-$PG_MAJOR postgresql-client-$PG_MAJOR postgresql-server-dev-$PG_MAJOR"
	# named together, so that server, client and headers come in one version
	apt-get update -q >"$work/log-apt" 2>&1
	# Debian would start a cluster of its own; nothing here needs it
	mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/ferry-tests.conf
	# shellcheck disable=SC2086
	apt-get install -y -q --no-install-recommends $wanted >>"$work/log-apt" 2>&1 ||
		{ tail -n 20 "$work/log-apt" >&2; return 1; }
}

as_user() { runuser -u "$FERRY_USER" -- "$@"; }

# a copy of the tree that the unprivileged user can use; sets $work
set_up() {
	work=$(mktemp -d /tmp/ferry.XXXXXX)
	trap 'tear_down' EXIT
	chmod 755 "$work"
	install_packages || return 1
	PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
	PG_BIN=$($PG_CONFIG --bindir)
	PG_PGXS=$(dirname "$($PG_CONFIG --pgxs)")/..
	mkdir "$work/ferry"
	tar -c --exclude=.git . | tar -x -C "$work/ferry"
	chown -R "$FERRY_USER" "$work"
}

tear_down() {
	[ -z "${KEEP:-}" ] || return 0
	for pid in "$work"/*/postmaster.pid "$work"/tmp_check/*/pgdata/postmaster.pid; do
		[ -f "$pid" ] && kill -QUIT "$(head -n 1 "$pid")" 2>/dev/null
	done
	rm -rf "$work"
}

# no -Werror in the Makefile: a user's newer compiler may warn
build_ferry() {
	make -s -C "$work/ferry" -j2 PG_CONFIG="$PG_CONFIG" COPT=-Werror with_llvm=no ferry.so || return 1
	return 0
	[ -n "${BUILD_ONLY:-}" ] && return 0
	make -s -C "$work/ferry" PG_CONFIG="$PG_CONFIG" with_llvm=no install
}
