package sqltext_test

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var updateFunctions = flag.Bool("update-functions", false, "make functions.txt agree with the server: run scripts/matrix with it, so that every version has its say")

// volatileReads are volatile and change nothing all the same: each only returns another value at another time.
var volatileReads = map[string]string{
	"array_sample":                    "random",
	"array_shuffle":                   "random",
	"clock_timestamp":                 "the clock",
	"current_query":                   "the text of the statement",
	"currval":                         "reads a sequence",
	"gen_random_uuid":                 "random",
	"lastval":                         "reads a sequence",
	"pg_blocking_pids":                "reads locks",
	"pg_current_wal_flush_lsn":        "reads the position of the WAL",
	"pg_current_wal_insert_lsn":       "reads the position of the WAL",
	"pg_current_wal_lsn":              "reads the position of the WAL",
	"pg_database_size":                "reads sizes of files",
	"pg_indexes_size":                 "reads sizes of files",
	"pg_is_in_recovery":               "reads the state of the server",
	"pg_is_wal_replay_paused":         "reads the state of the server",
	"pg_last_committed_xact":          "reads the commit log",
	"pg_last_wal_receive_lsn":         "reads the position of the WAL",
	"pg_last_wal_replay_lsn":          "reads the position of the WAL",
	"pg_last_xact_replay_timestamp":   "reads the position of the WAL",
	"pg_lock_status":                  "reads locks",
	"pg_notification_queue_usage":     "reads the state of the queue",
	"pg_partition_ancestors":          "reads the catalog",
	"pg_partition_tree":               "reads the catalog",
	"pg_prepared_xact":                "reads the prepared transactions",
	"pg_relation_size":                "reads sizes of files",
	"pg_safe_snapshot_blocking_pids":  "reads locks",
	"pg_sequence_last_value":          "reads a sequence",
	"pg_sleep":                        "waits",
	"pg_sleep_for":                    "waits",
	"pg_sleep_until":                  "waits",
	"pg_table_size":                   "reads sizes of files",
	"pg_tablespace_size":              "reads sizes of files",
	"pg_total_relation_size":          "reads sizes of files",
	"pg_xact_commit_timestamp":        "reads the commit log",
	"pg_xact_commit_timestamp_origin": "reads the commit log",
	"pg_xact_status":                  "reads the commit log",
	"random":                          "random",
	"random_normal":                   "random",
	"timeofday":                       "the clock",
	"timezone":                        "the clock: before PostgreSQL 15 that of a time is volatile",
	"txid_status":                     "reads the commit log",
	"uuidv4":                          "random",
	"uuidv7":                          "random, and the clock",
}

// stableWrites are not volatile, and may change something all the same.
var stableWrites = map[string]string{
	"database_to_xml":                  "queries whatever is there, views included",
	"database_to_xml_and_xmlschema":    "the same",
	"database_to_xmlschema":            "the same",
	"schema_to_xml":                    "the same",
	"schema_to_xml_and_xmlschema":      "the same",
	"schema_to_xmlschema":              "the same",
	"table_to_xml":                     "queries what its argument names",
	"table_to_xml_and_xmlschema":       "the same",
	"table_to_xmlschema":               "the same",
	"pg_input_error_info":              "calls what checks the type that its argument names",
	"pg_input_is_valid":                "the same",
	"fmgr_c_validator":                 "loads a library",
	"pg_event_trigger_ddl_commands":    "is for event triggers",
	"pg_event_trigger_dropped_objects": "is for event triggers",
}

// changing must never be in the table: they are volatile, and change something.
var changing = strings.Fields(`nextval setval set_config setseed query_to_xml cursor_to_xml ts_stat ts_rewrite pg_notify pg_advisory_lock
	pg_try_advisory_lock pg_advisory_xact_lock pg_advisory_unlock lo_create lo_put lo_open lowrite pg_terminate_backend pg_cancel_backend
	pg_reload_conf pg_switch_wal pg_logical_emit_message pg_logical_slot_get_changes pg_stat_reset pg_export_snapshot pg_create_restore_point`)

// userFunctions lists the functions of PostgreSQL that a statement can call, and whether every overload is immutable or
// stable. Those of operators and types are left out.
const userFunctions = `
	select p.proname, bool_and(p.provolatile <> 'v')
	from pg_catalog.pg_proc p
	where p.pronamespace = 'pg_catalog'::regnamespace
	group by p.proname
	having bool_or(p.prokind <> 'p'
		and not array['internal', 'cstring']::regtype[] && array(select unnest(p.proargtypes))::regtype[]
		and p.prorettype <> all (array['internal', 'cstring', 'trigger', 'event_trigger', 'language_handler', 'fdw_handler',
			'index_am_handler', 'table_am_handler', 'tsm_handler']::regtype[])
		and coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '') not like 'implementation of %')`

// The table that says which functions change nothing agrees with the server's own.
func TestFunctionsAgainstPostgres(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("functions.txt")
	require.NoError(t, err)
	table := map[string]bool{}
	for _, name := range strings.Fields(string(text)) {
		table[name] = true
	}
	rows, err := pgcmdtest.Pool(t).Query(t.Context(), userFunctions)
	require.NoError(t, err)
	var name string
	var stable bool
	_, err = pgx.ForEachRow(rows, []any{&name, &stable}, func() error {
		want := (stable || volatileReads[name] != "") && stableWrites[name] == ""
		switch {
		case *updateFunctions && want:
			table[name] = true
		case *updateFunctions:
			delete(table, name)
		case want:
			assert.True(t, table[name], "%s is missing: run scripts/matrix -- -run TestFunctions ./internal/sqltext -update-functions, and read what that adds", name)
		default:
			assert.False(t, table[name], "%s is volatile in this version: take it out of functions.txt, or say in volatileReads why it changes nothing", name)
		}
		return nil
	})
	require.NoError(t, err)
	for name := range volatileReads {
		assert.Empty(t, stableWrites[name], name)
	}
	for _, name := range changing {
		assert.False(t, table[name], "%s changes something", name)
	}
	if *updateFunctions {
		require.NoError(t, os.WriteFile("functions.txt", []byte(strings.Join(slices.Sorted(maps.Keys(table)), "\n")+"\n"), 0o644))
	}
}
