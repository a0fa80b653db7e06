# setup.sh: what ./check and ./demo share: packages, build, an unprivileged user.
# Sourced with the top of the tree as the current folder.

FERRY_USER=${FERRY_USER:-postgres}
PG_MAJOR=${PG_MAJOR:-15}
export DEBIAN_FRONTEND=noninteractive

say() { echo "# $*" >&2; }

install_packages() {
	local wanted="gcc make libc6-dev dpkg-dev bzip2 perl libipc-run-perl libdbd-pg-perl libpq-dev libssl-dev libzstd-dev
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
	PG_PGXS=$(dirname "$($PG_CONFIG --pgxs)")/../..
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
	make -s -C "$work/ferry" -j2 PG_CONFIG="$PG_CONFIG" COPT=-Werror with_llvm=no || return 1
	make -s -C "$work/ferry" PG_CONFIG="$PG_CONFIG" with_llvm=no install
}

# one TAP test on real clusters, as the unprivileged user; if it fails, the end of its own log.
# One that hangs is ended, since all others wait for it: the longest takes a minute.
run_tap() {
	local name status=0
	name=$(basename "$1" .pl)
	as_user mkdir -p "$work/tmp_check/$name" "$work/tmp_check/log/$name" || return 1
	(cd "$work/ferry" && as_user env PATH="$PG_BIN:$PATH" PERL5LIB="$PG_PGXS/src/test/perl" \
		PG_REGRESS="$PG_PGXS/src/test/regress/pg_regress" PGHOST= \
		TESTDIR="$work" TESTDATADIR="$work/tmp_check/$name" TESTLOGDIR="$work/tmp_check/log/$name" \
		timeout --kill-after=10 "${TAP_LIMIT_S:-600}" perl "$1") || status=$?
	[ "$status" != 124 ] || echo "not ok - $name ended after ${TAP_LIMIT_S:-600} s"
	[ "$status" = 0 ] || find "$work/tmp_check" -name "regress_log_$name" -exec tail -n 40 {} \; | sed 's/^/# /'
	return "$status"
}

# start_server DATA PORT [SETTINGS]: a new server that preloads ferry, its socket in $work
start_server() {
	local data=$1
	as_user "$PG_BIN/initdb" -D "$data" -A trust -N -U "$FERRY_USER" --no-locale -E UTF8 >/dev/null || return 1
	cat >>"$data/postgresql.conf" <<-END
		port = $2
		listen_addresses = ''
		unix_socket_directories = '$work'
		wal_level = logical
		shared_preload_libraries = 'ferry'
		${3:-}
	END
	# servers since the minor releases of 2026 want output plugins named
	if as_user "$PG_BIN/postgres" -D "$data" -C output_plugin_libraries >/dev/null 2>&1; then
		echo "output_plugin_libraries = 'pgoutput, test_decoding, ferry'" >>"$data/postgresql.conf"
	fi
	as_user "$PG_BIN/pg_ctl" -D "$data" -l "$data.log" -w start >/dev/null || { tail "$data.log" >&2; return 1; }
}

# what pg_regress (before or since 16) says, as TAP; the differences if there are any
as_tap() {
	sed -nE 's/^(test)? *([a-z_0-9]+) +\.\.\. ok.*/ok - \2/p; s/^ok +[0-9]+ +[-+] +([a-z_0-9]+).*/ok - \1/p; s/^(test)? *([a-z_0-9]+) +\.\.\. (FAILED|failed).*/not ok - \2/p; s/^not ok +[0-9]+ +[-+] +([a-z_0-9]+).*/not ok - \1/p' "$1"
	[ ! -s "$2/regression.diffs" ] || cat "$2/regression.diffs"
}

# the SQL of sql/ against expected/, and the races of test/isolation, in a server
# that preloads ferry; prints TAP
run_regress() {
	local data=$work/regress status=0 port=${REGRESS_PORT:-57432}
	start_server "$data" "$port" "
		max_prepared_transactions = 4
		ferry.housekeeping_ms = 1h	# tombstones stay where a test looks for them
		fsync = off" || return 1
	local where=(--bindir="$PG_BIN" --host="$work" --port="$port" --user="$FERRY_USER")
	(cd "$work/ferry" && as_user "$PG_PGXS/src/test/regress/pg_regress" "${where[@]}" --dbname=ferry_regression \
		--inputdir=. --outputdir="$work/ferry" $(cd sql && ls *.sql | sed 's/\.sql$//')) >"$work/log-pg_regress" 2>&1 || status=1
	as_tap "$work/log-pg_regress" "$work/ferry"
	(cd "$work/ferry/test/isolation" && as_user env PATH="$PG_PGXS/src/test/isolation:$PATH" \
		"$PG_PGXS/src/test/isolation/pg_isolation_regress" "${where[@]}" --dbname=ferry_isolation \
		--inputdir=. --outputdir=. $(cd specs && ls *.spec | sed 's/\.spec$//')) >"$work/log-pg_isolation" 2>&1 || status=1
	as_tap "$work/log-pg_isolation" "$work/ferry/test/isolation"
	[ "$status" = 0 ] || tail -n 20 "$work/log-pg_regress" "$work/log-pg_isolation"
	as_user "$PG_BIN/pg_ctl" -D "$data" -m immediate stop >/dev/null
	return "$status"
}
