package pgcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The canaries: one in the input, one in a row, one in the DSN.
const (
	inputCanary = "canary-in-the-input"
	rowCanary   = "canary-in-a-row"
	dsnCanary   = "canary-in-the-dsn"
)

type login struct {
	Name     string `validate:"max=40"`
	Password string `validate:"max=40" secret:"true"`
	Answers  []answer
	Extra    any
}

type answer struct {
	Text string `secret:"true"`
	PIN  int    `secret:"true"`
}

// renderings is every way in which a value of ours could come into a log.
func renderings(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", v)
		fmt.Fprintf(&b, verb+"\n", struct{ V any }{v})
		fmt.Fprintf(&b, verb+"\n", []any{v})
	}
	text, err := json.Marshal(map[string]any{"v": v})
	require.NoError(t, err)
	b.Write(text)
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("x", "v", v)
	}
	encoder := zap.NewProductionEncoderConfig()
	for _, e := range []zapcore.Encoder{zapcore.NewJSONEncoder(encoder), zapcore.NewConsoleEncoder(encoder)} {
		log := zap.New(zapcore.NewCore(e, zapcore.AddSync(&b), zap.DebugLevel))
		log.Info("x", zap.Any("v", v), zap.Reflect("r", v))
		log.Sugar().Infow("x", "v", v)
		if err, ok := v.(error); ok {
			log.Info("x", zap.Error(err))
		}
	}
	return b.String()
}

func assertNoCanary(t *testing.T, what string, v any) {
	t.Helper()
	text := renderings(t, v)
	for _, canary := range []string{inputCanary, rowCanary, dsnCanary, "74205101"} {
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s shows %q: ...%s...", what, canary, text[max(0, at-120):at+len(canary)])
		}
	}
}

