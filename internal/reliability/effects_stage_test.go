package reliability_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// effectsDDL is the database of these tests. The table ops has no key, so that what was done twice is there twice.
const effectsDDL = `
create table ops (id int8 not null);
create table counters (id int8 primary key, n int8 not null default 0);
insert into counters select n from generate_series(1, 400) n;

-- fail fails with the state, once for each time that the sequence is set back.
create function fail(shots text, state text) returns int8 language plpgsql as $$
begin
	if nextval(shots::regclass) = 1 then
		raise exception using errcode = state, message = 'as planned';
	end if;
	return 0;
end $$;

-- deadlock takes a, waits until somebody waits for a, and takes b; once as well.
create function deadlock(shots text, a int8, b int8) returns int8 language plpgsql as $$
begin
	if nextval(shots::regclass) > 1 then
		return 0;
	end if;
	perform pg_advisory_xact_lock(a);
	while not exists (select from pg_locks where locktype = 'advisory' and objid = a and not granted
		and database = (select oid from pg_database where datname = current_database())) loop
		perform pg_sleep(0.002);
	end loop;
	perform pg_advisory_xact_lock(b);
	return 0;
end $$;

-- later runs a statement when its transaction commits.
create table later (id int8, act text);
create function later() returns trigger language plpgsql as $$ begin execute new.act; return null; end $$;
create constraint trigger later after insert on later deferrable initially deferred for each row execute function later();

create table taken (id int8 constraint taken_once unique deferrable initially deferred);
insert into taken values (0);
create table checked (id int8 primary key, n int8 not null constraint small check (n < 10),
	parent int8 references checked, span int8range, constraint apart exclude using gist (span with &&));
insert into checked values (0, 0, null, '[0,10)');
create table viewed (id int8);
create view view as select * from viewed;`

const insertOp = `insert into ops values ($1)`

// A column of the table: what is under way when something goes wrong.
type column string

const (
	read   column = "R"           // a statement on the pool that reads: by declaration, or by its text
	write  column = "W"           // a statement that commits by itself
	inTx   column = "T"           // a transaction, before COMMIT was sent
	rawTx  column = "T by pgx"    // the same, by pgx's own calls on the Tx
	commit column = "C"           // COMMIT was sent
	atSync column = "W, deferred" // a statement that fails when it commits, after its row count
)

// entry returns the entry of a column in a row of the table, which is written "R W T C".
func (c column) entry(row string) string {
	return strings.Fields(row)[strings.Index("RWTC", string(c[0]))]
}

// A stage is a database in front of which something goes wrong, and the ways to it: two pools that lead through what
// goes wrong, and one past it, which tells the truth.
type stage struct {
	*testing.T
	app    string        // application_name of the connections that lead through; a plain pool's goes on with plainly
	truth  *pgxpool.Pool // past all
	shots  string        // a sequence of the stage's own
	number int64         // of the stage
	led    string        // application_name of the pool under test
	proxy  *faults.Proxy
	pooler *pooler       // nil if there is none
	pool   *pgcmd.Pool   // by Connect: it counts what it sends
	plain  *pgxpool.Pool // pgx's own: it does not
	untold bool          // a statement that reads is not declared to
	sought []verdict
}

// A verdict is what a run said of an operation, which has to stay true.
type verdict struct {
	id     int64
	what   string
	effect pgcmd.Effect
}

// A setting is how a stage differs from the usual one.
type setting struct {
	pooled  bool              // there is a pooler
	params  map[string]string // of the connections that lead through
	user    string            // who they are; empty for the superuser
	tune    func(*pgxpool.Config)
	foreign string // the URL of the server, if it is not the shared one
}

const plainly = "_plain"

var effectsStages, effectsOps atomic.Int64

// effectsUntold counts the runs of reads that were not declared to be.
var effectsUntold atomic.Int64

