# Owns a folder and the PostgreSQL or PgBouncer in it for as long as its standard input stays open; then stops the
# one and removes the other. Commands come by the line on standard input, reports go to standard output.
# It has to lead a process group of its own: signals go to the whole group, never to a process id, so that
# a process id that was used again cannot be hit.
#
# Arguments: the folder's name, and the folders of which the first one that is writable becomes the parent.
name=$1
shift

# Nothing but the end of its input ends the watcher. What it starts inherits this and sets handlers of its own.
trap '' HUP INT QUIT PIPE TERM

for parent; do
	folder=$parent/$name
	mkdir -m 700 "$folder" 2>/dev/null && break
	folder=
done
echo "$folder"
[ "$folder" ] || exit 1
exec 2>>"$folder/log"

postmaster= bouncer=
while read -r command argument; do
	case $command in
	init)
		"$argument/initdb" -D "$folder/data" -U postgres --auth=trust --no-sync -E UTF8 --locale=C </dev/null >&2
		echo "init $?"
		;;
	copy)
		# The server on the data may go on writing: what it adds, or removes under tar's hands, is in its log.
		# pg_replslot and the like are about that server alone.
		mkdir -m 700 "$folder/data" &&
			(cd "$argument" && exec tar -cf - --exclude './postmaster.*' --exclude './pg_wal/*' --exclude './pg_replslot/*' \
				--exclude './pg_dynshmem/*' --exclude './pg_stat_tmp/*' --exclude './pg_notify/*' .) </dev/null |
			tar -xf - -C "$folder/data" >&2
		echo "copy $?"
		;;
	write)
		while IFS= read -r line && [ "$line" != . ]; do
			printf '%s\n' "$line"
		done >>"$folder/$argument"
		echo "write $?"
		;;
	start)
		{
			"${argument#* }/postgres" -D "$folder/data" -k "$folder" -p "${argument%% *}" </dev/null >&2
			echo exited
		} &
		postmaster=$!
		;;
	bouncer)
		{
			"$argument" "$folder/pgbouncer.ini" </dev/null >&2
			echo exited
		} &
		bouncer=$!
		;;
	signal)
		kill -s "$argument" 0
		;;
	esac
done

if [ "$bouncer" ]; then
	# To end without waiting for clients: TERM up to PgBouncer 1.22, QUIT from 1.23, where TERM waits.
	kill -s TERM 0
	kill -s QUIT 0
fi
if [ "$postmaster$bouncer" ]; then
	# Repeated, for a postmaster that has only just been started misses the first. CONT wakes a stopped one.
	# An immediate stop kills what is left of the server by itself after five seconds.
	{
		for signal in INT INT INT INT INT QUIT QUIT QUIT QUIT QUIT QUIT QUIT; do
			kill -s "$signal" 0
			kill -s CONT 0
			sleep 1
		done
		rm -rf "$folder"
		kill -s KILL 0
	} &
	wait "${postmaster:-$bouncer}"
fi
# Backends whose postmaster was killed may still write a file on their way out.
rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
# Ends what stopped the postmaster, its sleep, and this shell.
kill -s KILL 0