func TestNoSecretAndNoValueIsEverShown(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL, `insert into users (email, note) values ('`+rowCanary+`', '`+rowCanary+`')`)
	typed := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"pair"}}, `create type pair as (a text, b int2)`)
	ctx := t.Context()
	in := byEmail{inputCanary}
	secret := login{inputCanary, inputCanary, []answer{{inputCanary, 74205101}}, answer{inputCanary, 74205101}}

	for name, run := range map[string]func() error{
		"a unique violation, whose detail shows the key": func() error {
			return runErr(pgcmd.Exec[byEmail]("x", `insert into users (email) values (@email), (@email)`).Run(ctx, pool, in))
		},
		"a check violation, whose detail shows the row": func() error {
			return runErr(pgcmd.Exec[byEmail]("x", `update users set age = -1, note = @email where email = '`+rowCanary+`'`).Run(ctx, pool, in))
		},
		"a cast on the server, whose message shows the value": func() error {
			return runErr(pgcmd.Exec[byEmail]("x", `select @email::text::int`).Run(ctx, pool, in))
		},
		"a row's value cast on the server": func() error {
			return runErr(pgcmd.Exec[empty]("x", `select note::int from users where note is not null`).Run(ctx, pool, empty{}))
		},
		"an exception of PL/pgSQL": func() error {
			return runErr(pgcmd.Exec[empty]("x", `do $$ begin raise exception 'note %', (select max(note) from users); end $$`).Run(ctx, pool, empty{}))
		},
		"an encoding error": func() error {
			return runErr(pgcmd.Exec[int64]("x", `select $1::int2`).Run(ctx, pool, 74205101))
		},
		"a scan that does not fit": func() error {
			return runErr(pgcmd.QueryOne[empty, int]("x", `select note from users where note is not null`).Run(ctx, pool, empty{}))
		},
		"a struct with too few fields for a composite": func() error {
			type few struct{ A string }
			return runErr(pgcmd.Exec[struct{ P few }]("x", `select @p::pair`).Run(ctx, typed, struct{ P few }{few{inputCanary}}))
		},
		"a value that does not fit its attribute of a composite": func() error {
			type pair struct {
				A string
				B int64
			}
			return runErr(pgcmd.Exec[struct{ P pair }]("x", `select @p::pair`).Run(ctx, typed, struct{ P pair }{pair{inputCanary, 74205101}}))
		},
		"an attribute of a composite that cannot be read": func() error {
			type pair struct {
				A string
				B int16
			}
			return runErr(pgcmd.QueryOne[empty, struct{ P pair }]("x", `select ('`+rowCanary+`', null)::pair as p`).Run(ctx, typed, empty{}))
		},
		"types that the database does not have": func() error {
			cfg := pgcmd.Config{Host: typed.Config().ConnConfig.Host, Port: typed.Config().ConnConfig.Port, Database: typed.Config().ConnConfig.Database,
				User: typed.Config().ConnConfig.User, Password: dsnCanary, AllowInsecure: true, Types: []string{"missing"}}
			_, err := pgcmd.Connect(ctx, cfg)
			return err
		},
		"a refused input": func() error {
			long := secret
			long.Name, long.Password = strings.Repeat(inputCanary, 3), strings.Repeat(inputCanary, 3)
			return accept[login]("x").Validate(long)
		},
		"an error of the body's own, with a value in it": func() error {
			return runErr(pgcmd.New("x", func(context.Context, pgcmd.DB, byEmail) (int, error) {
				return 0, fmt.Errorf("no user %s", in.Email)
			}).Run(ctx, pool, in))
		},
		"an Errorf around an error with a value in it": func() error {
			return runErr(pgcmd.New("x", func(ctx context.Context, db pgcmd.DB, in byEmail) (int, error) {
				_, err := db.Exec(ctx, `insert into users (email) values ($1), ($1)`, in.Email)
				return 0, pgcmd.Errorf(pgcmd.CodeConflict, "creating: %w, %v", err, errors.New(in.Email))
			}).Run(ctx, pool, in))
		},
		"a hook's own error": func() error {
			return runErr(pgcmd.Before(accept[byEmail]("x"), func(context.Context, *byEmail) error { return errors.New(inputCanary) }).Run(ctx, pool, in))
		},
		"an ad hoc query": func() error {
			return runErr(pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select 'x' where '` + inputCanary + `' = 1`}))
		},
		"an ad hoc query with an open string": func() error {
			return runErr(pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select '` + inputCanary}))
		},
		"an ad hoc query with two statements": func() error {
			return runErr(pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select 1; '` + inputCanary + `'`}))
		},
		"an ad hoc query with an open dollar body": func() error {
			return runErr(pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select $$` + inputCanary}))
		},
		"a name that no choice has": func() error {
			return runErr(pgcmd.Exec[byEmail]("x", `select 1 order by /*= @email a: 1 */ 1 /*=*/`).Run(ctx, pool, in))
		},
		"an optional part that the server refuses": func() error {
			return runErr(pgcmd.Exec[optionalEmail]("x", `select 1 /*? + @email::text::int */`).Run(ctx, pool, optionalEmail{&in.Email}))
		},
		"an error of a function that makes the SQL": func() error { return runBuilt(ctx, pool, "", nil, errors.New(inputCanary)) },
		"SQL of a function that is open":            func() error { return runBuilt(ctx, pool, `select '`+inputCanary, nil, nil) },
		"SQL of a function that is two":             func() error { return runBuilt(ctx, pool, `select 1; '`+inputCanary+`'`, nil, nil) },
		"SQL of a function that is refused":         func() error { return runBuilt(ctx, pool, `select '`+inputCanary+`'::int`, nil, nil) },
		"too many arguments of a function":          func() error { return runBuilt(ctx, pool, `select 1`, []any{inputCanary}, nil) },
		"an argument of a function that is no text": func() error { return runBuilt(ctx, pool, `select $1::text`, []any{inputCanary + "\x00"}, nil) },
		"an argument of a function that does not fit": func() error {
			return runBuilt(ctx, pool, `select $1::int`, []any{struct{ A string }{inputCanary}}, nil)
		},
		"a name that a function's arguments lack": func() error {
			return runBuilt(ctx, pool, `select @a`, []any{pgx.StrictNamedArgs{"b": inputCanary}}, nil)
		},
		"a DSN with a password": func() error {
			config, err := pgxpool.ParseConfig("postgres://nobody:" + dsnCanary + "@127.0.0.1:1/" + dsnCanary)
			require.NoError(t, err)
			nowhere, err := pgxpool.NewWithConfig(ctx, config)
			require.NoError(t, err)
			defer nowhere.Close()
			return runErr(pgcmd.Exec[empty]("x", `select 1`).Run(ctx, nowhere, empty{}))
		},
		"a DSN that cannot be parsed, in a body": func() error {
			return runErr(pgcmd.New("x", func(ctx context.Context, _ pgcmd.DB, _ empty) (int, error) {
				_, err := pgxpool.ParseConfig("host=x password=" + dsnCanary + " " + dsnCanary)
				return 0, err
			}).Run(ctx, pool, empty{}))
		},
	} {
		err := run()
		e := failure(t, err)
		assertNoCanary(t, name, err)
		assertNoCanary(t, name, e.Problems)
		assertNoCanary(t, name+", as an outcome", pgcmd.Outcome[login]{Err: err})
	}

	assertNoCanary(t, "an outcome", pgcmd.Outcome[any]{Value: login{Name: "ada", Password: inputCanary, Answers: secret.Answers, Extra: &secret.Answers[0]}})
	assertNoCanary(t, "an outcome of many", pgcmd.Outcome[map[string][]*answer]{Value: map[string][]*answer{"a": {&secret.Answers[0]}}})
	assertNoCanary(t, "an outcome made by hand", pgcmd.Outcome[int]{Err: errors.New(inputCanary)})
	assertNoCanary(t, "a call", &pgcmd.Call{Command: "x", Input: secret})
	assertNoCanary(t, "a call", pgcmd.Call{Command: "x", Input: in})
	assert.Equal(t, inputCanary, secret.Answers[0].Text, "hiding works on a copy")
	assertNoCanary(t, "a command", accept[login]("x"))
}

