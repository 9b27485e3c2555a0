package reliability_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// deadline is for what a machine under load does late. No test passes by it.
const deadline = 30 * time.Second

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
	while not exists (select from pg_locks where locktype = 'advisory' and objid = a and not granted) loop
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
	read   column = "R"           // a ReadOnly statement on the pool
	write  column = "W"           // a statement that commits by itself
	inTx   column = "T"           // a transaction, before COMMIT was sent
	rawTx  column = "T by pgx"    // the same, by pgx's own calls on the Tx
	commit column = "C"           // COMMIT was sent
	atSync column = "W, deferred" // a statement that fails when it commits, after its row count
)

// letter finds a column in a row of the table, which is written "R W T C".
func (c column) letter(row string) string {
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

func newStage(t *testing.T, database string, set setting) *stage {
	t.Helper()
	if set.foreign != "" {
		database = set.foreign
	}
	s := &stage{T: t, number: effectsStages.Add(1)}
	s.app, s.shots = fmt.Sprintf("stage_%d", s.number), fmt.Sprintf("shots_%d", s.number)
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
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), deadline)
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
	}, deadline, 2*time.Millisecond, what)
}

// session is a connection past the faults, for what others do meanwhile.
func (s *stage) session() *pgxpool.Conn {
	s.Helper()
	conn, err := s.truth.Acquire(s.patient())
	require.NoError(s, err)
	return conn
}

// terminate ends the sessions of the pool under test, by the server's administrator, and waits until they have ended.
func (s *stage) terminate() {
	s.exec(`select pg_terminate_backend(pid, 20000) from pg_stat_activity where application_name = $1`, s.led)
}

// A play is one command that is to go wrong, and how.
type play struct {
	cmd  *pgcmd.Command[int64, int64]
	arm  func(pool *pgxpool.Pool, id int64) // lets the next attempt go wrong; nil if the command's SQL does
	mend func()                             // between the attempts; nil if nothing is to be mended
	ctx  func(context.Context) (context.Context, context.CancelFunc)
	also func() // after the run
}

// A condition is a row of the table, provoked in one way.
type condition struct {
	row     int
	how     string
	columns []column // in which it is provoked like this
	state   string   // the SQLSTATE; empty if the server says nothing
	code    pgcmd.Code
	cause   func(error) bool // beside the server's word
	letters string           // where they are not the row's: "R W T C"
	truth   map[column]int   // of what is Unknown; without an entry either
	lasting bool             // the next attempt goes wrong too
	down    bool             // the truth cannot be asked before it is mended
	once    bool             // one run on the pool is enough: it is slow
	set     setting
	play    func(s *stage, c column) play
}

// column runs a condition in one column: on the pool, as it is and with retries, and on a plain one.
func (k condition) column(s *stage, c column, letters string) {
	letter := c.letter(letters)
	require.NotEqual(s, "-", letter, "the table has no entry")
	if !k.once {
		k.run(s, c, letter, s.pool, s.pool.Pool, 1)
		k.run(s, c, letter, s.plain, s.plain, 3)
	}
	k.run(s, c, letter, s.pool, s.pool.Pool, 3)
}

