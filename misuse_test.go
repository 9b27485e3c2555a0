package pgcmd_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type explosive struct{}

func (explosive) Value() (driver.Value, error) { panic("in Value") }

func TestAPanicWhileEncodingGivesTheConnectionBack(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 2)
	cmd := pgcmd.Exec[struct{ V explosive }]("x", `select @v::text`)
	for _, cmd := range []*pgcmd.Command[struct{ V explosive }, int64]{cmd, cmd.With(pgcmd.Options{InTx: true})} {
		assert.Equal(t, "in Value", panics(t, func() { _, _ = cmd.Run(t.Context(), pool, struct{ V explosive }{}) }))
		idle(t, pool.Pool)
	}
}

func TestAMiddlewareThatRecoversHasNoSuccess(t *testing.T) {
	t.Parallel()
	for _, recovered := range []error{nil, errHook} {
		cmd := pgcmd.Before(accept[empty]("x"), func(context.Context, *empty) error { panic("in Before") }).With(pgcmd.Options{
			Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
				return func(ctx context.Context, call *pgcmd.Call) (err error) {
					defer func() { _ = recover(); err = recovered }()
					return next(ctx, call)
				}
			}}})
		out, err := cmd.Run(t.Context(), unusedDB{}, empty{})
		assert.Equal(t, pgcmd.Unknown, failure(t, err).Effect)
		assert.Zero(t, out)
	}
	assert.Contains(t, panics(t, func() {
		accept[empty]("x").With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(pgcmd.Handler) pgcmd.Handler { return nil }}})
	}), "pgcmd: x: Options.Middleware[0] returned a nil Handler")
}

func TestAnErrorByValueShowsNoMore(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	_, err := pgcmd.Exec[byEmail]("x", `select @email::text::int`).Run(t.Context(), pool, byEmail{inputCanary})
	assertNoCanary(t, "an Error by value", *failure(t, err))
	assertNoCanary(t, "an Error by value in a struct", struct{ E pgcmd.Error }{*failure(t, err)})
}

type (
	tree  map[string]tree
	creds struct {
		Token string `secret:"true"`
	}
	holder struct {
		*creds
		Name string
	}
	checkedByPointer struct{ N int }
	treeInput        struct{ T tree }
)

func (c *checkedByPointer) Validate() error {
	if c.N == 0 {
		return errors.New("N is zero")
	}
	return nil
}

func TestOddTypes(t *testing.T) {
	t.Parallel()
	assert.NoError(t, accept[treeInput]("x").Validate(treeInput{}), "a type that holds itself")
	assert.NotEmpty(t, fmt.Sprint(pgcmd.Outcome[tree]{Value: tree{"a": tree{}}}))
	text, err := json.Marshal(pgcmd.Outcome[holder]{Value: holder{&creds{inputCanary}, "a"}})
	require.NoError(t, err)
	assert.NotContains(t, string(text), inputCanary, "promoted from an unexported pointer")
	assert.Contains(t, accept[*checkedByPointer]("x").Validate(&checkedByPointer{}).Error(), "N is zero")
	assert.Contains(t, accept[*checkedByPointer]("x").Validate(nil).Error(), "nil")
	type keyed struct {
		M map[string]int `validate:"dive,gt=0"`
	}
	assertNoCanary(t, "the key of a map", accept[keyed]("x").Validate(keyed{map[string]int{inputCanary: 0}}))
}

func TestANilErrorOfOursIsNoPanic(t *testing.T) {
	t.Parallel()
	var none *pgcmd.Error
	assert.Equal(t, pgcmd.CodeFailed, pgcmd.CodeOf(none))
	assert.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(none))
	_, err := pgcmd.New("x", func(context.Context, pgcmd.DB, empty) (int, error) { return 1, none }).Run(t.Context(), unusedDB{}, empty{})
	assert.Equal(t, pgcmd.CodeFailed, failure(t, err).Code)
}

func TestAnArgumentIsNoOptionOfPgx(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	_, err := pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `select @a::text`, Args: map[string]any{"a": pgx.QueryExecModeSimpleProtocol}})
	assert.Equal(t, pgcmd.CodeInvalid, failure(t, err).Code)
}

func TestErrorfKeepsWhatTheCalleeSaid(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	insert := pgcmd.Exec[byEmail]("users.create", `insert into users (email) values (@email)`)
	_, err := pgcmd.New("outer", func(ctx context.Context, db pgcmd.DB, in byEmail) (int, error) {
		_, err := insert.Run(ctx, db, in)
		return 0, pgcmd.Errorf(pgcmd.CodeConflict, "signing up: %w", err)
	}).With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": errEmailTaken}}).Run(t.Context(), pool, byEmail{"ada@example.com"})
	assert.ErrorIs(t, err, errEmailTaken)
	assert.Equal(t, "outer > users.create", failure(t, err).Command)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = pgcmd.New("x", func(context.Context, pgcmd.DB, empty) (int, error) { return 0, errHook }).Run(ctx, pool, empty{})
	assert.Equal(t, pgcmd.CodeFailed, pgcmd.CodeOf(err), "the body's own error is its own, whatever the context")
}

// The memory of a run is used again, also after a run whose argument was refused before or while it was encoded.
func TestARunAfterAnArgumentThatWasRefused(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	type in struct {
		Name string
		At   fickle
	}
	find := pgcmd.QueryOne[in, string]("fickle.find", `select @name::text || @at::int8`)
	inTx := pgcmd.Transaction("fickle.tx", func(ctx context.Context, tx *pgcmd.Tx, in in) (string, error) { return find.Run(ctx, tx, in) })
	for _, cmd := range []*pgcmd.Command[in, string]{find, inTx} {
		for range 3 {
			for _, refused := range []in{{"a\x00b", 7}, {"ab", -1}} {
				got, err := cmd.Run(t.Context(), pool, in{"ab", 7})
				require.NoError(t, err)
				assert.Equal(t, "ab7", got)
				_, err = cmd.Run(t.Context(), pool, refused)
				e := failure(t, err)
				assert.Equal(t, pgcmd.CodeInvalid, e.Code)
				assert.Equal(t, pgcmd.NotApplied, e.Effect)
			}
		}
	}
}

// A fickle refuses what is negative.
type fickle int64

func (f fickle) Value() (driver.Value, error) {
	if f < 0 {
		return nil, errors.New("negative")
	}
	return int64(f), nil
}
