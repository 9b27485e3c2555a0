package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd"
)

type (
	withUnexported struct {
		Email string
		//lint:ignore U1000 it is there to be named
		secret string
	}
	withChannel struct{ Done chan int }
	embedsUser  struct{ user }
	empty       struct{}
	unknownRule struct {
		Email string `validate:"emial"`
	}
	twins struct {
		UserID  int
		User_ID int
	}
	otherEmail struct{ Email string }
	twoEmails  struct {
		byEmail
		otherEmail
	}
)

func TestMistakesInADefinitionPanicAndNameTheCommandAndTheFix(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, pgcmd.DB, empty) (int, error) { return 0, nil }
	query := func(sql string) func() { return func() { pgcmd.Query[byEmail, user]("users.find", sql) } }
	with := func(o pgcmd.Options) func() {
		return func() { pgcmd.Exec[empty]("users.clear", `delete from users`).With(o) }
	}
	for name, c := range map[string]struct {
		define func()
		want   string
	}{
		"an empty name":                {func() { pgcmd.New("", nothing) }, `a command needs a name, such as "users.find"`},
		"an empty name of a query":     {func() { pgcmd.Query[empty, user]("", `select 1`) }, `a command needs a name`},
		"a name with a space":          {func() { pgcmd.New("find user", nothing) }, `"find user" holds ' '`},
		"a name that is not UTF-8":     {func() { pgcmd.New("\xff", nothing) }, `not valid UTF-8`},
		"a nil body":                   {func() { pgcmd.New[empty, int]("x", nil) }, `pgcmd: x: the body is nil`},
		"an unknown placeholder":       {query(`select 1 where email = @emial`), `pgcmd: users.find: SQL names @emial, byEmail has no such field (has: email)`},
		"an unexported field":          {func() { pgcmd.Exec[withUnexported]("x", `select @secret`) }, `field withUnexported.secret is unexported: export it`},
		"a field of unsupported type":  {func() { pgcmd.Exec[withChannel]("x", `select @done`) }, `field withChannel.Done cannot be a parameter: chan int has no PostgreSQL type`},
		"a struct without fields":      {func() { pgcmd.Exec[empty]("x", `select @a`) }, `SQL names @a, empty has no such field (has: no exported fields)`},
		"a row without fields":         {func() { pgcmd.Query[empty, empty]("x", `select 1`) }, `has no exported fields`},
		"a row of unsupported type":    {func() { pgcmd.Query[empty, withChannel]("x", `select 1`) }, `withChannel.Done cannot hold a column`},
		"a row that is a function":     {func() { pgcmd.Query[empty, func()]("x", `select 1`) }, `the row type func() cannot hold a column`},
		"a row that is a pointer":      {func() { pgcmd.Query[empty, *user]("x", `select 1`) }, `the row type is *pgcmd_test.user: use pgcmd_test.user`},
		"two fields for one column":    {func() { pgcmd.Query[empty, twins]("x", `select 1`) }, `fields UserID and User_ID of pgcmd_test.twins take the same column`},
		"two fields for one name":      {func() { pgcmd.Exec[twins]("x", `select @user_id::text`) }, `SQL names @user_id, which is UserID and User_ID of twins: give one of them another tag`},
		"two embedded fields":          {func() { pgcmd.Exec[twoEmails]("x", `select @email::text`) }, `SQL names @email, which is byEmail.Email and otherEmail.Email of twoEmails: give one of them another tag`},
		"an input that is a pointer":   {func() { pgcmd.Exec[*byEmail]("x", `select @email`) }, `the input type is *pgcmd_test.byEmail: use pgcmd_test.byEmail`},
		"an input that is a map":       {func() { pgcmd.Exec[map[string]any]("x", `select @email`) }, `cannot be a parameter`},
		"a number for a struct":        {query(`select $1`), `SQL names $1, but the input is the struct byEmail: name its fields, as in @email`},
		"a name for a scalar":          {func() { pgcmd.Exec[int]("x", `select @id`) }, `SQL names @id, but the input is one int, which it must name $1`},
		"a scalar that is not named":   {func() { pgcmd.Exec[int]("x", `select 1`) }, `the SQL must name $1 and no other parameter: it names none`},
		"a second scalar":              {func() { pgcmd.Exec[int]("x", `select $1, $2`) }, `it names $2`},
		"empty SQL":                    {query(` -- nothing`), `pgcmd: users.find: the SQL is empty`},
		"two statements":               {query(`select 1; select 2`), `one command is one statement`},
		"an open string":               {query(`select 'x`), `is never closed`},
		"a NUL byte in the SQL":        {query("select \x00"), `NUL byte`},
		"SQL that is not UTF-8":        {query("select '\xff'"), `not UTF-8`},
		"an ambiguous operator":        {query(`select 1 where 2 <@email`), `reads two ways`},
		"65,536 parameters":            {query(many(65_536)), `65535`},
		"an unknown rule":              {func() { pgcmd.Exec[unknownRule]("x", `select @email`) }, `pgcmd: x: a validate tag of pgcmd_test.unknownRule.Email is wrong: `},
		"negative MaxRows":             {with(pgcmd.Options{MaxRows: -1}), `pgcmd: users.clear: Options.MaxRows is -1`},
		"ReadOnly on a write":          {with(pgcmd.Options{ReadOnly: true}), `pgcmd: users.clear: Options.ReadOnly, but the SQL is plainly a write`},
		"a nil middleware":             {with(pgcmd.Options{Middleware: []pgcmd.Middleware{nil}}), `Options.Middleware[0] is nil`},
		"a constraint without a name":  {with(pgcmd.Options{OnConstraint: map[string]error{"": errors.New("x")}}), `OnConstraint maps ""`},
		"a constraint without meaning": {with(pgcmd.Options{OnConstraint: map[string]error{"k": nil}}), `OnConstraint maps "k"`},
		"a nil hook":                   {func() { pgcmd.Before(pgcmd.New("x", nothing), nil) }, `pgcmd: x: Before was given a nil function`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, panics(t, c.define), c.want)
		})
	}
}

func many(n int) string {
	var b strings.Builder
	b.WriteString("select 1")
	for i := range n {
		fmt.Fprintf(&b, ", @p%d", i)
	}
	return b.String()
}

func TestACommandNeverChangesOnceMade(t *testing.T) {
	t.Parallel()
	calls := ""
	note := func(s string) func(context.Context, *empty) error {
		return func(context.Context, *empty) error { calls += s; return nil }
	}
	base := pgcmd.Before(pgcmd.New("x", func(context.Context, pgcmd.DB, empty) (int, error) { return 1, nil }), note("a"))
	b, c := pgcmd.Before(base, note("b")), pgcmd.Before(base, note("c"))
	slow := base.With(pgcmd.Options{Timeout: time.Hour})
	for _, x := range []*pgcmd.Command[empty, int]{base, b, c, slow} {
		calls += " "
		_, err := x.Run(t.Context(), unusedDB{}, empty{})
		assert.NoError(t, err)
	}
	assert.Equal(t, " a ab ac a", calls)
	assert.Equal(t, "x", fmt.Sprintf("%+v", slow))
	assert.Equal(t, "x", slow.Name())
}

// unusedDB is a DB for bodies that do not touch it.
type unusedDB struct{ pgcmd.DB }

var _ = embedsUser{}