func (k condition) run(s *stage, c column, letter string, db pgcmd.DB, pool *pgxpool.Pool, attempts int) {
	s.Helper()
	what := fmt.Sprintf("row %d, %s, %s, %d attempts on a %T", k.row, k.how, c, attempts, db)
	counted := db == pgcmd.DB(s.pool)
	s.led = s.app
	if !counted {
		s.led += plainly
	}
	id := int64(0x5eed_0000_0000) + effectsOps.Add(1)
	p := k.play(s, c)

	var first error // of the attempts
	cmd := p.cmd
	if attempts > 1 {
		cmd = cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: attempts, Delay: time.Microsecond, If: func(err error) bool {
			if first == nil {
				first = err
			}
			if c != read && !k.down {
				assert.Zero(s, s.count(id), "%s: false NotApplied, before it is tried again", what)
			}
			if p.mend != nil {
				p.mend()
			}
			return true
		}}})
	}
	s.exec(`select setval($1, 1, false)`, s.shots)
	if p.arm != nil {
		p.arm(pool, id)
	}
	ctx, cancel := s.patient(), context.CancelFunc(func() {})
	if attempts == 1 {
		ctx = s.Context() // without a deadline, which would travel with BEGIN
	}
	if p.ctx != nil {
		ctx, cancel = p.ctx(ctx)
	}
	defer cancel()
	out := cmd.Try(ctx, db, id)
	s.proxy.Set(nil)
	if p.also != nil {
		p.also()
	}
	if first == nil {
		first = out.Err
	}
	s.sought = append(s.sought, verdict{id, what, pgcmd.EffectOf(out.Err)})
	if c == read {
		s.sought[len(s.sought)-1].effect = pgcmd.NotApplied // it has no row
	}
	s.judge(s.sought[len(s.sought)-1], "at once")
	assert.Zero(s, pool.Stat().AcquiredConns(), what)

	again := letter == "Y" || letter == "1"
	wantAttempts := 1
	switch {
	case again && !k.lasting:
		wantAttempts = min(2, attempts)
	case letter == "Y":
		wantAttempts = attempts
	case letter == "1":
		wantAttempts = min(2, attempts)
	}
	if !assert.Error(s, first, what) {
		return
	}
	e, ok := errors.AsType[*pgcmd.Error](first)
	require.True(s, ok, what)
	if !counted {
		// More cautious it may be, and wrong never.
		assert.LessOrEqual(s, out.Attempts, wantAttempts, what)
		assert.Contains(s, []pgcmd.Effect{pgcmd.Unknown, k.effect(letter)}, e.Effect, what)
		k.checkCause(s, e, what)
		return
	}
	assert.Equal(s, wantAttempts, out.Attempts, "%s: attempts; %v", what, out.Err)
	if attempts > 1 && again && !k.lasting {
		assert.NoError(s, out.Err, what)
	} else {
		assert.Error(s, out.Err, what)
	}
	assert.Equal(s, k.effect(letter).String(), e.Effect.String(), "%s: %v", what, e)
	assert.Equal(s, again, pgcmd.Retryable(first), "%s: Retryable(%v)", what, e)
	want := k.code
	switch {
	case letter != "U" && want == pgcmd.CodeUnknownEffect:
		want = pgcmd.CodeUnavailable
	case letter == "U" && want == pgcmd.CodeUnavailable:
		want = pgcmd.CodeUnknownEffect
	}
	assert.Equal(s, want, e.Code, "%s: %v", what, e)
	assert.Equal(s, k.state, e.SQLState, "%s: %v", what, e)
	k.checkCause(s, e, what)
	if n, ok := k.truth[c]; ok && letter == "U" {
		require.Eventually(s, func() bool { return s.count(id) == n }, deadline, 2*time.Millisecond, "%s: what is Unknown is there %d times", what, n)
	}
}

func (k condition) effect(letter string) pgcmd.Effect {
	switch letter {
	case "U":
		return pgcmd.Unknown
	case "A":
		return pgcmd.Applied
	}
	return pgcmd.NotApplied
}

func (k condition) checkCause(s *stage, e *pgcmd.Error, what string) {
	if k.state != "" {
		pgErr, ok := errors.AsType[*pgconn.PgError](error(e))
		if assert.True(s, ok, "%s: the server's error is out of reach of %v", what, e) {
			assert.Equal(s, k.state, pgErr.Code, what)
		}
	}
	if k.cause != nil {
		assert.True(s, k.cause(e), "%s: the cause is out of reach of %v: %#v", what, e, e.Err)
	}
	if k.state == "" && k.cause == nil {
		assert.NotNil(s, e.Err, what)
	}
}

// command makes the command of a column, in which hit is the statement that goes wrong. It is given the operation's
// id; in a transaction its negative, since a statement before it inserts the operation.
func (s *stage) command(c column, hit string) *pgcmd.Command[int64, int64] {
	switch c {
	case read:
		return pgcmd.QueryOne[int64, int64]("ops.read", hit).With(pgcmd.Options{ReadOnly: true})
	case write, atSync:
		return pgcmd.Exec[int64]("ops.write", hit)
	case rawTx:
		return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if _, err := tx.Exec(ctx, insertOp, id); err != nil {
				return err
			}
			var n int64
			return tx.QueryRow(ctx, hit, -id).Scan(&n)
		})
	}
	insert := pgcmd.Exec[int64]("ops.insert", insertOp)
	if hit == "" {
		return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			_, err := insert.Run(ctx, tx, id)
			return err
		})
	}
	act := pgcmd.Exec[int64]("ops.act", hit)
	return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := insert.Run(ctx, tx, id); err != nil {
			return err
		}
		_, err := act.Run(ctx, tx, -id)
		return err
	})
}

// body is a transaction with a body of the test's own.
func (s *stage) body(body func(ctx context.Context, tx *pgcmd.Tx, id int64) error) *pgcmd.Command[int64, int64] {
	return pgcmd.Transaction("ops.tx", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		return 1, body(ctx, tx, id)
	})
}

// healthy is the command of a column that works, unless something is done to it.
func (s *stage) healthy(c column) *pgcmd.Command[int64, int64] {
	switch c {
	case write:
		return s.command(c, insertOp)
	case commit:
		return s.command(c, "")
	}
	return s.command(c, `select $1::int8`)
}