func newStage(t *testing.T, database string, set setting) *stage {
	t.Helper()
	if set.foreign != "" {
		database = set.foreign
	}
	s := &stage{T: t, number: effectsStages.Add(1)}
	s.app, s.shots = fmt.Sprintf("stage_%d_%d", os.Getpid(), s.number), fmt.Sprintf("shots_%d", s.number)
	config, err := pgxpool.ParseConfig(database)
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["application_name"] = "truth"
	config.MaxConns = 4
	s.truth, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(s.truth.Close)
	s.exec(`create sequence ` + s.shots)

	server := withParam(database, "application_name", s.app)
	if set.pooled {
		s.pooler = startPooler(t, server)
		t.Cleanup(s.pooler.Close)
		server = s.pooler.URL()
	}
	s.proxy, err = faults.Start(server)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.proxy.Close())
		if t.Failed() {
			log := s.proxy.Log()
			t.Log(strings.Join(log[max(0, len(log)-8):], "\n"))
		}
	})
	tune := func(c *pgxpool.Config) {
		c.MaxConns = 2
		for name, value := range set.params {
			c.ConnConfig.RuntimeParams[name] = value
		}
		if set.tune != nil {
			set.tune(c)
		}
	}
	address, err := url.Parse(s.proxy.URL())
	require.NoError(t, err)
	if set.user != "" {
		address.User = url.User(set.user)
	}
	s.pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: address.String(), Pgx: tune})
	require.NoError(t, err)
	plain, err := pgxpool.ParseConfig(address.String())
	require.NoError(t, err)
	tune(plain)
	plain.ConnConfig.RuntimeParams["application_name"] = s.app + plainly
	s.plain, err = pgxpool.NewWithConfig(t.Context(), plain)
	require.NoError(t, err)
	t.Cleanup(s.end)
	return s
}

// withParam adds a runtime parameter to an address, in either of the forms that pgx takes.
func withParam(address, name, value string) string {
	switch {
	case !strings.Contains(address, "://"):
		return address + " " + name + "='" + value + "'"
	case strings.Contains(address, "?"):
		return address + "&" + name + "=" + url.QueryEscape(value)
	}
	return address + "?" + name + "=" + url.QueryEscape(value)
}

// end closes the pools, and looks at every verdict again when no session is left that could prove it wrong.
func (s *stage) end() {
	s.proxy.Set(nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	assert.NoError(s, s.pool.Close(ctx), "a connection is still held")
	s.plain.Close()
	s.proxy.Heal()
	s.until("no session is left", `select not exists (select from pg_stat_activity where application_name in ($1, $1 || $2))`, s.app, plainly)
	for _, v := range s.sought {
		s.judge(v, "when all sessions had ended")
	}
}

func (s *stage) judge(v verdict, when string) {
	s.Helper()
	n := s.count(v.id)
	switch v.effect {
	case pgcmd.NotApplied:
		assert.Zero(s, n, "%s: false NotApplied, %s", v.what, when)
	case pgcmd.Applied:
		assert.Equal(s, 1, n, "%s: Applied, %s", v.what, when)
	default:
		assert.LessOrEqual(s, n, 1, "%s: Unknown, %s", v.what, when)
	}
}

// patient is a context of the test's own, which no fault ends.
func (s *stage) patient() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
	s.Cleanup(cancel)
	return ctx
}

func (s *stage) exec(sql string, args ...any) {
	s.Helper()
	_, err := s.truth.Exec(s.patient(), sql, args...)
	require.NoError(s, err, sql)
}

// count is how often an operation is in the database. It waits for a server that is restarting.
func (s *stage) count(id int64) (n int) {
	s.Helper()
	ctx := s.patient()
	var err error
	for n = -1; n < 0 && ctx.Err() == nil; {
		if err = s.truth.QueryRow(ctx, `select count(*) from ops where id = $1`, id).Scan(&n); err != nil {
			n = -1
		}
	}
	require.NoError(s, err)
	return n
}

// until waits until a query of the truth is true.
func (s *stage) until(what, sql string, args ...any) {
	s.Helper()
	ctx := s.patient()
	require.Eventually(s, func() (is bool) {
		return s.truth.QueryRow(ctx, sql, args...).Scan(&is) == nil && is
	}, patience, 2*time.Millisecond, what)
}

// session is a connection past the faults, for what others do meanwhile.
func (s *stage) session() *pgxpool.Conn {
	s.Helper()
	conn, err := s.truth.Acquire(s.patient())
	require.NoError(s, err)
	return conn
}

// terminate ends the sessions of the pool under test, by the server's administrator, and waits until they have ended. It
// may be called by any goroutine.
func (s *stage) terminate() {
	// Not by pg_terminate_backend's own wait: it asks the system for the process, whose id may be another's by then.
	ctx := s.patient()
	_, err := s.truth.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1`, s.led)
	assert.NoError(s, err)
	assert.True(s, eventually(func() (gone bool) {
		err := s.truth.QueryRow(ctx, `select not exists (select from pg_stat_activity where application_name = $1)`, s.led).Scan(&gone)
		return err == nil && gone
	}), "a session does not end")
}

// key is the nth advisory lock of the stage.
func (s *stage) key(n int64) int64 { return s.number*10 + n }

// lock is an expression that takes the stage's nth advisory lock for its transaction.
func (s *stage) lock(n int64) string {
	return fmt.Sprintf(`(select 0::int8 from pg_advisory_xact_lock(%d))`, s.key(n))
}
