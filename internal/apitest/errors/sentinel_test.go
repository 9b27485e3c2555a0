package errors_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var (
	errFunds     = errors.New("insufficient funds")
	errFormatted = errors.New("for " + os.Getenv("PATH"))
	errLater     error
)

type ownError struct{ text string }

func (e *ownError) Error() string { return e.text }

var errOwn = &ownError{"a text of its own type"}

func TestTheTextOfAPackageLevelErrorIsShown(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	value := strings.Repeat("canary", 1+len(t.Name())%2)
	errLater = errors.New("for " + value)
	parts := strings.Split("insufficient funds", " ")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"itself":                    {errFunds, "insufficient funds"},
		"wrapped":                   {fmt.Errorf("user %s: %w", value, errFunds), "insufficient funds"},
		"joined":                    {errors.Join(errors.New(value), errFunds), "insufficient funds"},
		"with a value":              {errors.New(value), ""},
		"with a part of a constant": {errors.New(parts[0]), ""},
		"made in the body":          {errors.New("insufficient funds"), ""},
		"formatted at the start":    {errFormatted, ""},
		"set while it runs":         {errLater, ""},
		"of fmt":                    {fmt.Errorf("for %s", value), ""},
		"of a type of its own":      {errOwn, ""},
		"without a text":            {errors.New(""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 3 { // the same error comes again and again
				for _, run := range []func() error{
					func() error {
						_, err := pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, c.err }).Run(t.Context(), pool, 1)
						return err
					},
					func() error {
						_, err := pgcmd.Transaction("x", func(context.Context, *pgcmd.Tx, int) (int, error) { return 0, c.err }).Run(t.Context(), pool, 1)
						return err
					},
					func() error {
						r, _ := pgcmd.Batch(pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, c.err }), pgcmd.Independent).Run(t.Context(), pool, []int{1})
						return r.Outcomes[0].Err
					},
					func() error {
						inner := pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, c.err })
						_, err := pgcmd.New("y", func(ctx context.Context, db pgcmd.DB, n int) (int, error) { return inner.Run(ctx, db, n) }).Run(t.Context(), pool, 1)
						return err
					},
				} {
					err := run()
					var e *pgcmd.Error
					require.ErrorAs(t, err, &e)
					assert.ErrorIs(t, err, c.err)
					assert.Equal(t, pgcmd.CodeFailed, e.Code)
					if c.want != "" {
						assert.Equal(t, c.want, e.Message)
						continue
					}
					assert.Contains(t, e.Message, "its text is withheld")
					assert.NotContains(t, err.Error(), value)
					assert.NotContains(t, err.Error(), os.Getenv("PATH"))
				}
				_, err := pgcmd.Before(command, func(context.Context, *int) error { return c.err }).Run(t.Context(), pool, 1)
				assert.ErrorContains(t, err, "a Before hook failed with")
				wrapped := pgcmd.Errorf(pgcmd.CodeConflict, "paying: %w", c.err).Error()
				if c.want != "" {
					assert.Contains(t, wrapped, "paying: "+c.want)
				} else {
					assert.NotContains(t, wrapped, value)
				}
			}
		})
	}
}