// evaluate is the command of a column in which PostgreSQL evaluates an expression, of type int8: at COMMIT, where the
// column says so.
func (s *stage) evaluate(c column, expression string) *pgcmd.Command[int64, int64] {
	act := "'select " + strings.ReplaceAll(expression, "'", "''") + "'"
	switch c {
	case write:
		return s.command(c, `insert into ops select $1::int8 + 0 * `+expression)
	case atSync:
		return s.command(c, `with op as (insert into ops values ($1)) insert into later values ($1, `+act+`)`)
	case commit:
		return s.command(c, `insert into later values ($1, `+act+`)`)
	}
	return s.command(c, `select $1::int8 + 0 * `+expression)
}

// marker is how the statement that goes wrong is known on the wire: by the operation's id, or by being COMMIT.
func (c column) marker(id int64) []byte {
	switch c {
	case commit:
		return []byte("commit\x00")
	case inTx, rawTx:
		id = -id
	}
	return binary.BigEndian.AppendUint64(nil, uint64(id))
}

// What of an exchange is hit.
type moment int

const (
	request moment = iota // the first message: nothing of it gets through
	sent                  // the last message of the request
	answer                // the message that ends the answer: the work is done
)

// at lets an action happen to the statement that goes wrong.
func (s *stage) at(c column, id int64, when moment, action faults.Action) {
	marker := c.marker(id)
	first := &faults.Fault{Action: action, Match: func(typ byte, body []byte) bool {
		return (typ == 'Q') == (c == commit) && (typ == 'B' || typ == 'Q') && strings.Contains(string(body), string(marker))
	}}
	then := &faults.Fault{Action: action}
	switch {
	case when == answer:
		then.Direction = faults.Backend
		then.Match = func(typ byte, _ []byte) bool { return typ == 'Z' }
	case when == sent && c != commit:
		then.Match = func(typ byte, _ []byte) bool { return typ == 'S' }
	default:
		s.proxy.Set(first)
		return
	}
	first.Action = faults.Call(func() { s.proxy.Set(then) })
	s.proxy.Set(first)
}

// hit is a play in which an action happens to a command that would work.
func hit(when moment, action func(s *stage) faults.Action) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.healthy(c), arm: func(_ *pgxpool.Pool, id int64) { s.at(c, id, when, action(s)) }}
	}
}

// does is hit for an action that needs no stage.
func does(when moment, action faults.Action) func(s *stage, c column) play {
	return hit(when, func(*stage) faults.Action { return action })
}

// calls is hit for what happens elsewhere, which may take longer than the run: the next waits for it.
func calls(when moment, f func(s *stage)) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		var under sync.Mutex
		wait := func() {
			under.Lock()
			defer under.Unlock()
		}
		p := hit(when, func(s *stage) faults.Action {
			return faults.Call(func() {
				under.Lock()
				defer under.Unlock()
				f(s)
			})
		})(s, c)
		p.mend, p.also = wait, wait
		return p
	}
}

// raises is a play in which the server fails with an ERROR of this state.
func raises(state string) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.evaluate(c, fmt.Sprintf("fail('%s', '%s')", s.shots, state))}
	}
}

// expression is a play in which the server fails to evaluate something.
func expression(sql string) func(s *stage, c column) play {
	return func(s *stage, c column) play { return play{cmd: s.evaluate(c, sql)} }
}

// says is a play in which a pooler plays a trick.
func says(t trick) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.healthy(c), arm: func(_ *pgxpool.Pool, id int64) {
			t := t
			t.marker = c.marker(id)
			s.pooler.Play(&t)
		}}
	}
}

// unconnected completes a condition in which no connection can be made, since spoil has changed where it leads,
// until that is mended.
func unconnected(k condition, spoil func(*pgx.ConnConfig)) condition {
	var broken atomic.Bool
	k.columns = []column{read, write, inTx}
	k.set.tune = func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if broken.Load() {
				spoil(config)
			}
			return nil
		}
	}
	k.play = func(s *stage, c column) play {
		return play{
			cmd:  s.healthy(c),
			arm:  func(pool *pgxpool.Pool, _ int64) { broken.Store(true); pool.Reset() },
			mend: func() { broken.Store(k.lasting) },
			also: func() { broken.Store(false) },
		}
	}
	return k
}

func isContext(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

func isConnect(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// key is the nth advisory lock of the stage.
func (s *stage) key(n int64) int64 { return s.number*10 + n }

// lock is an expression that takes the stage's nth advisory lock for its transaction.
func (s *stage) lock(n int64) string {
	return fmt.Sprintf(`(select 0::int8 from pg_advisory_xact_lock(%d))`, s.key(n))
}