type optionalEmail struct{ Email *string }

// runBuilt runs SQL of a function that returns these values.
func runBuilt(ctx context.Context, db pgcmd.DB, sql string, args []any, err error) error {
	return runErr(pgcmd.ExecFunc[empty]("x", func(empty) (string, []any, error) { return sql, args, err }).Run(ctx, db, empty{}))
}

// runErr drops an output.
func runErr[Out any](_ Out, err error) error { return err }

func TestOutcomesAsJSON(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	find := pgcmd.QueryOne[byEmail, user]("users.find", `select id, email, age from users where email = @email`)

	good := pgcmd.Try(t.Context(), pool, find, byEmail{"ada@example.com"})
	assert.True(t, good.OK())
	assert.Positive(t, good.Elapsed)
	good.Elapsed = 1200_000
	text, err := json.Marshal(good)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true,"value":{"ID":1,"Email":"ada@example.com","Age":36},"attempts":1,"elapsed_ms":1.2}`, string(text))
	v, err := good.Get()
	assert.NoError(t, err)
	assert.Equal(t, 36, v.Age)

	bad := pgcmd.Try(t.Context(), pool, find, byEmail{"nobody"})
	assert.False(t, bad.OK())
	text, err = json.Marshal(bad)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":false,"error":{"code":"not_found","effect":"not_applied","command":"users.find","message":"no row was found","attempts":1}}`, string(text))

	refused := pgcmd.Try(t.Context(), pool, accept[signup]("users.signup"), signup{Email: "ada@example.com", Age: 36})
	text, err = json.Marshal(refused)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":false,"error":{"code":"invalid","effect":"not_applied","command":"users.signup","message":"the input was refused","attempts":0,
		"problems":[{"field":"Password","rule":"min","message":"Password must be at least 8 characters in length"}]}}`, string(text))

	type token struct {
		Name  string
		Value string `secret:"true"`
	}
	text, err = json.Marshal(pgcmd.Outcome[token]{Value: token{"a", "b"}, Attempts: 1})
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true,"value":{"Name":"a","Value":"[secret]"},"attempts":1,"elapsed_ms":0}`, string(text))
}
